//! Which layers are corrected, and how strongly.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::linear::Lora;
use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Low-rank corrections of linear layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Inner width of a correction.
    pub rank: usize,
    /// Strength: a correction is multiplied by `alpha / rank`, or `alpha / sqrt(rank)` with `rslora`.
    pub alpha: f64,
    /// Rank-stabilised scaling (Kalajdzievski, arXiv 2312.03732).
    pub rslora: bool,
    /// The layers, by their names in a checkpoint; `*` stands for any one part of a name.
    pub targets: Vec<String>,
}

/// What the SegVol adaptation corrects.
const DEFAULT_TARGETS: [&str; 9] = [
    "image_encoder.blocks.*.attn.qkv",
    "image_encoder.blocks.*.mlp.linear1",
    "image_encoder.blocks.*.mlp.linear2",
    "mask_decoder.transformer.layers.*.self_attn.q_proj",
    "mask_decoder.transformer.layers.*.self_attn.v_proj",
    "mask_decoder.transformer.layers.*.cross_attn_image_to_token.q_proj",
    "mask_decoder.transformer.layers.*.cross_attn_image_to_token.v_proj",
    "mask_decoder.transformer.final_attn_token_to_image.q_proj",
    "mask_decoder.transformer.final_attn_token_to_image.v_proj",
];

/// What it leaves out, of the same kind.
const FURTHER_TARGETS: [&str; 4] = [
    "mask_decoder.transformer.layers.*.cross_attn_token_to_image.q_proj",
    "mask_decoder.transformer.layers.*.cross_attn_token_to_image.v_proj",
    "mask_decoder.transformer.layers.*.mlp.lin1",
    "mask_decoder.transformer.layers.*.mlp.lin2",
];

impl Default for LoraConfig {
    /// Rank 8, alpha 8, rank-stabilised, on the layers that the SegVol adaptation corrects.
    fn default() -> Self {
        let targets = DEFAULT_TARGETS.into_iter().map(str::to_owned).collect();
        Self { rank: 8, alpha: 8.0, rslora: true, targets }
    }
}

/// A layer that is to be corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraTarget {
    /// Its name in a checkpoint, without `.weight`.
    pub layer: String,
    /// Width of what goes in.
    pub input: usize,
    /// Width of what comes out.
    pub output: usize,
}

impl LoraConfig {
    /// With the token-to-image attention and the decoder's MLPs too.
    #[must_use]
    pub fn with_further_targets(mut self) -> Self {
        self.targets.extend(FURTHER_TARGETS.into_iter().map(str::to_owned));
        self
    }

    /// Only the layers whose name starts with `prefix`, such as `mask_decoder.`.
    #[must_use]
    pub fn only(mut self, prefix: &str) -> Self {
        self.targets.retain(|target| target.starts_with(prefix));
        self
    }

    /// What a correction is multiplied by.
    pub fn scale(&self) -> f64 {
        self.alpha / if self.rslora { (self.rank as f64).sqrt() } else { self.rank as f64 }
    }

    /// The layers of a model that are meant, in the order of the network.
    ///
    /// # Errors
    /// A rank of zero, an alpha that is no number, a target that no layer answers to.
    pub fn targets_in(&self, model: &ModelConfig) -> Result<Vec<LoraTarget>> {
        if self.rank == 0 || !self.alpha.is_finite() {
            return Err(Error::config(format!("lora: rank {} and alpha {}", self.rank, self.alpha)));
        }
        // Shapes only: no weight of this network is ever drawn.
        let mut network = model.init(&Device::default());
        let mut layers = Vec::new();
        network.visit_linears(&mut |name, layer| {
            let [input, output] = layer.sizes();
            layers.push(LoraTarget { layer: name, input, output });
        });
        if let Some(target) = self.targets.iter().find(|target| !layers.iter().any(|l| matches(target, &l.layer))) {
            return Err(Error::config(format!("lora: no layer of the model is called {target:?}")));
        }
        layers.retain(|layer| self.targets.iter().any(|target| matches(target, &layer.layer)));
        if layers.is_empty() {
            return Err(Error::config("lora: no targets"));
        }
        Ok(layers)
    }

    /// An untrained correction: A as PEFT draws it (PyTorch's default for a linear layer), B zero.
    pub(super) fn init(&self, target: &LoraTarget, device: &Device) -> Lora {
        let bound = 1.0 / (target.input as f64).sqrt();
        let a: Param<Tensor<2>> =
            Initializer::Uniform { min: -bound, max: bound }.init([self.rank, target.input], device);
        Lora { a, b: Initializer::Zeros.init([target.output, self.rank], device), scale: self.scale() }
    }
}

/// Whether a name answers to a pattern whose parts may be `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.split('.'), name.split('.'));
    pattern.clone().count() == name.clone().count() && pattern.zip(name).all(|(want, part)| want == "*" || want == part)
}
