//! The text encoder: CLIP's text model, then a projection to the image's width (quirks 17-20).

use crate::config::{ModelConfig, TextActivation, TextEncoderConfig};
use crate::linear::Linear;
use crate::nn::{self, Kernels, split_heads};
use crate::tokenizer::Tokens;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};

/// CLIP's text transformer and `dim_align`.
#[derive(Module, Debug)]
pub struct TextEncoder {
    clip: ClipTextModel,
    dim_align: Linear,
}

/// The stages of one pass over a batch of texts.
#[derive(Clone, Debug)]
pub struct TextOutput {
    /// `[batch, tokens, width]`: after the final layer norm.
    pub last_hidden: Tensor<3>,
    /// `[batch, width]`: the row of the first end-of-text token.
    pub pooled: Tensor<2>,
    /// `[batch, embed_dim]`: `pooled` in the width of the image tokens, what the decoder takes.
    pub aligned: Tensor<2>,
}

impl TextEncoder {
    /// An encoder of the configured sizes, its weights drawn at random when first used.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let text = &config.text_encoder;
        Self {
            clip: ClipTextModel::new(text, device),
            dim_align: Linear::new(text.width, config.image_encoder.embed_dim, device),
        }
    }

    /// Encodes texts that are already token ids.
    pub fn forward(&self, texts: &Tokens) -> TextOutput {
        let last_hidden = self.clip.forward(texts);
        let [_, _, width] = last_hidden.dims();
        let rows = texts
            .ends
            .iter()
            .enumerate()
            .map(|(row, &end)| last_hidden.clone().slice([row..row + 1, end..end + 1, 0..width]).squeeze_dim::<2>(1))
            .collect();
        let pooled = Tensor::cat(rows, 0);
        TextOutput { aligned: self.dim_align.forward(pooled.clone()), last_hidden, pooled }
    }
}

/// Reference: transformers' `CLIPTextTransformer`.
#[derive(Module, Debug)]
pub struct ClipTextModel {
    embeddings: ClipTextEmbeddings,
    encoder: ClipEncoder,
    final_layer_norm: LayerNorm,
}

/// Reference: transformers' `CLIPTextEmbeddings`.
#[derive(Module, Debug)]
pub struct ClipTextEmbeddings {
    token_embedding: Embedding,
    position_embedding: Embedding,
}

/// Reference: transformers' `CLIPEncoder`.
#[derive(Module, Debug)]
pub struct ClipEncoder {
    layers: Vec<ClipEncoderLayer>,
}

impl ClipTextModel {
    fn new(config: &TextEncoderConfig, device: &Device) -> Self {
        Self {
            embeddings: ClipTextEmbeddings {
                token_embedding: EmbeddingConfig::new(config.vocab_size, config.width).init(device),
                position_embedding: EmbeddingConfig::new(config.context_length, config.width).init(device),
            },
            encoder: ClipEncoder {
                layers: (0..config.num_layers).map(|_| ClipEncoderLayer::new(config, device)).collect(),
            },
            final_layer_norm: LayerNormConfig::new(config.width).init(device),
        }
    }

    fn forward(&self, texts: &Tokens) -> Tensor<3> {
        let table = self.embeddings.position_embedding.weight.val();
        let device = table.device();
        let (batch, length) = (texts.ids.len(), texts.ids[0].len());
        let ids: Vec<i64> = texts.ids.iter().flatten().map(|&id| i64::from(id)).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, length]), &device);
        let positions = table.narrow(0, 0, length).unsqueeze_dim::<3>(0);
        let mut hidden = self.embeddings.token_embedding.forward(ids) + positions;
        for layer in &self.encoder.layers {
            hidden = layer.forward(hidden, texts);
        }
        self.final_layer_norm.forward(hidden)
    }
}

/// One pre-norm block (reference: transformers' `CLIPEncoderLayer`).
#[derive(Module, Debug)]
pub struct ClipEncoderLayer {
    self_attn: ClipAttention,
    layer_norm1: LayerNorm,
    mlp: ClipMlp,
    layer_norm2: LayerNorm,
}

impl ClipEncoderLayer {
    fn new(config: &TextEncoderConfig, device: &Device) -> Self {
        let square = || Linear::new(config.width, config.width, device);
        Self {
            self_attn: ClipAttention {
                k_proj: square(),
                v_proj: square(),
                q_proj: square(),
                out_proj: square(),
                num_heads: config.num_heads,
            },
            layer_norm1: LayerNormConfig::new(config.width).init(device),
            mlp: ClipMlp {
                fc1: Linear::new(config.width, config.mlp_dim, device),
                fc2: Linear::new(config.mlp_dim, config.width, device),
                activation: config.activation,
            },
            layer_norm2: LayerNormConfig::new(config.width).init(device),
        }
    }

    fn forward(&self, hidden: Tensor<3>, texts: &Tokens) -> Tensor<3> {
        let hidden = hidden.clone() + self.self_attn.forward(self.layer_norm1.forward(hidden), texts);
        hidden.clone() + self.mlp.forward(self.layer_norm2.forward(hidden))
    }
}

/// Reference: transformers' `CLIPAttention`; causal, and blind to padding (quirk 19).
#[derive(Module, Debug)]
pub struct ClipAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
    num_heads: usize,
}

impl ClipAttention {
    fn forward(&self, hidden: Tensor<3>, texts: &Tokens) -> Tensor<3> {
        let mask = hidden_keys(texts, self.num_heads, &hidden.device());
        let query = split_heads(self.q_proj.forward(hidden.clone()), self.num_heads);
        let key = split_heads(self.k_proj.forward(hidden.clone()), self.num_heads);
        let value = split_heads(self.v_proj.forward(hidden), self.num_heads);
        self.out_proj.forward(nn::attention(query, key, value, Some(mask), Kernels::default()))
    }
}

/// True where a token must not look: ahead of itself, or at the padding of a shorter text.
///
/// # Shapes
/// - output: `[batch, heads, tokens, tokens]`
fn hidden_keys(texts: &Tokens, heads: usize, device: &Device) -> Tensor<4, Bool> {
    let (batch, length) = (texts.ids.len(), texts.ids[0].len());
    let mut mask = Vec::with_capacity(batch * length * length);
    for &end in &texts.ends {
        mask.extend((0..length).flat_map(|query| (0..length).map(move |key| key > query || key > end)));
    }
    Tensor::<4, Bool>::from_data(TensorData::new(mask, [batch, 1, length, length]), device)
        .expand([batch, heads, length, length])
}

/// Reference: transformers' `CLIPMLP`.
#[derive(Module, Debug)]
pub struct ClipMlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    activation: TextActivation,
}

impl ClipMlp {
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let x = self.fc1.forward(hidden);
        let x = match self.activation {
            TextActivation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
            TextActivation::Gelu => activation::gelu(x),
            TextActivation::GeluTanh => activation::gelu_approximate(x),
        };
        self.fc2.forward(x)
    }
}
