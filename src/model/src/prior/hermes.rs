//! The paper's variant: tokens look at the image, the image looks back, block after block; the posterior task token
//! becomes a prototype that is multiplied with the up-scaled image (Gao et al., section 3; names as in their code).

use super::{Joined, PriorConfig, pool, tokens_of, with_rows};
use crate::nn::{self, Kernels, split_heads};
use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};

/// Channels of an attention head.
const HEAD: usize = 32;
/// In front of attentions; in front of feed-forward layers it is [`FFN_EPSILON`].
const ATTENTION_EPSILON: f64 = 1e-5;
/// Ten times the other, as in the code.
const FFN_EPSILON: f64 = 1e-4;

/// The pool, the blocks and the heads.
#[derive(Module, Debug)]
pub struct HermesPrior {
    task_prior: Param<Tensor<3>>,
    modality_prior: Param<Tensor<3>>,
    /// To the blocks' width, where the image tokens are wider.
    down: Option<Linear>,
    up: Option<Linear>,
    attn_layers: Vec<FusionBlock>,
    out: PrototypeHead,
    mod_out: ModalityHead,
}

impl HermesPrior {
    pub(super) fn new(config: &PriorConfig, embed_dim: usize, channels: usize, device: &Device) -> Self {
        let width = config.width;
        let narrow = width != embed_dim;
        let (tasks, modalities) = (config.tasks.len() + 1, config.modalities.len() + 1);
        let task_bound = (6.0 / (width + tasks) as f64).sqrt();
        let modality_bound = (6.0 / ((config.modality_tokens + modalities) * width) as f64).sqrt();
        Self {
            task_prior: pool(tasks, config.task_tokens, width, task_bound, device),
            modality_prior: pool(modalities, config.modality_tokens, width, modality_bound, device),
            down: narrow.then(|| LinearConfig::new(embed_dim, width).init(device)),
            up: narrow.then(|| LinearConfig::new(width, embed_dim).with_bias(false).init(device)),
            attn_layers: (0..config.num_blocks).map(|_| FusionBlock::new(width, device)).collect(),
            out: PrototypeHead::new(width, channels, device),
            mod_out: ModalityHead::new(width, config.modalities.len().max(1), device),
        }
    }

    pub(super) fn forward(&self, image: Tensor<3>, modality_row: usize, task_row: usize) -> Joined {
        let task = tokens_of(&self.task_prior, task_row);
        let [_, task_tokens, _] = task.dims();
        // Beside the task stands the unknown one, once: the pools are trained so, and the number of rows matters. Where
        // the task itself is unknown it stands there twice.
        let unknown = tokens_of(&self.task_prior, self.task_prior.dims()[0] - 1);
        let modality = tokens_of(&self.modality_prior, modality_row);
        let [_, modality_tokens, _] = modality.dims();
        let mut priors = Tensor::cat(vec![task, unknown, modality], 1);
        let start = match &self.down {
            Some(down) => down.forward(image),
            None => image,
        };
        let mut tokens = start.clone();
        for block in &self.attn_layers {
            (tokens, priors) = block.forward(tokens, priors);
        }
        let update = tokens - start;
        let prototypes = priors.clone().narrow(1, 0, task_tokens).mean_dim(1);
        Joined {
            update: match &self.up {
                Some(up) => up.forward(update),
                None => update,
            },
            tokens: None,
            weights: Some(self.out.forward(prototypes)),
            modality_logits: Some(self.mod_out.forward(priors.narrow(1, 2 * task_tokens, modality_tokens))),
        }
    }

    pub(super) fn extended(self, modalities: usize, tasks: usize) -> Self {
        Self {
            task_prior: with_rows(self.task_prior, tasks),
            modality_prior: with_rows(self.modality_prior, modalities),
            mod_out: self.mod_out.extended(modalities),
            ..self
        }
    }
}

/// Tokens look at the image, then the image at the updated tokens; each with a feed-forward layer, all pre-norm.
#[derive(Module, Debug)]
pub struct FusionBlock {
    prior_aggregate_block: Aggregate,
    prior_ffn: FeedForward,
    feat_aggregate_block: Aggregate,
    feat_ffn: FeedForward,
}

impl FusionBlock {
    /// A block of tokens of `width`, a multiple of 32.
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            prior_aggregate_block: Aggregate::new(width, device),
            prior_ffn: FeedForward::new(width, device),
            feat_aggregate_block: Aggregate::new(width, device),
            feat_ffn: FeedForward::new(width, device),
        }
    }

    /// # Shapes
    /// - image: `[batch, image tokens, width]`
    /// - priors: `[batch, prior tokens, width]`
    /// - output: both, updated
    pub fn forward(&self, image: Tensor<3>, priors: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        self.forward_with_steps(image, priors, |_| ())
    }

    /// [`forward`](Self::forward), showing `observe` what each of the four steps adds, for comparison with the original.
    pub fn forward_with_steps(
        &self,
        image: Tensor<3>,
        priors: Tensor<3>,
        mut observe: impl FnMut(&Tensor<3>),
    ) -> (Tensor<3>, Tensor<3>) {
        let mut add = |to: Tensor<3>, update: Tensor<3>| {
            observe(&update);
            to + update
        };
        let priors = add(priors.clone(), self.prior_aggregate_block.forward(priors, image.clone()));
        let priors = add(priors.clone(), self.prior_ffn.forward(priors));
        let image = add(image.clone(), self.feat_aggregate_block.forward(image, priors.clone()));
        let image = add(image.clone(), self.feat_ffn.forward(image));
        (image, priors)
    }
}

