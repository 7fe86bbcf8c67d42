//! What the training bundles share: a window with its label, the six combinations of prompts, adapters of synthetic
//! weights.

use crate::{Bundle, golden_network, recipe_tensor, skipped};
use adaptmedseg_model::adapter::{Adapter, AdapterConfig, AdapterContext};
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::train::Sample;
use adaptmedseg_model::{Device, NamedTensors, Prompts, SegVol, Tokenizer};
use burn::tensor::{Tensor, TensorData};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A training bundle with the network it was made with.
#[derive(Debug)]
pub struct TrainingCase {
    /// The bundle.
    pub bundle: Bundle,
    /// The network's sizes.
    pub config: ModelConfig,
    /// The network.
    pub network: SegVol,
    /// The window, its label, and the combinations of prompts by name.
    pub sample: Sample,
    /// Names of the combinations, in the order of the sample's.
    pub combinations: Vec<String>,
}

impl TrainingCase {
    /// None, with a line that says so, where the tokenizer is absent.
    pub fn open(bundle: Bundle) -> Option<Self> {
        let device = Device::flex();
        let (config, network) = golden_network(&bundle, &device);
        let path = bundle.root.join("tokenizer.json");
        if !path.is_file() {
            skipped(&format!("{} is absent", path.display()));
            return None;
        }
        let text = &config.text_encoder;
        let tokenizer = Tokenizer::from_bytes(
            &std::fs::read(&path).expect("it can be read"),
            &text.template,
            text.context_length,
            text.vocab_size,
        )
        .expect("the CLIP tokenizer");
        // A context-prior bundle is asked for its task.
        let name = bundle.json["text"].as_str().or(bundle.json["task"].as_str()).unwrap_or("liver");
        let text = network.text_encoder().forward(&tokenizer.encode(&[name]).expect("a known word")).aligned;

        let places = bundle.floats("prompt.points");
        let labels = bundle.floats("prompt.point_labels");
        let points: Vec<([f32; 3], i8)> =
            places.chunks_exact(3).zip(labels).map(|(p, label)| ([p[0], p[1], p[2]], label as i8)).collect();
        let corners: [f32; 6] = bundle.floats("prompt.box").try_into().expect("six numbers");
        let order = bundle.json["combination_order"].as_array();
        let combinations: Vec<String> = match order {
            Some(order) => order.iter().map(|name| name.as_str().expect("a name").to_owned()).collect(),
            None => ["text+points", "text+box", "text", "box", "points", "box+points"].map(str::to_owned).to_vec(),
        };
        let prompts = combinations.iter().map(|combination| {
            let with = |kind| combination.split('+').any(|part| part == kind);
            Prompts {
                points: if with("points") { points.clone() } else { Vec::new() },
                bounding_box: with("box").then_some(corners),
                text: with("text").then(|| text.clone()),
                dense: None,
            }
        });
        let [depth, height, width] = config.image_encoder.image_size;
        let volume = |name: &str| {
            let data = TensorData::new(bundle.floats(name), [1, 1, depth, height, width]);
            Tensor::<5>::from_data(data, &device)
        };
        let sample = Sample {
            image: volume("input.image"),
            target: volume("label"),
            prompts: prompts.collect(),
            context: AdapterContext {
                modality: bundle.json["modality"].as_str().map(str::to_owned),
                task: bundle.json["task"].as_str().map(str::to_owned),
            },
            embedding: None,
        };
        Some(Self { bundle, config, network, sample, combinations })
    }
}

/// The adapter of a bundle: its tensors by the recipes the bundle lists, else by that of the synthetic weights, A by its
/// fan-in and B a tenth of it.
pub fn synthetic_adapter(config: AdapterConfig, model: &ModelConfig, bundle: &Bundle) -> Adapter {
    let device = Device::flex();
    let listed: BTreeMap<String, &Value> = bundle.json["adapter_tensors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| (plain_name(entry["name"].as_str().expect("a name")), entry))
        .collect();
    let untrained = Adapter::new(config.clone(), model, 0, &device).expect("a fitting configuration");
    let tensors = untrained.tensors().into_iter().map(|(name, (shape, elements))| {
        let Some((layer, part)) = name.split_once(".lora_") else { return (name, (shape, elements)) };
        if let Some(entry) = listed.get(&name) {
            let tensor = recipe_tensor(entry, bundle.seed());
            return (name, tensor);
        }
        let (network, layer) = layer.split_once('.').expect("a part of the network");
        let (part, gain) = if part.starts_with('A') { ("lora_A", 1.0) } else { ("lora_B", 0.1) };
        let entry = json!({
            "name": format!("model.{network}.base_model.model.{layer}.{part}.default.weight"),
            "shape": shape, "kind": "weight", "fan_in": shape[1], "gain": gain,
        });
        (name, recipe_tensor(&entry, bundle.seed()))
    });
    let tensors: NamedTensors = tensors.collect();
    Adapter::from_tensors(config, model, &tensors, &device).expect("the same tensors")
}

/// A tensor's name in a training bundle, as an adapter or a model folder calls it.
pub fn plain_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let name = name.strip_prefix("pretrained_segvol.").unwrap_or(name);
    let name = name
        .replace("base_model.model.", "")
        .replace(".default.", ".")
        .replace("mask_decoder.mask_decoder.", "mask_decoder.");
    if name.contains(".lora_") {
        return name;
    }
    adaptmedseg_model::checkpoint::model_name(&format!("model.{name}")).unwrap_or(name)
}
