//! The dense prompt path: box, points and a previous mask as volumes beside the image.
//!
//! SAM feeds a mask prompt through a few convolutions and adds it to the image tokens; SegVol kept that branch in two
//! dimensions and unused (quirk 16). Here it is three-dimensional, reads the window beside the prompts, and has a
//! feature volume for every step of the up-scaling too, as a U-Net's skip connections (Ronneberger et al., arXiv
//! 1505.04597): prompts reach every voxel directly, and masks come out at the window's own resolution.

use crate::config::ModelConfig;
use crate::linear::Linear;
use crate::mask_decoder::UpConv;
use crate::volume_ops::{conv3, gather_blocks, instance_norm_relu, scatter_blocks};
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor, TensorData};

/// Volumes that the path is fed with: see [`DenseInput::volume`].
pub const INPUT_CHANNELS: usize = 8;

/// Reach of a point's blob in voxels of the window: the standard deviation of the narrow one, and of the wide one.
const POINT_SIGMA: [f32; 2] = [1.5, 6.0];
/// Smallest standard deviation intensities are divided by, in units of the window's range.
const MIN_DEVIATION: f32 = 0.01;

/// What the path is fed with.
#[derive(Clone, Copy, Debug)]
pub struct DenseInput<'a> {
    /// The window, row-major (D, H, W), values in `[0, 1]`.
    pub window: &'a [f32],
    /// Its size.
    pub size: [usize; 3],
    /// Points (d, h, w) in voxels with their labels, 1 positive and 0 negative.
    pub points: &'a [([f32; 3], i8)],
    /// A box (d0, h0, w0, d1, h1, w1), inclusive corners.
    pub bounding_box: Option<[f32; 6]>,
    /// A previous mask, of the window's size, from 0 to 1.
    pub mask: Option<&'a [f32]>,
}

impl DenseInput<'_> {
    /// The volumes, `[voxels, 8]`: the window; the window relative to the intensities the prompts point at; the box as a
    /// cube; the ellipsoid in it, falling from its middle; positive points as small blobs; negative points; positive
    /// points as wide blobs; the previous mask, from -1 to 1, or 0 where there is none.
    pub fn volume(&self) -> Vec<f32> {
        let [depth, height, width] = self.size;
        let mut out = vec![0.0; depth * height * width * INPUT_CHANNELS];
        let mut voxels = out.chunks_exact_mut(INPUT_CHANNELS);
        let mut index = 0;
        for d in 0..depth {
            for h in 0..height {
                for w in 0..width {
                    let place = [d, h, w].map(|index| index as f32);
                    let out = voxels.next().expect("a voxel for each place");
                    out[0] = self.window[index] * 2.0 - 1.0;
                    if let Some(corners) = &self.bounding_box {
                        let (inside, radius) = in_box(place, corners);
                        out[2] = f32::from(inside);
                        out[3] = (1.0 - radius).max(0.0);
                    }
                    for (point, label) in self.points {
                        let distance: f32 = (0..3).map(|axis| (place[axis] - point[axis]).powi(2)).sum();
                        let blob = |sigma: f32| (-0.5 * distance / (sigma * sigma)).exp();
                        if distance > (4.0 * POINT_SIGMA[1]).powi(2) {
                            continue;
                        }
                        match label {
                            1 => {
                                out[4] = out[4].max(blob(POINT_SIGMA[0]));
                                out[6] = out[6].max(blob(POINT_SIGMA[1]));
                            }
                            0 => out[5] = out[5].max(blob(POINT_SIGMA[0])),
                            _ => {}
                        }
                    }
                    if let Some(mask) = self.mask {
                        out[7] = mask[index] * 2.0 - 1.0;
                    }
                    index += 1;
                }
            }
        }
        let (mean, deviation) = self.statistics(&out);
        for (out, &value) in out.chunks_exact_mut(INPUT_CHANNELS).zip(self.window) {
            out[1] = ((value - mean) / (2.0 * deviation)).clamp(-4.0, 4.0);
        }
        out
    }

    /// Mean and standard deviation of the intensities the prompts point at: around positive points, else in the previous
    /// mask, else in the middle of the box, else anywhere.
    fn statistics(&self, volume: &[f32]) -> (f32, f32) {
        let weighted = |weight: &dyn Fn(&[f32]) -> f32| {
            let (mut sum, mut first, mut second) = (0.0f64, 0.0f64, 0.0f64);
            for (voxel, &value) in volume.chunks_exact(INPUT_CHANNELS).zip(self.window) {
                let (weight, value) = (f64::from(weight(voxel)), f64::from(value));
                sum += weight;
                first += weight * value;
                second += weight * value * value;
            }
            (sum > 1e-3).then(|| {
                let mean = first / sum;
                (mean as f32, ((second / sum - mean * mean).max(0.0).sqrt() as f32).max(MIN_DEVIATION))
            })
        };
        let kinds: [&dyn Fn(&[f32]) -> f32; 4] =
            [&|voxel| voxel[4], &|voxel| voxel[7].max(0.0), &|voxel| voxel[3] * voxel[3], &|_| 1.0];
        kinds.into_iter().find_map(weighted).unwrap_or((0.5, 0.5))
    }
}

