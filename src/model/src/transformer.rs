//! The two-way transformer: prompt tokens and image tokens attend to each other (reference: SAM's
//! `TwoWayTransformer`, quirks 24-27).

use crate::config::MaskDecoderConfig;
use crate::linear::{Linear, linears};
use crate::nn::{self, Kernels, split_heads};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor, activation};

/// Alternating attention between prompt tokens ("queries") and image tokens ("keys").
#[derive(Module, Debug)]
pub struct TwoWayTransformer {
    layers: Vec<TwoWayAttentionBlock>,
    final_attn_token_to_image: Attention,
    norm_final_attn: LayerNorm,
}

/// The two token streams after a step, each `[batch, tokens, embed_dim]`.
#[derive(Clone, Debug)]
pub struct Streams {
    /// Prompt tokens.
    pub queries: Tensor<3>,
    /// Image tokens.
    pub keys: Tensor<3>,
}

impl TwoWayTransformer {
    pub(crate) fn new(config: &MaskDecoderConfig, embed_dim: usize, device: &Device) -> Self {
        let downsampled = embed_dim / config.attention_downsample_rate;
        Self {
            layers: (0..config.num_layers)
                .map(|layer| TwoWayAttentionBlock::new(config, embed_dim, layer == 0, device))
                .collect(),
            final_attn_token_to_image: Attention::new(embed_dim, downsampled, config.num_heads, device),
            norm_final_attn: LayerNormConfig::new(embed_dim).init(device),
        }
    }

    /// # Shapes
    /// - image, image_pe: `[batch or 1, image tokens, embed_dim]`
    /// - tokens: `[batch, prompt tokens, embed_dim]`
    pub fn forward(&self, image: Tensor<3>, image_pe: Tensor<3>, tokens: Tensor<3>) -> Streams {
        self.forward_with_layers(image, image_pe, tokens, |_| ())
    }

    /// [`forward`](Self::forward), showing `observe` the streams after each block.
    pub fn forward_with_layers(
        &self,
        image: Tensor<3>,
        image_pe: Tensor<3>,
        tokens: Tensor<3>,
        mut observe: impl FnMut(&Streams),
    ) -> Streams {
        let mut streams = Streams { queries: tokens.clone(), keys: image };
        for layer in &self.layers {
            streams = layer.forward(streams, tokens.clone(), image_pe.clone());
            observe(&streams);
        }
        let Streams { queries, keys } = streams;
        let attended =
            self.final_attn_token_to_image.forward(queries.clone() + tokens, keys.clone() + image_pe, keys.clone());
        // Quirk 27: the image tokens stay as the last block left them.
        Streams { queries: self.norm_final_attn.forward(queries + attended), keys }
    }
}

/// One two-way block: self-attention of the tokens, tokens to image, MLP, image to tokens.
#[derive(Module, Debug)]
pub struct TwoWayAttentionBlock {
    self_attn: Attention,
    norm1: LayerNorm,
    cross_attn_token_to_image: Attention,
    norm2: LayerNorm,
    mlp: TokenMlp,
    norm3: LayerNorm,
    norm4: LayerNorm,
    cross_attn_image_to_token: Attention,
    skip_first_layer_pe: bool,
}

impl TwoWayAttentionBlock {
    fn new(config: &MaskDecoderConfig, embed_dim: usize, skip_first_layer_pe: bool, device: &Device) -> Self {
        let norm = || LayerNormConfig::new(embed_dim).init(device);
        let downsampled = embed_dim / config.attention_downsample_rate;
        let cross = || Attention::new(embed_dim, downsampled, config.num_heads, device);
        Self {
            self_attn: Attention::new(embed_dim, embed_dim, config.num_heads, device),
            norm1: norm(),
            cross_attn_token_to_image: cross(),
            norm2: norm(),
            mlp: TokenMlp {
                lin1: Linear::new(embed_dim, config.mlp_dim, device),
                lin2: Linear::new(config.mlp_dim, embed_dim, device),
            },
            norm3: norm(),
            norm4: norm(),
            cross_attn_image_to_token: cross(),
            skip_first_layer_pe,
        }
    }

    fn forward(&self, streams: Streams, query_pe: Tensor<3>, key_pe: Tensor<3>) -> Streams {
        let Streams { queries, keys } = streams;
        let queries = if self.skip_first_layer_pe {
            // Quirk 25: here attention replaces the tokens, without residual or positional term.
            self.self_attn.forward(queries.clone(), queries.clone(), queries)
        } else {
            let placed = queries.clone() + query_pe.clone();
            queries.clone() + self.self_attn.forward(placed.clone(), placed, queries)
        };
        let queries = self.norm1.forward(queries);

        let placed_keys = keys.clone() + key_pe;
        let attended = self.cross_attn_token_to_image.forward(
            queries.clone() + query_pe.clone(),
            placed_keys.clone(),
            keys.clone(),
        );
        let queries = self.norm2.forward(queries + attended);
        let queries = self.norm3.forward(queries.clone() + self.mlp.forward(queries));

        let attended = self.cross_attn_image_to_token.forward(placed_keys, queries.clone() + query_pe, queries.clone());
        let keys = nn::layer_norm(&self.norm4, keys + attended, Kernels::default());
        Streams { queries, keys }
    }
}

/// The block's MLP with ReLU (quirk 24).
#[derive(Module, Debug)]
pub struct TokenMlp {
    lin1: Linear,
    lin2: Linear,
}

impl TokenMlp {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.lin2.forward(activation::relu(self.lin1.forward(tokens)))
    }
}

/// Attention with separate projections that may narrow the width (reference: SAM's `Attention`).
#[derive(Module, Debug)]
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    num_heads: usize,
}

impl Attention {
    fn new(embed_dim: usize, internal_dim: usize, num_heads: usize, device: &Device) -> Self {
        let narrow = || Linear::new(embed_dim, internal_dim, device);
        Self {
            q_proj: narrow(),
            k_proj: narrow(),
            v_proj: narrow(),
            out_proj: Linear::new(internal_dim, embed_dim, device),
            num_heads,
        }
    }

    /// # Shapes
    /// - query: `[batch, queries, embed_dim]`
    /// - key, value: `[batch, keys, embed_dim]`
    /// - output: `[batch, queries, embed_dim]`
    fn forward(&self, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        let query = split_heads(self.q_proj.forward(query), self.num_heads);
        let key = split_heads(self.k_proj.forward(key), self.num_heads);
        let value = split_heads(self.v_proj.forward(value), self.num_heads);
        self.out_proj.forward(nn::attention(query, key, value, None, Kernels::default()))
    }
}

linears!(TwoWayTransformer, layers: [], parts: [final_attn_token_to_image], lists: [layers]);
linears!(
    TwoWayAttentionBlock,
    layers: [],
    parts: [self_attn, cross_attn_token_to_image, mlp, cross_attn_image_to_token],
    lists: []
);
linears!(TokenMlp, layers: [lin1, lin2], parts: [], lists: []);
linears!(Attention, layers: [q_proj, k_proj, v_proj, out_proj], parts: [], lists: []);
