//! The image encoder: a 3-D vision transformer over one window (reference: MONAI `ViT`, quirks 1-6).

use crate::config::ImageEncoderConfig;
use crate::encoder_bf16::Bf16Blocks;
use crate::encoder_f32;
use crate::host::{self, Workers};
use crate::linear::{Epilogue, Linear, linears};
use crate::nn::{self, Kernels, split_heads};
use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::{DType, TensorData};
use burn::tensor::{Device, Tensor};
use std::sync::Arc;

/// Vision transformer: patches of the window become tokens, blocks of self-attention and MLP refine them.
#[derive(Module, Debug)]
pub struct ImageEncoder {
    patch_embedding: PatchEmbedding,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    // Skipped: a rounded copy of the blocks; whoever visits weights means the weights themselves.
    #[module(skip)]
    rounded: Option<Arc<Bf16Blocks>>,
    // Threads of the kernels; without them these compute on their caller's, and on the Flex device alone.
    #[module(skip)]
    workers: Option<Arc<dyn Workers>>,
}

impl ImageEncoderConfig {
    /// A network of these sizes; its weights are drawn at random when first used, unless loaded before.
    pub fn init(&self, device: &Device) -> ImageEncoder {
        ImageEncoder {
            patch_embedding: PatchEmbedding::new(self, device),
            blocks: (0..self.num_layers).map(|_| TransformerBlock::new(self, device)).collect(),
            norm: LayerNormConfig::new(self.embed_dim).init(device),
            rounded: None,
            workers: None,
        }
    }
}

impl ImageEncoder {
    /// # Shapes
    /// - image: `[batch, 1, D, H, W]`, the configured window
    /// - output: `[batch, tokens, embed_dim]`, tokens row-major over the patch grid (d, h, w)
    pub fn forward(&self, image: Tensor<5>) -> Tensor<3> {
        self.forward_with(image, Kernels::default())
    }

    /// [`forward`](Self::forward) with a choice of implementation.
    pub fn forward_with(&self, image: Tensor<5>, kernels: Kernels) -> Tensor<3> {
        let mut tokens = self.patch_embedding.forward_with(image, kernels);
        if kernels == Kernels::Fused && self.has_kernels_for(&tokens) {
            return nn::layer_norm(&self.norm, self.blocks_by_kernels(tokens), kernels);
        }
        for block in &self.blocks {
            tokens = block.forward(tokens, kernels);
        }
        nn::layer_norm(&self.norm, tokens, kernels)
    }

    /// Whether [`blocks_by_kernels`](Self::blocks_by_kernels) can take these tokens. On libtorch's processor it needs workers,
    /// since libtorch computes on other threads than rayon's.
    fn has_kernels_for(&self, tokens: &Tensor<3>) -> bool {
        let device = tokens.device();
        #[cfg(feature = "flex")]
        let reached = device == Device::flex() || self.workers.is_some();
        #[cfg(not(feature = "flex"))]
        let reached = self.workers.is_some();
        reached
            && !device.is_autodiff()
            && host::holds(&device)
            && tokens.dtype() == DType::F32
            && (self.rounded.is_some() || encoder_f32::runs_here(&self.blocks))
    }

    /// The blocks in a few buffers of their own, outside Burn.
    fn blocks_by_kernels(&self, tokens: Tensor<3>) -> Tensor<3> {
        let (device, shape) = (tokens.device(), tokens.dims());
        let mut stream = host::elements(tokens);
        let mut work = || {
            let tokens = std::mem::take(&mut stream);
            stream = match &self.rounded {
                Some(rounded) => rounded.forward(tokens, shape),
                None => encoder_f32::forward(&self.blocks, tokens, shape),
            };
        };
        match &self.workers {
            Some(workers) => workers.run(&mut work),
            None => work(),
        }
        Tensor::from_data(TensorData::new(stream, shape), &device)
    }

    /// From now on inference on a processor computes the blocks with the kernels, on these threads.
    pub(crate) fn set_workers(&mut self, workers: Arc<dyn Workers>) {
        self.workers = Some(workers);
    }

    /// From now on inference on a processor computes the blocks in bfloat16, as they are now: with an attached
    /// adapter's corrections, and without what the weights may learn later. Widths must be even.
    pub(crate) fn round(&mut self) {
        self.rounded = Some(Arc::new(Bf16Blocks::pack(&self.blocks)));
    }

    /// Computes in bfloat16 as another encoder of the same weights does, or in float32 again.
    pub(crate) fn round_as(&mut self, other: Option<&Self>) {
        self.rounded = other.and_then(|other| other.rounded.clone());
    }

    /// Whether heads have an even number of channels.
    pub(crate) fn has_even_heads(&self) -> bool {
        self.blocks.iter().all(|TransformerBlock { attn, .. }| (attn.out_proj.sizes()[0] / attn.num_heads) % 2 == 0)
    }

    /// Every stage of the encoder, for comparison with the reference: the patch embedding, then the output of each
    /// block (before the final norm), each `[batch, tokens, embed_dim]`.
    pub fn hidden_states(&self, image: Tensor<5>) -> Vec<Tensor<3>> {
        let mut states = vec![self.patch_embedding.forward(image)];
        for block in &self.blocks {
            states.push(block.forward(states[states.len() - 1].clone(), Kernels::default()));
        }
        states
    }

    /// The first stage: window to tokens.
    pub fn patch_embedding(&self) -> &PatchEmbedding {
        &self.patch_embedding
    }

    /// The blocks, in order.
    pub fn blocks(&self) -> &[TransformerBlock] {
        &self.blocks
    }

    /// The norm after the last block.
    pub fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        nn::layer_norm(&self.norm, tokens, Kernels::default())
    }
}

