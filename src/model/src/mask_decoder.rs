//! The mask decoder: prompt tokens and image tokens become masks (reference: SegVol's `MaskDecoder`, quirks 24-30).
//!
//! Inside the up-scaling everything is kept channels-last, `[batch, voxels, channels]`: a transposed convolution whose
//! stride equals its kernel is then one matrix product whose result needs no rearrangement before the next one.

use crate::config::ModelConfig;
use crate::dense_prompt::{DenseFeatures, DensePrompt};
use crate::linear::{Linear, linears};
use crate::nn::{self, Kernels, Mlp};
use crate::prior::MaskEffect;
use crate::transformer::{Streams, TwoWayTransformer};
use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Device, Tensor, TensorData};

/// Transformer, up-scaling, one small network per mask, and the head that rates the masks.
#[derive(Module, Debug)]
pub struct MaskDecoder {
    transformer: TwoWayTransformer,
    iou_token: Embedding,
    mask_tokens: Embedding,
    output_upscaling: OutputUpscaling,
    output_hypernetworks_mlps: Vec<Mlp>,
    iou_prediction_head: Mlp,
    txt_align_upscaled_embedding: Linear,
    num_mask_tokens: usize,
}

/// What the decoder returns.
#[derive(Clone, Debug)]
pub struct Masks {
    /// `[batch, masks, 4d, 4h, 4w]`: logits at low resolution. Mask 0 is the one SegVol uses.
    pub low_res: Tensor<5>,
    /// `[batch, masks]`: predicted quality of each mask, without sigmoid; SegVol ignores it.
    pub iou: Tensor<2>,
}

/// The prompts of those rows of a batch that have as many tokens, in the prompt encoder's space.
#[derive(Clone, Debug)]
pub struct PromptTokens {
    /// `[rows, prompts, embed_dim]`.
    pub sparse: Tensor<3>,
    /// `[rows, embed_dim]`.
    pub text: Option<Tensor<2>>,
}

/// The inner stages of one pass, for comparison with the reference.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// IoU token, mask tokens, prompts: `[batch, tokens, embed_dim]`.
    pub tokens: Option<Tensor<3>>,
    /// The two streams after each two-way block.
    pub layers: Vec<Streams>,
    /// Tokens after the last attention and norm.
    pub hs: Option<Tensor<3>>,
    /// After the first transposed convolution and the norm: `[batch, channels, 2d, 2h, 2w]`.
    pub normed: Option<Tensor<5>>,
    /// The up-scaled image: `[batch, channels, 4d, 4h, 4w]`.
    pub upscaled: Option<Tensor<5>>,
    /// Output of the mask networks: `[batch, masks, channels]`.
    pub hyper: Option<Tensor<3>>,
    /// The text in the up-scaled space: `[batch, channels]`.
    pub text: Option<Tensor<2>>,
}

