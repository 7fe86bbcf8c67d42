//! Which tensors a model has: one list, used when a checkpoint is imported and when a model folder is opened.

use super::tensor_file::ElementType;
use crate::config::ModelConfig;
use crate::dense_input::INPUT_CHANNELS;
use crate::error::{Misshaped, TensorMismatch};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor that a model has, in PyTorch's layout (a linear layer's weight is `[out, in]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Its name in `model.safetensors`.
    pub name: String,
    /// Its sizes, slowest axis first.
    pub shape: Vec<usize>,
}

/// Every tensor of a model of this configuration, in the order of the network. None is optional.
///
/// The configuration must be [valid](ModelConfig::validate), or the list may be absurdly long.
pub fn expected_tensors(config: &ModelConfig) -> Vec<ExpectedTensor> {
    let mut list = List(Vec::new());
    image_encoder(&mut list, config);
    text_encoder(&mut list, config);
    prompt_encoder(&mut list, config);
    mask_decoder(&mut list, config);
    if config.prompt_encoder.dense {
        dense_prompt(&mut list, config);
    }
    list.0
}

struct List(Vec<ExpectedTensor>);

impl List {
    fn tensor(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push(ExpectedTensor { name: name.into(), shape: shape.to_vec() });
    }

    fn weight(&mut self, module: &str, shape: &[usize]) {
        self.tensor(format!("{module}.weight"), shape);
    }

    fn bias(&mut self, module: &str, shape: &[usize]) {
        self.tensor(format!("{module}.bias"), shape);
    }

    fn linear(&mut self, module: &str, input: usize, output: usize) {
        self.weight(module, &[output, input]);
        self.bias(module, &[output]);
    }

    fn norm(&mut self, module: &str, shape: &[usize]) {
        self.weight(module, shape);
        self.bias(module, shape);
    }

    /// The four projections of an attention: in to `width`, inside at `inner`.
    fn attention(&mut self, module: &str, width: usize, inner: usize) {
        for projection in ["q_proj", "k_proj", "v_proj"] {
            self.linear(&format!("{module}.{projection}"), width, inner);
        }
        self.linear(&format!("{module}.out_proj"), inner, width);
    }

    /// A multi-layer perceptron of `depth` linear layers.
    fn mlp(&mut self, module: &str, input: usize, hidden: usize, output: usize, depth: usize) {
        for layer in 0..depth {
            let from = if layer == 0 { input } else { hidden };
            let to = if layer + 1 == depth { output } else { hidden };
            self.linear(&format!("{module}.layers.{layer}"), from, to);
        }
    }
}

fn image_encoder(list: &mut List, config: &ModelConfig) {
    let image = &config.image_encoder;
    let width = image.embed_dim;
    list.tensor("image_encoder.patch_embedding.position_embeddings", &[1, image.num_tokens(), width]);
    list.linear("image_encoder.patch_embedding.proj", image.patch_voxels(), width);
    for layer in 0..image.num_layers {
        let block = format!("image_encoder.blocks.{layer}");
        list.norm(&format!("{block}.norm1"), &[width]);
        list.weight(&format!("{block}.attn.qkv"), &[3 * width, width]);
        list.linear(&format!("{block}.attn.out_proj"), width, width);
        list.norm(&format!("{block}.norm2"), &[width]);
        list.linear(&format!("{block}.mlp.linear1"), width, image.mlp_dim);
        list.linear(&format!("{block}.mlp.linear2"), image.mlp_dim, width);
    }
    list.norm("image_encoder.norm", &[width]);
}

fn text_encoder(list: &mut List, config: &ModelConfig) {
    let text = &config.text_encoder;
    list.weight("text_encoder.clip.embeddings.token_embedding", &[text.vocab_size, text.width]);
    list.weight("text_encoder.clip.embeddings.position_embedding", &[text.context_length, text.width]);
    for layer in 0..text.num_layers {
        let block = format!("text_encoder.clip.encoder.layers.{layer}");
        list.attention(&format!("{block}.self_attn"), text.width, text.width);
        list.norm(&format!("{block}.layer_norm1"), &[text.width]);
        list.linear(&format!("{block}.mlp.fc1"), text.width, text.mlp_dim);
        list.linear(&format!("{block}.mlp.fc2"), text.mlp_dim, text.width);
        list.norm(&format!("{block}.layer_norm2"), &[text.width]);
    }
    list.norm("text_encoder.clip.final_layer_norm", &[text.width]);
    list.linear("text_encoder.dim_align", text.width, config.image_encoder.embed_dim);
}

fn prompt_encoder(list: &mut List, config: &ModelConfig) {
    let width = config.image_encoder.embed_dim;
    list.tensor("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", &[3, width / 2]);
    // Negative point, positive point, and a box's two corners.
    for kind in 0..4 {
        list.weight(&format!("prompt_encoder.point_embeddings.{kind}"), &[1, width]);
    }
    list.weight("prompt_encoder.not_a_point_embed", &[1, width]);
    list.weight("prompt_encoder.no_mask_embed", &[1, width]);
}

fn mask_decoder(list: &mut List, config: &ModelConfig) {
    let decoder = &config.mask_decoder;
    let (width, cross) = (config.image_encoder.embed_dim, config.cross_attention_dim());
    for layer in 0..decoder.num_layers {
        let block = format!("mask_decoder.transformer.layers.{layer}");
        list.attention(&format!("{block}.self_attn"), width, width);
        list.norm(&format!("{block}.norm1"), &[width]);
        list.attention(&format!("{block}.cross_attn_token_to_image"), width, cross);
        list.norm(&format!("{block}.norm2"), &[width]);
        list.linear(&format!("{block}.mlp.lin1"), width, decoder.mlp_dim);
        list.linear(&format!("{block}.mlp.lin2"), decoder.mlp_dim, width);
        list.norm(&format!("{block}.norm3"), &[width]);
        list.norm(&format!("{block}.norm4"), &[width]);
        list.attention(&format!("{block}.cross_attn_image_to_token"), width, cross);
    }
    list.attention("mask_decoder.transformer.final_attn_token_to_image", width, cross);
    list.norm("mask_decoder.transformer.norm_final_attn", &[width]);
    list.weight("mask_decoder.iou_token", &[1, width]);
    list.weight("mask_decoder.mask_tokens", &[decoder.num_mask_tokens, width]);

    let [first, second] = config.upscaled_channels();
    let [depth, height, breadth] = config.image_encoder.grid().map(|size| 2 * size);
    list.weight("mask_decoder.output_upscaling.conv1", &[width, first, 2, 2, 2]);
    list.bias("mask_decoder.output_upscaling.conv1", &[first]);
    list.norm("mask_decoder.output_upscaling.norm", &[first, depth, height, breadth]);
    list.weight("mask_decoder.output_upscaling.conv2", &[first, second, 2, 2, 2]);
    list.bias("mask_decoder.output_upscaling.conv2", &[second]);
    let channels = config.mask_channels();
    for mask in 0..decoder.num_mask_tokens {
        list.mlp(&format!("mask_decoder.output_hypernetworks_mlps.{mask}"), width, width, channels, 3);
    }
    let masks = decoder.num_mask_tokens;
    list.mlp("mask_decoder.iou_prediction_head", width, decoder.iou_head_hidden, masks, decoder.iou_head_depth);
    list.linear("mask_decoder.txt_align_upscaled_embedding", width, channels);
}

fn dense_prompt(list: &mut List, config: &ModelConfig) {
    let [quarter, half, full] = config.dense_channels();
    let mut conv = |module: &str, input: usize, output: usize| {
        list.weight(module, &[output, input, 3, 3, 3]);
        list.bias(module, &[output]);
    };
    conv("dense_prompt.stem", INPUT_CHANNELS, full);
    let [encode, refine] = config.dense_blocks();
    let blocks = [("encode", encode), ("refine", refine)];
    for (part, channels) in &blocks {
        for (index, &channels) in channels.iter().enumerate() {
            conv(&format!("dense_prompt.{part}.{index}.conv"), channels, channels);
        }
    }
    for (part, channels) in &blocks {
        for (index, &channels) in channels.iter().enumerate() {
            list.norm(&format!("dense_prompt.{part}.{index}.norm"), &[channels]);
        }
    }
    let tokens = config.image_encoder.embed_dim;
    for (index, (from, to)) in [(full, half), (half, quarter), (quarter, tokens)].into_iter().enumerate() {
        list.linear(&format!("dense_prompt.down.{index}"), 8 * from, to);
    }
    list.weight("dense_prompt.up", &[half, full, 2, 2, 2]);
    list.bias("dense_prompt.up", &[full]);
}

/// How the tensors `found` differ from those of `config`; `usable` says which element types can be weights.
pub(crate) fn compare<'a>(
    path: &Path,
    config: &ModelConfig,
    found: impl Iterator<Item = (&'a str, ElementType, &'a [usize])>,
    usable: impl Fn(ElementType) -> bool,
) -> TensorMismatch {
    let mut found: BTreeMap<_, _> = found.map(|(name, element, shape)| (name, (element, shape))).collect();
    let mut mismatch = TensorMismatch { path: path.to_path_buf(), ..TensorMismatch::default() };
    for ExpectedTensor { name, shape } in expected_tensors(config) {
        match found.remove(name.as_str()) {
            None => mismatch.missing.push(name),
            Some((element, _)) if !usable(element) => {
                let (found, expected) = (format!("type {}", element.name()), "type F32, F16 or BF16".into());
                mismatch.misshaped.push(Misshaped { name, expected, found });
            }
            Some((_, found)) if found != shape => {
                let (found, expected) = (format!("{found:?}"), format!("{shape:?}"));
                mismatch.misshaped.push(Misshaped { name, expected, found });
            }
            Some(_) => {}
        }
    }
    mismatch.unexpected = found.into_keys().map(str::to_owned).collect();
    mismatch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_expects_the_published_tensors() {
        let tensors = expected_tensors(&ModelConfig::default());
        // 475 entries of the published file, less position_ids and ten of mask_downscaling.
        assert_eq!(tensors.len(), 464);
        let weights: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        // 180891216 floats of the manifest, less the 13164 of mask_downscaling.
        assert_eq!(weights, 180_891_216 - MASK_DOWNSCALING);
    }

    const MASK_DOWNSCALING: usize = 16 + 4 + 4 + 4 + 256 + 16 + 16 + 16 + 768 * 16 + 768;
}
