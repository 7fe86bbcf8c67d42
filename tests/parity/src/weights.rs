//! Synthetic weights anyone can make again, from a manifest and a seed.
//!
//! Every element is a hash of its tensor's name, its index and the seed, so no random generator has to be matched. The
//! recipe is the reference data's own; the numbers here are its constants.

use crate::Bundle;
use adaptmedseg_engine::{BurnEngine, Engine, EngineOptions, ModelSource, Precision};
use adaptmedseg_model::checkpoint;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::{Device, RawTensor, SegVol};
use adaptmedseg_segment::{Description, Model};
use burn::tensor::DType;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Uniform in `[0, 1)`, a multiple of 2^-24.
fn draw(key: u64, index: u64) -> f64 {
    let mut z = key.wrapping_add((index + 1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 24)
}

/// Number `index` of the stream called `name`, uniform in `[0, 1)`.
pub fn uniform(name: &str, seed: u64, index: u64) -> f64 {
    draw(fnv1a64(name) ^ seed.wrapping_mul(GOLDEN), index)
}

fn values(entry: &Value, seed: u64) -> Vec<f32> {
    let name = entry["name"].as_str().expect("name");
    let shape = shape(entry);
    let count: usize = shape.iter().product();
    let kind = entry["kind"].as_str().expect("kind");
    let gain = entry["gain"].as_f64().unwrap_or(1.0);
    let offset = entry["offset"].as_f64().unwrap_or(0.0);
    let key = fnv1a64(name) ^ seed.wrapping_mul(GOLDEN);
    let amplitude = match kind {
        "weight" => (3.0 / entry["fan_in"].as_f64().expect("fan_in")).sqrt() * gain,
        "bias" => 0.02 * gain,
        "norm_weight" => 0.1 * gain,
        "embedding" => 0.5 * gain,
        "gaussian" => 3f64.sqrt() * gain,
        "spatial_bias" => 0.02,
        other => panic!("{name}: unknown kind {other}"),
    };
    let value = |index: usize| {
        let at = |index: u64| draw(key, index);
        let index64 = index as u64;
        let unit = if kind == "gaussian" {
            ((at(4 * index64) + at(4 * index64 + 1)) + (at(4 * index64 + 2) + at(4 * index64 + 3))) - 2.0
        } else {
            2.0 * at(index64) - 1.0
        };
        let offset = if kind == "spatial_bias" { box_ramp(&shape, index, gain) } else { offset };
        (offset + unit * amplitude) as f32
    };
    (0..count).map(value).collect()
}

/// The box-shaped field of the up-scaling norm's bias, which gives synthetic masks a coherent shape.
fn box_ramp(shape: &[usize], index: usize, gain: f64) -> f64 {
    let [depth, height, width] = [shape[1], shape[2], shape[3]];
    let (k, j, i) = (index / (height * width) % depth, index / width % height, index % width);
    let square = |k: usize, size: usize, centre: f64| {
        let t = (2.0 * k as f64 + 1.0 - size as f64) / size as f64 - centre;
        t * t
    };
    let q = square(k, depth, 0.25).max(square(j, height, -0.125)).max(square(i, width, 0.125));
    gain * (0.5 - q)
}

/// A tensor of a recipe: its sizes and its elements.
pub fn recipe_tensor(entry: &Value, seed: u64) -> (Vec<usize>, Vec<f32>) {
    (shape(entry), values(entry, seed))
}

fn shape(entry: &Value) -> Vec<usize> {
    entry["shape"].as_array().expect("shape").iter().map(|size| size.as_u64().expect("size") as usize).collect()
}

/// Every float tensor of a manifest, under its name in the original's checkpoints.
fn synthetic_checkpoint(manifest: &Path, seed: u64) -> BTreeMap<String, RawTensor> {
    let text = std::fs::read(manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    let manifest: Value = serde_json::from_slice(&text).expect("a manifest");
    let entries = manifest["tensors"].as_array().expect("tensors");
    let floats = entries.iter().filter(|entry| entry["kind"] != "arange");
    floats
        .map(|entry| {
            let bytes: Vec<u8> = values(entry, seed).into_iter().flat_map(f32::to_le_bytes).collect();
            let tensor = RawTensor { dtype: DType::F32, shape: shape(entry), bytes: bytes.into() };
            (entry["name"].as_str().expect("name").to_owned(), tensor)
        })
        .collect()
}

/// [`synthetic_checkpoint`] under the names of a model folder.
fn synthetic_tensors(manifest: &Path, seed: u64) -> BTreeMap<String, RawTensor> {
    let renamed = |(name, tensor): (String, _)| Some((checkpoint::model_name(&name)?, tensor));
    synthetic_checkpoint(manifest, seed).into_iter().filter_map(renamed).collect()
}

/// Writes [`synthetic_checkpoint`] as a safetensors file, as the original's weights are published.
///
/// # Panics
/// If the file cannot be written.
pub fn write_synthetic_checkpoint(manifest: &Path, seed: u64, target: &Path) {
    let tensors = synthetic_checkpoint(manifest, seed);
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &tensor.bytes).expect("as many bytes as it says");
        (name, view)
    });
    safetensors::serialize_to_file(views, None, target).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
}