impl MaskDecoder {
    /// A decoder of the configured sizes, its weights drawn at random when first used.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let decoder = &config.mask_decoder;
        let width = config.image_encoder.embed_dim;
        let channels = config.mask_channels();
        let masks = decoder.num_mask_tokens;
        Self {
            transformer: TwoWayTransformer::new(decoder, width, device),
            iou_token: EmbeddingConfig::new(1, width).init(device),
            mask_tokens: EmbeddingConfig::new(masks, width).init(device),
            output_upscaling: OutputUpscaling::new(config, device),
            output_hypernetworks_mlps: (0..masks).map(|_| Mlp::new(width, width, channels, 3, device)).collect(),
            iou_prediction_head: Mlp::new(width, decoder.iou_head_hidden, masks, decoder.iou_head_depth, device),
            txt_align_upscaled_embedding: Linear::new(width, channels, device),
            num_mask_tokens: masks,
        }
    }

    /// # Shapes
    /// - image: `[batch, d * h * w, embed_dim]`, the encoder's output; one row will do where `prompts` is one group
    /// - image_pe: `[1, d * h * w, embed_dim]`; dense_prompt: `[1, 1, embed_dim]`
    /// - prompts: those of the batch's rows, in order
    pub fn forward(
        &self,
        image: Tensor<3>,
        image_pe: Tensor<3>,
        dense_prompt: Tensor<3>,
        prompts: Vec<PromptTokens>,
        effect: &MaskEffect,
    ) -> Masks {
        let decoded = self.transform_groups(image + dense_prompt, image_pe, prompts, effect);
        let upscaled = self.output_upscaling.second(self.output_upscaling.first(decoded.keys));
        let masks = upscaled.matmul(decoded.weights.swap_dims(1, 2));
        Masks { low_res: self.output_upscaling.volume(masks), iou: decoded.iou }
    }

    /// [`forward`](Self::forward) with a dense prompt path: its tokens are the dense prompt, its features join the
    /// up-scaling, and the masks have the window's own size.
    pub fn forward_dense(
        &self,
        image: Tensor<3>,
        image_pe: Tensor<3>,
        (path, features): (&DensePrompt, &DenseFeatures),
        prompts: Vec<PromptTokens>,
        effect: &MaskEffect,
    ) -> Masks {
        let decoded = self.transform_groups(image + features.tokens.clone(), image_pe, prompts, effect);
        let first = self.output_upscaling.first(decoded.keys);
        let upscaled = path.upscale(first, &self.output_upscaling.conv2, features);
        let masks = upscaled.matmul(decoded.weights.swap_dims(1, 2));
        let [batch, _, count] = masks.dims();
        let [d, h, w] = path.window();
        Masks { low_res: masks.swap_dims(1, 2).reshape([batch, count, d, h, w]), iou: decoded.iou }
    }

    /// [`forward`](Self::forward) for one group, noting the inner stages in `trace`.
    pub fn forward_traced(
        &self,
        image: Tensor<3>,
        image_pe: Tensor<3>,
        dense_prompt: Tensor<3>,
        prompts: PromptTokens,
        effect: &MaskEffect,
        trace: &mut Trace,
    ) -> Masks {
        let decoded = self.transform(image + dense_prompt, image_pe, prompts, effect, Some(trace));
        let normed = self.output_upscaling.first(decoded.keys);
        let upscaled = self.output_upscaling.second(normed.clone());
        let masks = upscaled.clone().matmul(decoded.weights.swap_dims(1, 2));
        trace.normed = Some(self.output_upscaling.normed_volume(normed));
        trace.upscaled = Some(self.output_upscaling.volume(upscaled));
        Masks { low_res: self.output_upscaling.volume(masks), iou: decoded.iou }
    }

    /// Everything but the up-scaling: attention knows no rows of different lengths, so each group goes by itself.
    fn transform_groups(
        &self,
        image: Tensor<3>,
        image_pe: Tensor<3>,
        mut prompts: Vec<PromptTokens>,
        effect: &MaskEffect,
    ) -> Transformed {
        if prompts.len() == 1 {
            return self.transform(image, image_pe, prompts.remove(0), effect, None);
        }
        let (mut keys, mut weights, mut iou, mut row) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for group in prompts {
            let rows = group.sparse.dims()[0];
            let done = self.transform(image.clone().narrow(0, row, rows), image_pe.clone(), group, effect, None);
            keys.push(done.keys);
            weights.push(done.weights);
            iou.push(done.iou);
            row += rows;
        }
        Transformed { keys: Tensor::cat(keys, 0), weights: Tensor::cat(weights, 0), iou: Tensor::cat(iou, 0) }
    }

    /// The same for one group, whose image has the dense prompt in it.
    fn transform(
        &self,
        image: Tensor<3>,
        image_pe: Tensor<3>,
        PromptTokens { sparse, text }: PromptTokens,
        effect: &MaskEffect,
        mut trace: Option<&mut Trace>,
    ) -> Transformed {
        let [batch, _, width] = sparse.dims();
        let [_, image_tokens, _] = image.dims();
        let own = Tensor::cat(vec![self.iou_token.weight.val(), self.mask_tokens.weight.val()], 0);
        let own = own.unsqueeze_dim::<3>(0).expand([batch, 1 + self.num_mask_tokens, width]);
        let tokens = Tensor::cat(vec![own, sparse], 1);
        let image = image.expand([batch, image_tokens, width]);

        let Streams { queries: hs, keys } =
            self.transformer.forward_with_layers(image, image_pe, tokens.clone(), |streams| {
                if let Some(trace) = trace.as_deref_mut() {
                    trace.layers.push(streams.clone());
                }
            });
        let iou_token = hs.clone().narrow(1, 0, 1).squeeze_dim::<2>(1);
        let mask_tokens = hs.clone().narrow(1, 1, self.num_mask_tokens);
        let mask_tokens = match &effect.tokens {
            Some(added) => mask_tokens + added.clone(),
            None => mask_tokens,
        };
        let hyper = self.hypernetworks(mask_tokens);
        let text = text.map(|text| self.txt_align_upscaled_embedding.forward(text));
        let weights = match &text {
            // Quirk 29: `text . upscaled` is added to every mask; added here to the masks' own weights, before the
            // one product with the up-scaled image.
            Some(text) => hyper.clone() + text.clone().unsqueeze_dim(1),
            None => hyper.clone(),
        };
        let weights = match &effect.weights {
            Some(added) => weights + added.clone(),
            None => weights,
        };
        if let Some(trace) = trace {
            trace.tokens = Some(tokens);
            trace.hs = Some(hs);
            trace.hyper = Some(hyper);
            trace.text = text;
        }
        Transformed { keys, weights, iou: self.iou_prediction_head.forward(iou_token) }
    }

    fn hypernetworks(&self, mask_tokens: Tensor<3>) -> Tensor<3> {
        let each = self
            .output_hypernetworks_mlps
            .iter()
            .enumerate()
            .map(|(mask, mlp)| mlp.forward(mask_tokens.clone().narrow(1, mask, 1)))
            .collect();
        Tensor::cat(each, 1)
    }
}

