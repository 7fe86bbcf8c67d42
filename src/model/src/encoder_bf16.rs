//! The image encoder's blocks in bfloat16, for inference on a processor.
//!
//! Weights are rounded and packed once. Between products activations stay bfloat16; norms, softmax, GELU and the sum that
//! runs through all blocks are float32. Everything lies in a few buffers that a pass takes once: on a processor, memory
//! fresh from the system costs a small operation as much time as its arithmetic.

use crate::host;
use crate::image_encoder::TransformerBlock;
use crate::linear::Linear;
use adaptmedseg_kernels::{Bf16Weight, Epilogue, Output, attention_bf16, layer_norm, linear_bf16};
use burn::nn::LayerNorm;
use half::bf16;

/// All blocks of an encoder, packed.
#[derive(Clone, Debug)]
pub(crate) struct Bf16Blocks {
    blocks: Vec<Block>,
    heads: usize,
}

/// One pre-norm block, as [`TransformerBlock`].
#[derive(Clone, Debug)]
struct Block {
    norm1: Norm,
    qkv: Bf16Linear,
    out_proj: Bf16Linear,
    norm2: Norm,
    linear1: Bf16Linear,
    linear2: Bf16Linear,
}

#[derive(Clone, Debug)]
struct Norm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Bf16Linear {
    weight: Bf16Weight,
    bias: Option<Vec<f32>>,
}

impl Norm {
    fn new(norm: &LayerNorm) -> Self {
        let beta = norm.beta.as_ref().expect("every LayerNorm of the network has a bias").val();
        Self { gamma: host::elements(norm.gamma.val()), beta: host::elements(beta) }
    }

    fn forward(&self, x: &[f32], out: &mut [bf16]) {
        layer_norm(x, &self.gamma, &self.beta, host::LAYER_NORM_EPSILON, out);
    }
}

impl Bf16Linear {
    /// The layer, an adapter's correction in its weight.
    fn new(linear: &Linear) -> Self {
        let weight = linear.corrected_weight();
        Self { weight: host::pack_bf16(weight), bias: linear.bias.as_ref().map(|bias| host::elements(bias.val())) }
    }

    fn forward(&self, x: &[bf16], epilogue: Epilogue, out: Output) {
        linear_bf16(x, &self.weight, self.bias.as_deref(), epilogue, out);
    }
}

impl Bf16Blocks {
    /// Rounds and packs the blocks' weights; theirs are not changed. Widths must be even.
    pub(crate) fn pack(blocks: &[TransformerBlock]) -> Self {
        let heads = blocks.first().map_or(1, |block| block.attn.num_heads);
        let packed = blocks.iter().map(|block| Block {
            norm1: Norm::new(&block.norm1),
            qkv: Bf16Linear::new(&block.attn.qkv),
            out_proj: Bf16Linear::new(&block.attn.out_proj),
            norm2: Norm::new(&block.norm2),
            linear1: Bf16Linear::new(&block.mlp.linear1),
            linear2: Bf16Linear::new(&block.mlp.linear2),
        });
        Self { blocks: packed.collect(), heads }
    }

    /// # Shapes
    /// - stream: `[batch, tokens, embed_dim]`, its sizes in `shape`
    /// - output: same
    pub(crate) fn forward(&self, mut stream: Vec<f32>, shape: [usize; 3]) -> Vec<f32> {
        let [batch, count, width] = shape;
        let rows = batch * count;
        let head_dim = width / self.heads;
        let scale = (head_dim as f32).powf(-0.5);
        let widest = self.blocks.iter().map(|block| block.linear1.weight.outputs()).fold(3 * width, usize::max);

        let mut narrow: Vec<bf16> = host::buffer(rows * width);
        let mut wide: Vec<bf16> = host::buffer(rows * widest);
        let mut packed = Vec::new();
        for block in &self.blocks {
            block.norm1.forward(&stream, &mut narrow);
            let qkv = &mut wide[..rows * 3 * width];
            block.qkv.forward(&narrow, Epilogue::None, Output::Bf16(qkv));
            for (qkv, out) in qkv.chunks_exact(count * 3 * width).zip(narrow.chunks_exact_mut(count * width)) {
                attention_bf16(qkv, self.heads, head_dim, scale, &mut packed, out);
            }
            block.out_proj.forward(&narrow, Epilogue::None, Output::AddF32(&mut stream));

            block.norm2.forward(&stream, &mut narrow);
            let hidden = &mut wide[..rows * block.linear1.weight.outputs()];
            block.linear1.forward(&narrow, Epilogue::Gelu, Output::Bf16(hidden));
            block.linear2.forward(hidden, Epilogue::None, Output::AddF32(&mut stream));
        }
        stream
    }
}