/// Cross-attention behind a norm for each side.
#[derive(Module, Debug)]
struct Aggregate {
    /// Of those who look.
    norm1: LayerNorm,
    /// Of those who are looked at.
    norm2: LayerNorm,
    inner: CrossAttention,
}

/// Heads of 32 channels; `to_kv` gives keys, then values.
#[derive(Module, Debug)]
struct CrossAttention {
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
}

impl Aggregate {
    fn new(width: usize, device: &Device) -> Self {
        let norm = || LayerNormConfig::new(width).with_epsilon(ATTENTION_EPSILON).init(device);
        Self {
            norm1: norm(),
            norm2: norm(),
            inner: CrossAttention {
                to_q: LinearConfig::new(width, width).with_bias(false).init(device),
                to_kv: LinearConfig::new(width, 2 * width).with_bias(false).init(device),
                to_out: LinearConfig::new(width, width).init(device),
            },
        }
    }

    fn forward(&self, looking: Tensor<3>, looked_at: Tensor<3>) -> Tensor<3> {
        let width = looking.dims()[2];
        let query = self.inner.to_q.forward(self.norm1.forward(looking));
        let both = self.inner.to_kv.forward(self.norm2.forward(looked_at));
        let heads = |tokens| split_heads(tokens, width / HEAD);
        let (key, value) = (both.clone().narrow(2, 0, width), both.narrow(2, width, width));
        self.inner.to_out.forward(nn::attention(heads(query), heads(key), heads(value), None, Kernels::default()))
    }
}

#[derive(Module, Debug)]
struct FeedForward {
    norm: LayerNorm,
    inner: Mlp,
}

impl FeedForward {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            norm: LayerNormConfig::new(width).with_epsilon(FFN_EPSILON).init(device),
            inner: Mlp::new([width, 4 * width, width], false, device),
        }
    }

    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.inner.forward(self.norm.forward(tokens))
    }
}

/// `fc2(gelu(fc1(x)))`.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `xavier`: as the prototype head starts, its biases at zero; otherwise as PyTorch's linear layers do.
    fn new([input, hidden, output]: [usize; 3], xavier: bool, device: &Device) -> Self {
        let linear = |from, to| {
            let mut linear: Linear = LinearConfig::new(from, to).init(device);
            if xavier {
                let bound = (6.0 / (from + to) as f64).sqrt();
                linear.weight = Initializer::Uniform { min: -bound, max: bound }.init([from, to], device);
                linear.bias = Some(Initializer::Zeros.init([to], device));
            }
            linear
        };
        Self { fc1: linear(input, hidden), fc2: linear(hidden, output) }
    }

    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.fc2.forward(activation::gelu(self.fc1.forward(x)))
    }
}

/// From a posterior task token to what the up-scaled image is multiplied with.
#[derive(Module, Debug)]
pub struct PrototypeHead {
    norm: LayerNorm,
    classifier_pred: Vec<Mlp>,
}

impl PrototypeHead {
    /// From tokens of `input` channels to features of `output`.
    pub fn new(input: usize, output: usize, device: &Device) -> Self {
        Self {
            norm: LayerNormConfig::new(input).with_epsilon(ATTENTION_EPSILON).init(device),
            // No activation between the two, and none at the end.
            classifier_pred: vec![
                Mlp::new([input, input, output], true, device),
                Mlp::new([output, output, output], true, device),
            ],
        }
    }

    /// # Shapes
    /// - tokens: `[batch, tokens, input]`
    /// - output: `[batch, tokens, output]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.classifier_pred.iter().fold(self.norm.forward(tokens), |tokens, mlp| mlp.forward(tokens))
    }
}

/// From posterior modality tokens to the modality they look like.
#[derive(Module, Debug)]
pub struct ModalityHead {
    norm: LayerNorm,
    classifier: Mlp,
}

impl ModalityHead {
    /// From tokens of `input` channels to `classes` modalities.
    pub fn new(input: usize, classes: usize, device: &Device) -> Self {
        Self {
            norm: LayerNormConfig::new(input).with_epsilon(ATTENTION_EPSILON).init(device),
            classifier: Mlp::new([input, input, classes], false, device),
        }
    }

    /// # Shapes
    /// - tokens: `[batch, tokens, input]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        self.classifier.forward(self.norm.forward(tokens).mean_dim(1).squeeze_dim::<2>(1))
    }

    /// With `more` classes, which nothing looks like yet.
    fn extended(mut self, more: usize) -> Self {
        if more == 0 {
            return self;
        }
        let last = &mut self.classifier.fc2;
        let (id, weight, _) = last.weight.clone().consume();
        let [hidden, _] = weight.dims();
        let zeros = Tensor::<2>::zeros([hidden, more], &weight.device());
        last.weight = Param::initialized(id, Tensor::cat(vec![weight, zeros], 1));
        if let Some(bias) = last.bias.take() {
            let (id, bias, _) = bias.consume();
            let zeros = Tensor::<1>::zeros([more], &bias.device());
            last.bias = Some(Param::initialized(id, Tensor::cat(vec![bias, zeros], 0)));
        }
        self
    }
}