/// What the transformer makes of prompts and image.
struct Transformed {
    /// Image tokens, `[batch, tokens, embed_dim]`.
    keys: Tensor<3>,
    /// What the up-scaled image is multiplied with, `[batch, masks, channels]`.
    weights: Tensor<3>,
    iou: Tensor<2>,
}

/// Two transposed convolutions (kernel 2, stride 2) with a norm over the whole volume between them: from one token per
/// patch to features at four times the token grid (quirk 28).
#[derive(Module, Debug)]
pub struct OutputUpscaling {
    conv1: UpConv,
    norm: VolumeNorm,
    conv2: UpConv,
    depth: usize,
    height: usize,
    width: usize,
}

impl OutputUpscaling {
    fn new(config: &ModelConfig, device: &Device) -> Self {
        let [depth, height, width] = config.image_encoder.grid();
        let [first, second] = config.upscaled_channels();
        Self {
            conv1: UpConv::new(config.image_encoder.embed_dim, first, device),
            norm: VolumeNorm::new([first, 2 * depth, 2 * height, 2 * width], device),
            conv2: UpConv::new(first, second, device),
            depth,
            height,
            width,
        }
    }

    /// `[batch, d*h*w, embed_dim]` -> `[batch, 2d*2h*2w, first]`, voxels row-major.
    fn first(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, _, _] = tokens.dims();
        let (d, h, w) = (self.depth, self.height, self.width);
        let taps = self.conv1.forward(tokens);
        let channels = taps.dims()[3];
        let voxels = taps.reshape([batch, d, h, w, 2, 2, 2, channels]).permute([0, 1, 4, 2, 5, 3, 6, 7]).reshape([
            batch,
            8 * d * h * w,
            channels,
        ]);
        self.norm.forward(voxels)
    }

    /// `[batch, 2d*2h*2w, first]` -> `[batch, 4d*4h*4w, second]`, voxels in the order (2d, 2h, 2w, tap).
    fn second(&self, normed: Tensor<3>) -> Tensor<3> {
        let [batch, voxels, _] = normed.dims();
        let taps = nn::gelu(self.conv2.forward(nn::gelu(normed, Kernels::default())), Kernels::default());
        let channels = taps.dims()[3];
        taps.reshape([batch, 8 * voxels, channels])
    }

    /// From the order of [`second`](Self::second) to `[batch, channels, 4d, 4h, 4w]`.
    fn volume(&self, voxels: Tensor<3>) -> Tensor<5> {
        let [batch, _, channels] = voxels.dims();
        let (d, h, w) = (2 * self.depth, 2 * self.height, 2 * self.width);
        voxels.reshape([batch, d, h, w, 2, 2, 2, channels]).permute([0, 7, 1, 4, 2, 5, 3, 6]).reshape([
            batch,
            channels,
            2 * d,
            2 * h,
            2 * w,
        ])
    }

    /// From the order of [`first`](Self::first) to `[batch, channels, 2d, 2h, 2w]`.
    fn normed_volume(&self, voxels: Tensor<3>) -> Tensor<5> {
        let [batch, _, channels] = voxels.dims();
        voxels.swap_dims(1, 2).reshape([batch, channels, 2 * self.depth, 2 * self.height, 2 * self.width])
    }
}

/// A transposed convolution of kernel 2 and stride 2: no two taps overlap, so it is one linear map per voxel.
#[derive(Module, Debug)]
pub struct UpConv {
    /// `[in, out, 2, 2, 2]`, PyTorch's layout.
    weight: Param<Tensor<5>>,
    bias: Param<Tensor<1>>,
}

impl UpConv {
    pub(crate) fn new(input: usize, output: usize, device: &Device) -> Self {
        let initializer = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
        Self {
            weight: initializer.init_with([input, output, 2, 2, 2], Some(input), None, device),
            bias: initializer.init_with([output], Some(input), None, device),
        }
    }

    /// `[batch, voxels, in]` -> `[batch, voxels, 8 taps, out]`, taps row-major over (d, h, w).
    pub(crate) fn forward(&self, voxels: Tensor<3>) -> Tensor<4> {
        let [batch, count, _] = voxels.dims();
        let weight = self.weight.val();
        let [input, output, ..] = weight.dims();
        let weight = weight.reshape([input, output, 8]).swap_dims(1, 2).reshape([1, input, 8 * output]);
        let taps = voxels.matmul(weight).reshape([batch, count, 8, output]);
        taps + self.bias.val().unsqueeze()
    }
}