/// Cuts the window into patches, projects each to a token and adds its learned position.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    proj: Linear,
    position_embeddings: Param<Tensor<3>>,
    patch_depth: usize,
    patch_height: usize,
    patch_width: usize,
}

impl PatchEmbedding {
    fn new(config: &ImageEncoderConfig, device: &Device) -> Self {
        let [patch_depth, patch_height, patch_width] = config.patch_size;
        let tokens = config.grid().iter().product();
        let voxels = patch_depth * patch_height * patch_width;
        Self {
            proj: Linear::new(voxels, config.embed_dim, device),
            position_embeddings: Initializer::Normal { mean: 0.0, std: 0.02 }
                .init([1, tokens, config.embed_dim], device),
            patch_depth,
            patch_height,
            patch_width,
        }
    }

    /// # Shapes
    /// - image: `[batch, 1, D, H, W]`
    /// - output: `[batch, tokens, embed_dim]`
    pub fn forward(&self, image: Tensor<5>) -> Tensor<3> {
        self.forward_with(image, Kernels::default())
    }

    fn forward_with(&self, image: Tensor<5>, kernels: Kernels) -> Tensor<3> {
        let [batch, _, depth, height, width] = image.dims();
        let (pd, ph, pw) = (self.patch_depth, self.patch_height, self.patch_width);
        let (d, h, w) = (depth / pd, height / ph, width / pw);
        // Quirk 1: inside a patch the order is (p_d, p_h, p_w, channel), and there is one channel.
        let patches = image.reshape([batch, d, pd, h, ph, w, pw]).permute([0, 1, 3, 5, 2, 4, 6]).reshape([
            batch,
            d * h * w,
            pd * ph * pw,
        ]);
        let places = self.position_embeddings.val();
        if batch > 1 {
            return self.proj.forward(patches) + places;
        }
        self.proj.forward_then(patches, Epilogue::Add(&places), kernels)
    }
}

/// One pre-norm block: `x += attn(norm1(x)); x += mlp(norm2(x))`.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    pub(crate) norm1: LayerNorm,
    pub(crate) attn: SelfAttention,
    pub(crate) norm2: LayerNorm,
    pub(crate) mlp: MlpBlock,
}

impl TransformerBlock {
    fn new(config: &ImageEncoderConfig, device: &Device) -> Self {
        Self {
            norm1: LayerNormConfig::new(config.embed_dim).init(device),
            attn: SelfAttention {
                qkv: Linear::without_bias(config.embed_dim, 3 * config.embed_dim, device),
                out_proj: Linear::new(config.embed_dim, config.embed_dim, device),
                num_heads: config.num_heads,
            },
            norm2: LayerNormConfig::new(config.embed_dim).init(device),
            mlp: MlpBlock {
                linear1: Linear::new(config.embed_dim, config.mlp_dim, device),
                linear2: Linear::new(config.mlp_dim, config.embed_dim, device),
            },
        }
    }

    /// # Shapes
    /// - tokens: `[batch, tokens, embed_dim]`
    /// - output: same
    pub fn forward(&self, tokens: Tensor<3>, kernels: Kernels) -> Tensor<3> {
        let normed = nn::layer_norm(&self.norm1, tokens.clone(), kernels);
        let tokens = self.attn.forward(normed, Epilogue::Add(&tokens), kernels);
        let normed = nn::layer_norm(&self.norm2, tokens.clone(), kernels);
        self.mlp.forward(normed, Epilogue::Add(&tokens), kernels)
    }

    /// The first norm and the attention branch (before the residual), for comparison with the reference.
    pub fn attention_branch(&self, tokens: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let normed = nn::layer_norm(&self.norm1, tokens, Kernels::default());
        (normed.clone(), self.attn.forward(normed, Epilogue::None, Kernels::default()))
    }
}

/// Self-attention: `qkv` without bias, its columns `[q | k | v]`, each split into contiguous heads; scores scaled by
/// `head_dim^-0.5` (reference: MONAI `SABlock`, quirk 3).
#[derive(Module, Debug)]
pub struct SelfAttention {
    pub(crate) qkv: Linear,
    pub(crate) out_proj: Linear,
    pub(crate) num_heads: usize,
}

impl SelfAttention {
    /// # Shapes
    /// - tokens: `[batch, tokens, embed_dim]`
    /// - output: same
    pub fn forward(&self, tokens: Tensor<3>, epilogue: Epilogue, kernels: Kernels) -> Tensor<3> {
        let width = tokens.dims()[2];
        let qkv = self.qkv.forward_then(tokens, Epilogue::None, kernels);
        let [query, key, value] =
            [0, 1, 2].map(|part| split_heads(qkv.clone().narrow(2, part * width, width), self.num_heads));
        self.out_proj.forward_then(nn::attention(query, key, value, None, kernels), epilogue, kernels)
    }
}

/// The block's MLP with exact GELU (reference: MONAI `MLPBlock`).
#[derive(Module, Debug)]
pub struct MlpBlock {
    pub(crate) linear1: Linear,
    pub(crate) linear2: Linear,
}

impl MlpBlock {
    fn forward(&self, tokens: Tensor<3>, epilogue: Epilogue, kernels: Kernels) -> Tensor<3> {
        let hidden = self.linear1.forward_then(tokens, Epilogue::Gelu, kernels);
        self.linear2.forward_then(hidden, epilogue, kernels)
    }
}

linears!(ImageEncoder, layers: [], parts: [patch_embedding], lists: [blocks]);
linears!(PatchEmbedding, layers: [proj], parts: [], lists: []);
linears!(TransformerBlock, layers: [], parts: [attn, mlp], lists: []);
linears!(SelfAttention, layers: [qkv, out_proj], parts: [], lists: []);
linears!(MlpBlock, layers: [linear1, linear2], parts: [], lists: []);