/// Whether a voxel lies in a box, and its distance from the middle where the inscribed ellipsoid ends at 1.
fn in_box(place: [f32; 3], corners: &[f32; 6]) -> (bool, f32) {
    let (mut inside, mut square) = (true, 0.0);
    for axis in 0..3 {
        let (low, high) = (corners[axis] - 0.5, corners[axis + 3] + 0.5);
        inside &= (low..=high).contains(&place[axis]);
        let half = ((high - low) / 2.0).max(0.5);
        square += ((place[axis] - (low + high) / 2.0) / half).powi(2);
    }
    (inside, square.sqrt())
}

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
    /// `[1, tokens, embed_dim]`: added to the image tokens.
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
        let block = |channels| ResidualBlock::new(channels, device);
        Self {
            stem: Conv3::new(INPUT_CHANNELS, full, device),
            down: [(full, half), (half, quarter), (quarter, tokens)]
                .map(|(from, to)| Linear::new(8 * from, to, device))
                .into(),
            encode: vec![block(half), block(quarter)],
            up: UpConv::new(half, full, device),
            refine: vec![block(quarter), block(half), block(full)],
            depth,
            height,
            width,
        }
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
    /// - volume: `[1, D * H * W, 8]`, see [`DenseInput::volume`]
    pub fn forward(&self, volume: Tensor<3>) -> DenseFeatures {
        let full = self.stem.forward(volume, self.size(1));
        let half = self.down[0].forward(gather_blocks(full.clone(), self.size(1)));
        let half = self.encode[0].forward(half, self.size(2));
        let quarter = self.down[1].forward(gather_blocks(half.clone(), self.size(2)));
        let quarter = self.encode[1].forward(quarter, self.size(4));
        let tokens = self.down[2].forward(gather_blocks(quarter.clone(), self.size(4)));
        DenseFeatures { tokens, skips: [quarter, half, full] }
    }

    /// From the decoder's first up-scaling to the features the masks are made of, at the window's resolution.
    ///
    /// # Shapes
    /// - first: `[1, D/4 * H/4 * W/4, embed_dim / 4]`; second: the decoder's second transposed convolution
    /// - output: `[1, D * H * W, embed_dim / 16]`
    pub(crate) fn upscale(&self, first: Tensor<3>, second: &UpConv, features: &DenseFeatures) -> Tensor<3> {
        let [quarter, half, full] = features.skips.clone();
        let up = |conv: &UpConv, x: Tensor<3>, size| {
            let taps = conv.forward(x);
            let [_, voxels, count, channels] = taps.dims();
            scatter_blocks(taps.reshape([1, voxels, count * channels]), size)
        };
        let x = self.refine[0].forward(first + quarter, self.size(4));
        let x = self.refine[1].forward(up(second, x, self.size(2)) + half, self.size(2));
        self.refine[2].forward(up(&self.up, x, self.size(1)) + full, self.size(1))
    }
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
}

impl Conv3 {
    fn new(input: usize, output: usize, device: &Device) -> Self {
        let initializer = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
        Self {
            weight: initializer.init_with([output, input, 3, 3, 3], Some(27 * input), None, device),
            bias: initializer.init_with([output], Some(27 * input), None, device),
        }
    }

    fn forward(&self, x: Tensor<3>, size: [usize; 3]) -> Tensor<3> {
        conv3(x, size, self.weight.val(), self.bias.val())
    }
}

/// The path's input as a tensor, `[1, voxels, 8]`.
pub fn input_tensor(input: &DenseInput, device: &Device) -> Tensor<3> {
    let volume = input.volume();
    let voxels = volume.len() / INPUT_CHANNELS;
    Tensor::from_data(TensorData::new(volume, [1, voxels, INPUT_CHANNELS]), device)
}