/// Layer normalisation over channels and voxels together, with a weight and a bias for each element: it bakes the
/// window's resolution into the weights (quirk 28).
#[derive(Module, Debug)]
pub struct VolumeNorm {
    /// `[channels, D, H, W]`.
    weight: Param<Tensor<4>>,
    /// `[channels, D, H, W]`.
    bias: Param<Tensor<4>>,
}

impl VolumeNorm {
    /// PyTorch's default, and the reference's (quirk 4).
    const EPSILON: f64 = 1e-5;

    fn new(shape: [usize; 4], device: &Device) -> Self {
        Self { weight: Initializer::Ones.init(shape, device), bias: Initializer::Zeros.init(shape, device) }
    }

    /// `[batch, voxels, channels]` -> same.
    fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        // Channel by channel first: one float32 sum over millions of elements would lose digits.
        let mean = |x: Tensor<3>| x.mean_dim(2).mean_dim(1);
        let centred = input.clone() - mean(input);
        let variance = mean(centred.clone() * centred.clone());
        let channels_last = |parameter: &Param<Tensor<4>>| {
            let parameter = parameter.val();
            let [channels, d, h, w] = parameter.dims();
            parameter.reshape([1, channels, d * h * w]).swap_dims(1, 2)
        };
        centred / (variance + Self::EPSILON).sqrt() * channels_last(&self.weight) + channels_last(&self.bias)
    }
}

/// Trilinear resampling to `size` with half-pixel centres (`align_corners=False`, quirk 30), as one small matrix
/// product per axis, so that it runs, and has a gradient, on every device.
///
/// # Shapes
/// - input: `[batch, channels, d, h, w]`
/// - output: `[batch, channels, D, H, W]`
pub fn interpolate_trilinear(input: Tensor<5>, size: [usize; 3]) -> Tensor<5> {
    let device = input.device();
    let mut out = input;
    for (axis, &to) in size.iter().enumerate() {
        let dims = out.dims();
        let from = dims[2 + axis];
        if from == to {
            continue;
        }
        let before: usize = dims[..2 + axis].iter().product();
        let after: usize = dims[3 + axis..].iter().product();
        let matrix = Tensor::<2>::from_data(TensorData::new(interpolation_matrix(from, to), [to, from]), &device);
        let product = if after == 1 {
            out.reshape([before, from]).matmul(matrix.transpose()).reshape([before, to, 1])
        } else {
            matrix.unsqueeze_dim::<3>(0).matmul(out.reshape([before, from, after]))
        };
        let mut shape = dims;
        shape[2 + axis] = to;
        out = product.reshape(shape);
    }
    out
}

/// Row-major `[to, from]`: how each output sample mixes its two neighbours.
fn interpolation_matrix(from: usize, to: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; to * from];
    let scale = from as f32 / to as f32;
    for (row, weights) in matrix.chunks_exact_mut(from).enumerate() {
        let source = ((row as f32 + 0.5) * scale - 0.5).max(0.0);
        let low = (source as usize).min(from - 1);
        let high = (low + 1).min(from - 1);
        let fraction = source - low as f32;
        weights[low] += 1.0 - fraction;
        weights[high] += fraction;
    }
    matrix
}

linears!(
    MaskDecoder,
    layers: [txt_align_upscaled_embedding],
    parts: [transformer, iou_prediction_head],
    lists: [output_hypernetworks_mlps]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_matrix_has_half_pixel_centres_and_clamps_at_the_edges() {
        let matrix = interpolation_matrix(2, 4);
        assert_eq!(matrix, [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
        assert_eq!(interpolation_matrix(1, 3), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn upconv_equals_the_transposed_convolution_of_burn() {
        let device = Device::flex();
        let conv = UpConv::new(5, 3, &device);
        let input = Tensor::<5>::random([2, 5, 2, 3, 4], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
        let options = burn::tensor::ops::ConvTransposeOptions::new([2; 3], [0; 3], [0; 3], [1; 3], 1);
        let expected =
            burn::tensor::module::conv_transpose3d(input.clone(), conv.weight.val(), Some(conv.bias.val()), options);
        let voxels = input.reshape([2, 5, 24]).swap_dims(1, 2);
        let got = conv
            .forward(voxels)
            .reshape([2, 2, 3, 4, 2, 2, 2, 3])
            .permute([0, 7, 1, 4, 2, 5, 3, 6])
            .reshape([2, 3, 4, 6, 8]);
        got.into_data().assert_approx_eq::<f32>(&expected.into_data(), burn::tensor::Tolerance::absolute(1e-5));
    }
}
