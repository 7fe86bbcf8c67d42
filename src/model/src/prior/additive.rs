//! The SegVol adaptation's variant: one self-attention block over image, modality and task tokens; the fused task token
//! becomes a prototype for each mask token, which is added to it (quirks 55-57).

use super::{Joined, PriorConfig, pool, tokens_of, with_rows};
use crate::nn::{self, Kernels, split_heads};
use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};

/// Heads of the self-attention.
const HEADS: usize = 4;
/// What prototypes are multiplied with.
const PROTOTYPE_SCALE: f64 = 0.1;
/// Widest value of a token that is drawn; the original starts at zero, and here the gates do.
const TOKEN_BOUND: f64 = 0.02;

/// The pool, the block and the prototypes.
#[derive(Module, Debug)]
pub struct AdditivePrior {
    task_prior: Param<Tensor<3>>,
    modality_prior: Param<Tensor<3>>,
    prior_fusion: PriorFusion,
    prototype_mlp: PrototypeMlp,
    masks: usize,
}

/// Post-norm self-attention and feed-forward layer over all tokens.
#[derive(Module, Debug)]
struct PriorFusion {
    /// What tells image, modality and task tokens apart.
    group_embeddings: Param<Tensor<2>>,
    in_proj: Linear,
    out_proj: Linear,
    norm1: LayerNorm,
    ffn1: Linear,
    ffn2: Linear,
    norm2: LayerNorm,
}

#[derive(Module, Debug)]
struct PrototypeMlp {
    fc1: Linear,
    fc2: Linear,
}

impl AdditivePrior {
    pub(super) fn new(config: &PriorConfig, width: usize, masks: usize, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = || LayerNormConfig::new(width).init(device);
        let uniform = Initializer::Uniform { min: -TOKEN_BOUND, max: TOKEN_BOUND };
        Self {
            task_prior: pool(config.tasks.len() + 1, config.task_tokens, width, TOKEN_BOUND, device),
            modality_prior: pool(config.modalities.len() + 1, config.modality_tokens, width, TOKEN_BOUND, device),
            prior_fusion: PriorFusion {
                group_embeddings: uniform.init([3, width], device),
                in_proj: linear(width, 3 * width),
                out_proj: linear(width, width),
                norm1: norm(),
                ffn1: linear(width, width / 4),
                ffn2: linear(width / 4, width),
                norm2: norm(),
            },
            prototype_mlp: PrototypeMlp { fc1: linear(width, width / 16), fc2: linear(width / 16, masks * width) },
            masks,
        }
    }

    pub(super) fn forward(&self, image: Tensor<3>, modality_row: usize, task_row: usize) -> Joined {
        let modality = tokens_of(&self.modality_prior, modality_row);
        let task = tokens_of(&self.task_prior, task_row);
        let [_, count, width] = image.dims();
        let [tasks, modalities] = [task.dims()[1], modality.dims()[1]];
        let fused = self.prior_fusion.forward(image, modality, task);
        let task = fused.clone().narrow(1, count + modalities, tasks).mean_dim(1);
        let hidden = activation::relu(self.prototype_mlp.fc1.forward(task));
        let prototypes = self.prototype_mlp.fc2.forward(hidden).reshape([1, self.masks, width]);
        Joined {
            update: fused.narrow(1, 0, count),
            tokens: Some(prototypes * PROTOTYPE_SCALE),
            weights: None,
            modality_logits: None,
        }
    }

    pub(super) fn extended(self, modalities: usize, tasks: usize) -> Self {
        Self {
            task_prior: with_rows(self.task_prior, tasks),
            modality_prior: with_rows(self.modality_prior, modalities),
            ..self
        }
    }
}

impl PriorFusion {
    /// All tokens after the block, in the order image, modality, task.
    fn forward(&self, image: Tensor<3>, modality: Tensor<3>, task: Tensor<3>) -> Tensor<3> {
        let width = image.dims()[2];
        let group = |index| self.group_embeddings.val().narrow(0, index, 1).unsqueeze_dim::<3>(0);
        let tokens = Tensor::cat(vec![image + group(0), modality + group(1), task + group(2)], 1);
        let qkv = self.in_proj.forward(tokens.clone());
        let [query, key, value] = [0, 1, 2].map(|part| split_heads(qkv.clone().narrow(2, part * width, width), HEADS));
        let attended = self.out_proj.forward(nn::attention(query, key, value, None, Kernels::default()));
        let tokens = self.norm1.forward(tokens + attended);
        let fed = self.ffn2.forward(activation::relu(self.ffn1.forward(tokens.clone())));
        self.norm2.forward(tokens + fed)
    }
}
