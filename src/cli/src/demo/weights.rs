//! A small model folder whose weights are random numbers.
//!
//! The numbers are scaled so that values neither fade nor explode from layer to layer, and the bias of the up-scaling
//! norm is a field that is positive in the middle, so that masks have a shape instead of being noise. This is all that
//! the model knows.

use crate::failure::{Failure, Result};
use adaptmedseg_segment::{ModelConfig, checkpoint};
use safetensors::tensor::{Dtype, TensorView};
use std::fs;
use std::path::Path;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Numbers that depend on a name, a seed and an index only: SplitMix64's finaliser over a counter.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        // FNV-1a
        let hash = name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
        Self(hash ^ seed.wrapping_mul(GOLDEN))
    }

    /// Uniform in [0, 1), 24 bits.
    fn uniform(&self, index: u64) -> f64 {
        let mut z = self.0.wrapping_add((index + 1).wrapping_mul(GOLDEN));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / (1u64 << 24) as f64
    }

    /// Uniform in [-1, 1).
    fn symmetric(&self, index: u64) -> f64 {
        2.0 * self.uniform(index) - 1.0
    }

    /// Mean 0, variance 1: a sum of four uniform numbers.
    pub(crate) fn gaussian(&self, index: u64) -> f64 {
        3f64.sqrt() * ((0..4).map(|part| self.uniform(4 * index + part)).sum::<f64>() - 2.0)
    }
}

/// SegVol in small: the same parts, each as narrow as it goes.
pub(crate) fn config() -> ModelConfig {
    let mut config = ModelConfig {
        name: "demonstration (random weights)".into(),
        license: "CC0-1.0 (generated numbers)".into(),
        ..ModelConfig::default()
    };
    let image = &mut config.image_encoder;
    image.image_size = [16, 64, 64];
    image.embed_dim = 96;
    image.num_layers = 2;
    image.num_heads = 6;
    image.mlp_dim = 384;
    let text = &mut config.text_encoder;
    text.vocab_size = 64;
    text.width = 64;
    text.num_layers = 1;
    text.num_heads = 4;
    text.mlp_dim = 256;
    config.mask_decoder.mlp_dim = 256;
    config.mask_decoder.iou_head_hidden = 64;
    config
}

/// The values of one tensor.
fn values(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let draw = Draw::new(name, seed);
    let count: usize = shape.iter().product();
    let fill = |value: &dyn Fn(usize) -> f64| (0..count).map(|index| value(index) as f32).collect();
    let around = |centre: f64, by: f64| fill(&|index| centre + by * draw.symmetric(index as u64));
    let norm = name.contains("norm");
    if name.ends_with("output_upscaling.norm.bias") {
        fill(&|index| 8.0 * field(shape, index) + 0.02 * draw.symmetric(index as u64))
    } else if norm && name.ends_with("weight") {
        around(1.0, 0.1)
    } else if name.ends_with("output_upscaling.conv2.bias") {
        around(-0.75, 0.02)
    } else if name.contains("output_hypernetworks_mlps") && name.ends_with("layers.2.bias") {
        around(0.11, 0.02)
    } else if name.ends_with("bias") {
        around(0.0, 0.02)
    } else if name.contains("gaussian_matrix") {
        fill(&|index| draw.gaussian(index as u64))
    } else if name.contains("embed") && !name.contains("proj") && !name.contains("txt_align")
        || name.contains("token.")
        || name.contains("mask_tokens")
        || name.contains("position_embeddings")
    {
        around(0.0, 0.5)
    } else {
        // A transposed convolution with a stride as long as its kernel sees each input channel once.
        let fan_in = if name.contains("output_upscaling") { shape[0] } else { shape[1..].iter().product() };
        let gain = if name.contains("output_hypernetworks_mlps") && name.contains("layers.2") { 0.75 } else { 1.0 };
        around(0.0, gain * (3.0 / fan_in as f64).sqrt())
    }
}

/// Positive in a box somewhat off the middle of the window, negative around it; `shape` is (C, D, H, W).
fn field(shape: &[usize], index: usize) -> f64 {
    let [depth, height, width] = [shape[1], shape[2], shape[3]];
    let place = [index / (width * height) % depth, index / width % height, index % width];
    let off =
        |axis: usize, size: usize, centre: f64| ((2 * place[axis] + 1) as f64 / size as f64 - 1.0 - centre).powi(2);
    0.5 - off(0, depth, 0.25).max(off(1, height, -0.125)).max(off(2, width, 0.125))
}

/// Writes the model folder.
pub(crate) fn write(folder: &Path, seed: u64) -> Result<()> {
    let config = config();
    config.validate()?;
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = checkpoint::expected_tensors(&config)
        .into_iter()
        .map(|checkpoint::ExpectedTensor { name, shape }| {
            let bytes = values(&name, &shape, seed).into_iter().flat_map(f32::to_le_bytes).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("as many values as the shape says"))
    });
    let weights = folder.join(checkpoint::WEIGHTS_FILE);
    let file = |path: &Path, error: &std::io::Error| Failure::file(path, error);
    fs::create_dir_all(folder).map_err(|error| file(folder, &error))?;
    let bytes = safetensors::serialize(views, None)
        .map_err(|error| Failure::io(format!("{}: {error}", weights.display()), None))?;
    fs::write(&weights, bytes).map_err(|error| file(&weights, &error))?;
    for (name, text) in [(checkpoint::CONFIG_FILE, config.to_json()), (checkpoint::CARD_FILE, card())] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| file(&path, &error))?;
    }
    Ok(())
}

fn card() -> String {
    "# Demonstration model\n\n\
     The weights of this model are random numbers made by `adaptmedseg demo`. Its masks show that the program runs;\n\
     they mean nothing, and must not be used for anything else.\n\n\
     The architecture is SegVol's (arXiv 2311.13385) in small. There is no tokenizer, so it takes no text prompt.\n"
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_the_published_recipe() {
        let draw = Draw::new("demo.weight", 7);
        assert_eq!(draw.0, 0xb440_891c_eb0b_2abb);
        let first: Vec<u64> = (0..4).map(|index| (draw.uniform(index) * (1u64 << 24) as f64) as u64).collect();
        assert_eq!(first, [6_334_064, 14_825_615, 8_212_546, 16_574_264]);
        assert!((draw.gaussian(0) - 1.279_334_5).abs() < 1e-6);
    }

    #[test]
    fn the_configuration_can_be_built() {
        config().validate().expect("a valid configuration");
    }

    #[test]
    fn every_tensor_has_bounded_values() {
        for checkpoint::ExpectedTensor { name, shape } in checkpoint::expected_tensors(&config()) {
            let values = values(&name, &shape, 7);
            assert!(values.iter().all(|value| value.is_finite() && value.abs() < 30.0), "{name}");
            assert!(values.iter().any(|&value| value != 0.0), "{name}");
        }
    }
}
