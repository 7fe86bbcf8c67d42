//! The image encoder's blocks in float32, for inference on a processor: as
//! [`encoder_bf16`](crate::encoder_bf16) in a few buffers that a pass takes once, where a tensor for every result would be
//! memory fresh from the system each time.

use crate::host::{Layer, Norm, buffer};
use crate::image_encoder::TransformerBlock;
use adaptmedseg_kernels::{AttentionShape, Epilogue, View, attention};

/// Whether the blocks' weights lie where [`forward`] reads them, and no adapter stands beside a layer.
pub(crate) fn runs_here(blocks: &[TransformerBlock]) -> bool {
    blocks.iter().all(|block| {
        [&block.attn.qkv, &block.attn.out_proj, &block.mlp.linear1, &block.mlp.linear2]
            .into_iter()
            .all(|layer| layer.lora.is_none() && Layer::lies_in_rows(layer))
    })
}

/// # Shapes
/// - stream: `[batch, tokens, embed_dim]`, its sizes in `shape`
/// - output: same
pub(crate) fn forward(blocks: &[TransformerBlock], mut stream: Vec<f32>, shape: [usize; 3]) -> Vec<f32> {
    let [batch, count, width] = shape;
    let rows = batch * count;
    let widest = blocks.iter().map(|block| block.mlp.linear1.sizes()[1]).fold(3 * width, usize::max);

    let mut next = buffer(rows * width);
    let mut narrow = buffer(rows * width);
    let mut wide = buffer(rows * widest);
    for block in blocks {
        Norm::new(&block.norm1).forward(&stream, &mut narrow);
        let qkv = &mut wide[..rows * 3 * width];
        Layer::new(&block.attn.qkv).forward(&narrow, Epilogue::None, qkv);
        let (heads, head_dim) = (block.attn.num_heads, width / block.attn.num_heads);
        let part =
            |part: usize| View { data: &qkv[part * width..], strides: [count * 3 * width, head_dim, 3 * width, 1] };
        let shape = AttentionShape { batch, heads, queries: count, keys: count, head_dim, value_dim: head_dim };
        attention(&shape, part(0), part(1), part(2), (head_dim as f32).powf(-0.5), &mut narrow);
        Layer::new(&block.attn.out_proj).forward(&narrow, Epilogue::Add(&stream), &mut next);
        std::mem::swap(&mut stream, &mut next);

        Norm::new(&block.norm2).forward(&stream, &mut narrow);
        let linear1 = Layer::new(&block.mlp.linear1);
        let hidden = &mut wide[..rows * linear1.outputs()];
        linear1.forward(&narrow, Epilogue::Gelu, hidden);
        Layer::new(&block.mlp.linear2).forward(hidden, Epilogue::Add(&stream), &mut next);
        std::mem::swap(&mut stream, &mut next);
    }
    stream
}