fn golden_tensors(bundle: &Bundle) -> (ModelConfig, BTreeMap<String, RawTensor>) {
    let tensors = synthetic_tensors(&bundle.manifest(), bundle.seed());
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect();
    (checkpoint::infer_config(&shapes, None).expect("sizes from the tensors"), tensors)
}

/// The network a bundle was made with.
pub fn golden_network(bundle: &Bundle, device: &Device) -> (ModelConfig, SegVol) {
    let (config, tensors) = golden_tensors(bundle);
    let model = config.init(device).load(device, |name| tensors.get(name).cloned()).expect("the manifest is complete");
    (config, model)
}

/// The network a bundle was made with, as a folder would hold it. Its tokenizer lies beside the bundles, if at all.
pub fn golden_source(bundle: &Bundle) -> ModelSource {
    let (config, tensors) = golden_tensors(bundle);
    let tokenizer = bundle.root.join("tokenizer.json");
    let tokenizer = tokenizer.is_file().then(|| std::fs::read(&tokenizer).expect("it can be read"));
    ModelSource { config, tokenizer, tensors }
}

/// How a test opens a model: the engine it is about.
pub type Open<'a> = &'a dyn Fn(&ModelSource) -> Box<dyn Engine>;

/// The built-in engine.
pub fn built_in(source: &ModelSource) -> Box<dyn Engine> {
    built_in_at(source, Precision::F32)
}

/// [`built_in`] in another precision.
pub fn built_in_at(source: &ModelSource, precision: Precision) -> Box<dyn Engine> {
    let tokenizer = source.read_tokenizer().expect("the CLIP tokenizer");
    let weight = |name: &str| source.tensors.get(name).cloned();
    let options = EngineOptions { precision, ..EngineOptions::on("cpu") };
    let engine = BurnEngine::new(source.config.clone(), tokenizer, &options, weight);
    Box::new(engine.expect("the manifest is complete"))
}

/// The network a bundle was made with, as a model that sessions take.
pub fn golden_model(bundle: &Bundle, open: Open) -> Model {
    model_of(bundle.config_name(), &golden_source(bundle), open)
}

/// A model that sessions take, of any source.
pub fn model_of(name: &str, source: &ModelSource, open: Open) -> Model {
    let engine = open(source);
    let info = engine.info().clone();
    let description = Description {
        name: name.into(),
        license: "synthetic".into(),
        device: info.device,
        engine: info.engine,
        threads: info.threads,
        precision: info.precision,
        parameters: 0,
        weight_bytes: 0,
        image_size: source.config.image_encoder.image_size,
        supports_text: source.tokenizer.is_some(),
    };
    Model::with_engine(engine, description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_synthetic_numbers_are_those_of_the_recipe() {
        assert_eq!(fnv1a64("demo.weight"), 0xe7c4_dd0e_9002_4e28);
        let key = fnv1a64("demo.weight") ^ 7u64.wrapping_mul(GOLDEN);
        assert_eq!(key, 0xb440_891c_eb0b_2abb);
        let first: Vec<u64> = (0..4).map(|index| (draw(key, index) * f64::from(1 << 24)) as u64).collect();
        assert_eq!(first, [6_334_064, 14_825_615, 8_212_546, 16_574_264]);
    }
}
