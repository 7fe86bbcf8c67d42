//! The dense prompt path: box, points and a previous mask as volumes beside the image.
//!
//! SAM feeds a mask prompt through a few convolutions and adds it to the image tokens; SegVol kept that branch in two
//! dimensions and unused (quirk 16). Here it is three-dimensional, reads the window beside the prompts, and has a
//! feature volume for every step of the up-scaling too, as a U-Net's skip connections (Ronneberger et al., arXiv
//! 1505.04597): prompts reach every voxel directly, and masks come out at the window's own resolution.

use crate::config::ModelConfig;
pub use crate::dense_input::{BEST_REGIONS, DenseInput, INPUT_CHANNELS, PROPOSAL, channels_without};
use crate::linear::Linear;
use crate::mask_decoder::UpConv;
use crate::volume_ops::{conv3, gather_blocks, instance_norm_relu, scatter_blocks};
pub use crate::window_maps::equalised;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, TensorData};

/// The dense prompt path.
#[derive(Module, Debug)]
pub struct DensePrompt {
    stem: Conv3,
    down: Vec<Linear>,
    encode: Vec<ResidualBlock>,
    up: UpConv,
    refine: Vec<ResidualBlock>,
    depth: usize,
    height: usize,
    width: usize,
}

/// What the path makes of its input.
#[derive(Clone, Debug)]
pub struct DenseFeatures {
    /// `[batch, tokens, embed_dim]`: added to the image tokens.
    pub tokens: Tensor<3>,
    /// At a quarter, a half and the whole of the window's resolution: added to the up-scaled features.
    skips: [Tensor<3>; 3],
}

impl DensePrompt {
    /// A path of the configured sizes, its weights drawn at random when first used.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let [quarter, half, full] = config.dense_channels();
        let tokens = config.image_encoder.embed_dim;
        let [depth, height, width] = config.image_encoder.image_size;
        let blocks = |channels: Vec<usize>| channels.into_iter().map(|channels| ResidualBlock::new(channels, device));
        let [encode, refine] = config.dense_blocks();
        Self {
            stem: Conv3::new(INPUT_CHANNELS, full, device),
            down: [(full, half), (half, quarter), (quarter, tokens)]
                .map(|(from, to)| Linear::new(8 * from, to, device))
                .into(),
            encode: blocks(encode).collect(),
            up: UpConv::new(half, full, device),
            refine: blocks(refine).collect(),
            depth,
            height,
            width,
        }
    }

    /// Lets the convolutions learn in bfloat16, where the device has it.
    pub(crate) fn learn_in_bf16(&mut self) {
        let blocks = self.encode.iter_mut().chain(&mut self.refine).map(|block| &mut block.conv);
        blocks.chain([&mut self.stem]).for_each(|conv| conv.bf16 = true);
    }

    /// The window's size.
    pub(crate) fn window(&self) -> [usize; 3] {
        self.size(1)
    }

    /// The window's size divided by `by`.
    fn size(&self, by: usize) -> [usize; 3] {
        [self.depth / by, self.height / by, self.width / by]
    }

    /// # Shapes
    /// - volume: `[batch, D * H * W, 20]`, see [`DenseInput::volume`]
    pub fn forward(&self, volume: Tensor<3>) -> DenseFeatures {
        let full = self.stem.forward(volume, self.size(1));
        let half = self.down[0].forward(gather_blocks(full.clone(), self.size(1)));
        let half = run(&self.encode[..2], half, self.size(2));
        let quarter = self.down[1].forward(gather_blocks(half.clone(), self.size(2)));
        let quarter = run(&self.encode[2..], quarter, self.size(4));
        let tokens = self.down[2].forward(gather_blocks(quarter.clone(), self.size(4)));
        DenseFeatures { tokens, skips: [quarter, half, full] }
    }

    /// From the decoder's first up-scaling to the features the masks are made of, at the window's resolution.
    ///
    /// # Shapes
    /// - first: `[batch, D/4 * H/4 * W/4, embed_dim / 4]`; second: the decoder's second transposed convolution
    /// - output: `[batch, D * H * W, embed_dim / 16]`
    pub(crate) fn upscale(&self, first: Tensor<3>, second: &UpConv, features: &DenseFeatures) -> Tensor<3> {
        let [quarter, half, full] = features.skips.clone();
        let up = |conv: &UpConv, x: Tensor<3>, size| {
            let taps = conv.forward(x);
            let [batch, voxels, count, channels] = taps.dims();
            scatter_blocks(taps.reshape([batch, voxels, count * channels]), size)
        };
        let x = run(&self.refine[..2], first + quarter, self.size(4));
        let x = run(&self.refine[2..4], up(second, x, self.size(2)) + half, self.size(2));
        run(&self.refine[4..], up(&self.up, x, self.size(1)) + full, self.size(1))
    }
}

/// One block after the other, at one resolution.
fn run(blocks: &[ResidualBlock], x: Tensor<3>, size: [usize; 3]) -> Tensor<3> {
    blocks.iter().fold(x, |x, block| block.forward(x, size))
}

/// `x + conv(relu(norm(x)))` (He et al., arXiv 1603.05027, with instance norm).
#[derive(Module, Debug)]
pub struct ResidualBlock {
    norm: InstanceNorm,
    conv: Conv3,
}

impl ResidualBlock {
    fn new(channels: usize, device: &Device) -> Self {
        let ones = Initializer::Ones.init([channels], device);
        let zeros = Initializer::Zeros.init([channels], device);
        Self { norm: InstanceNorm { weight: ones, bias: zeros }, conv: Conv3::new(channels, channels, device) }
    }

    fn forward(&self, x: Tensor<3>, size: [usize; 3]) -> Tensor<3> {
        let normed = instance_norm_relu(x.clone(), self.norm.weight.val(), self.norm.bias.val());
        x + self.conv.forward(normed, size)
    }
}

/// The parameters of an instance norm.
#[derive(Module, Debug)]
pub struct InstanceNorm {
    /// `[channels]`.
    weight: Param<Tensor<1>>,
    /// `[channels]`.
    bias: Param<Tensor<1>>,
}

/// A convolution of kernel 3.
#[derive(Module, Debug)]
pub struct Conv3 {
    /// `[out, in, 3, 3, 3]`, PyTorch's layout.
    weight: Param<Tensor<5>>,
    /// `[out]`.
    bias: Param<Tensor<1>>,
    /// Learns in bfloat16 on libtorch.
    #[module(skip)]
    bf16: bool,
}

impl Conv3 {
    fn new(input: usize, output: usize, device: &Device) -> Self {
        let initializer = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
        Self {
            weight: initializer.init_with([output, input, 3, 3, 3], Some(27 * input), None, device),
            bias: initializer.init_with([output], Some(27 * input), None, device),
            bf16: false,
        }
    }

    fn forward(&self, x: Tensor<3>, size: [usize; 3]) -> Tensor<3> {
        conv3(x, size, self.weight.val(), self.bias.val(), self.bf16)
    }
}

/// The path's input as a tensor, `[1, voxels, 20]`.
pub fn input_tensor(input: &DenseInput, device: &Device) -> Tensor<3> {
    let volume = input.volume();
    let voxels = volume.len() / INPUT_CHANNELS;
    Tensor::from_data(TensorData::new(volume, [1, voxels, INPUT_CHANNELS]), device)
}
