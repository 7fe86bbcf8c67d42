//! Convolution over three axes with a kernel of 3 x 3 x 3, and its gradients.
//!
//! Volumes are channels-last, `[D, H, W, C]`: the products of one voxel with all output channels are then one vector
//! instruction, and nothing is rearranged before or after. Outside the volume there are zeros ("same" padding).

use crate::cpu::{Cpu, Kernel};
use crate::math::mul_add;
use rayon::prelude::*;

/// Output channels that are computed together.
const GROUP: usize = 16;
/// Voxels of a row that are computed together: with one group of channels this many sums stay in registers.
const TILE: usize = 12;
/// Taps of the kernel.
const TAPS: usize = 27;
/// Parts into which the gradient by the weights is summed: a fixed number, so that the sum does not depend on how many
/// threads there are.
const PARTS: usize = 4;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3Shape {
    /// (D, H, W).
    pub size: [usize; 3],
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
}

impl Conv3Shape {
    fn voxels(&self) -> usize {
        self.size.iter().product()
    }

    fn check(&self, x: usize, weight: usize, y: usize) {
        assert!(self.inputs > 0 && self.outputs > 0, "conv3: no channels");
        assert_eq!(x, self.voxels() * self.inputs, "conv3: x is not [D, H, W, inputs]");
        assert_eq!(weight, TAPS * self.inputs * self.outputs, "conv3: weight is not [27, inputs, outputs]");
        assert_eq!(y, self.voxels() * self.outputs, "conv3: y is not [D, H, W, outputs]");
    }
}

/// `out = conv(x, weight) + bias`.
///
/// # Shapes
/// - x: `[D, H, W, inputs]`
/// - weight: `[27, inputs, outputs]`, taps row-major over (d, h, w), as a cross-correlation
/// - bias: `[outputs]`
/// - out: `[D, H, W, outputs]`; what it held before does not matter
///
/// # Panics
/// If a slice is not as long as its shape says, or there are no channels.
pub fn conv3(shape: &Conv3Shape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    conv3_on(Cpu::detect(), shape, x, weight, bias, out);
}

fn conv3_on(cpu: Cpu, shape: &Conv3Shape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    shape.check(x.len(), weight.len(), out.len());
    if let Some(bias) = bias {
        assert_eq!(bias.len(), shape.outputs, "conv3: bias is not [outputs]");
    }
    let padded = Padded::new(shape.size, shape.inputs, x);
    let packed = pack(weight, shape.inputs, shape.outputs);
    let [_, height, width] = shape.size;
    out.par_chunks_mut(height * width * shape.outputs).enumerate().for_each(|(depth, plane)| {
        cpu.run(Plane { shape, padded: &padded, packed: &packed, bias, depth, plane });
    });
}

/// The gradient by the input: the convolution of `grad` with the kernel turned round.
///
/// # Shapes
/// - grad: `[D, H, W, outputs]`; weight: `[27, inputs, outputs]`; out: `[D, H, W, inputs]`
///
/// # Panics
/// As [`conv3`].
pub fn conv3_input_gradient(shape: &Conv3Shape, grad: &[f32], weight: &[f32], out: &mut [f32]) {
    shape.check(out.len(), weight.len(), grad.len());
    let &Conv3Shape { size, inputs, outputs } = shape;
    let mut turned = vec![0.0; weight.len()];
    for (tap, to) in turned.chunks_exact_mut(inputs * outputs).enumerate() {
        let from = &weight[(TAPS - 1 - tap) * inputs * outputs..][..inputs * outputs];
        for (output, row) in to.chunks_exact_mut(inputs).enumerate() {
            for (input, value) in row.iter_mut().enumerate() {
                *value = from[input * outputs + output];
            }
        }
    }
    conv3(&Conv3Shape { size, inputs: outputs, outputs: inputs }, grad, &turned, None, out);
}

/// The gradient by the weights and the bias.
///
/// # Shapes
/// - x: `[D, H, W, inputs]`; grad: `[D, H, W, outputs]`; weight: `[27, inputs, outputs]`; bias: `[outputs]`
///
/// # Panics
/// As [`conv3`].
pub fn conv3_weight_gradient(shape: &Conv3Shape, x: &[f32], grad: &[f32], weight: &mut [f32], bias: &mut [f32]) {
    shape.check(x.len(), weight.len(), grad.len());
    let &Conv3Shape { size: [depth, height, width], inputs, outputs } = shape;
    assert_eq!(bias.len(), outputs, "conv3: bias is not [outputs]");
    let (cpu, padded) = (Cpu::detect(), Padded::new(shape.size, inputs, x));
    let groups = outputs.div_ceil(GROUP);
    // [tap, input, group, lane] and one more row for the bias.
    let length = (TAPS * inputs + 1) * groups * GROUP;
    let sums: Vec<Vec<f32>> = (0..PARTS)
        .into_par_iter()
        .map(|part| {
            let mut sums = vec![0.0; length];
            for d in depth * part / PARTS..depth * (part + 1) / PARTS {
                let plane = &grad[d * height * width * outputs..][..height * width * outputs];
                cpu.run(WeightGradient { shape, padded: &padded, plane, depth: d, sums: &mut sums });
            }
            sums
        })
        .collect();
    let total = |index: usize| sums.iter().map(|part| part[index]).sum::<f32>();
    let stride = groups * GROUP;
    for (row, out) in weight.chunks_exact_mut(outputs).chain([bias]).enumerate() {
        for (output, value) in out.iter_mut().enumerate() {
            *value = total(row * stride + output);
        }
    }
}

/// The input with a border of zeros one voxel wide, and some more at the end so that a tile may read past its row.
struct Padded {
    data: Vec<f32>,
    /// Elements from one row to the next, and from one plane to the next.
    row: usize,
    plane: usize,
}

impl Padded {
    fn new([depth, height, width]: [usize; 3], channels: usize, x: &[f32]) -> Self {
        let row = (width + 2) * channels;
        let plane = (height + 2) * row;
        let mut data = vec![0.0; (depth + 2) * plane + TILE * channels];
        for (index, from) in x.chunks_exact(width * channels).enumerate() {
            let (d, h) = (index / height, index % height);
            let start = (d + 1) * plane + (h + 1) * row + channels;
            data[start..start + from.len()].copy_from_slice(from);
        }
        Self { data, row, plane }
    }
}

/// `[27, inputs, outputs]` -> `[group, 27, inputs, lane]`, zeros where a group is not full.
fn pack(weight: &[f32], inputs: usize, outputs: usize) -> Vec<[f32; GROUP]> {
    let mut packed = Vec::with_capacity(outputs.div_ceil(GROUP) * TAPS * inputs);
    for first in (0..outputs).step_by(GROUP) {
        let count = GROUP.min(outputs - first);
        for row in weight.chunks_exact(outputs) {
            let mut lanes = [0.0; GROUP];
            lanes[..count].copy_from_slice(&row[first..first + count]);
            packed.push(lanes);
        }
    }
    packed
}

/// One plane of the output.
struct Plane<'a> {
    shape: &'a Conv3Shape,
    padded: &'a Padded,
    packed: &'a [[f32; GROUP]],
    bias: Option<&'a [f32]>,
    depth: usize,
    plane: &'a mut [f32],
}

impl Kernel for Plane<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let &Conv3Shape { size: [_, height, width], inputs, outputs } = self.shape;
        for (group, weights) in self.packed.chunks_exact(TAPS * inputs).enumerate() {
            let first = group * GROUP;
            let count = GROUP.min(outputs - first);
            let mut start = [0.0; GROUP];
            if let Some(bias) = self.bias {
                start[..count].copy_from_slice(&bias[first..first + count]);
            }
            for h in 0..height {
                for w in (0..width).step_by(TILE) {
                    let at = self.depth * self.padded.plane + h * self.padded.row + w * inputs;
                    let sums = tile::<FMA>(self.padded, at, inputs, weights, start);
                    for (i, sums) in sums.iter().enumerate().take(width - w) {
                        let to = (h * width + w + i) * outputs + first;
                        self.plane[to..to + count].copy_from_slice(&sums[..count]);
                    }
                }
            }
        }
    }
}

/// The sums of [`TILE`] neighbouring voxels for one group of channels.
#[inline(always)]
fn tile<const FMA: bool>(
    padded: &Padded,
    at: usize,
    inputs: usize,
    weights: &[[f32; GROUP]],
    start: [f32; GROUP],
) -> [[f32; GROUP]; TILE] {
    let mut sums = [start; TILE];
    for (tap, weights) in weights.chunks_exact(inputs).enumerate() {
        let (d, h, w) = (tap / 9, tap / 3 % 3, tap % 3);
        let from = at + d * padded.plane + h * padded.row + w * inputs;
        let x = &padded.data[from..from + TILE * inputs];
        for (channel, weights) in weights.iter().enumerate() {
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `x` has TILE * inputs elements, `i < TILE` and `channel < inputs`.
                let x = unsafe { *x.get_unchecked(i * inputs + channel) };
                for lane in 0..GROUP {
                    sums[lane] = mul_add::<FMA>(x, weights[lane], sums[lane]);
                }
            }
        }
    }
    sums
}

/// What one plane of the output adds to the gradient by the weights.
struct WeightGradient<'a> {
    shape: &'a Conv3Shape,
    padded: &'a Padded,
    plane: &'a [f32],
    depth: usize,
    /// `[27 * inputs + 1, groups * GROUP]`.
    sums: &'a mut [f32],
}

/// Taps in one plane of the kernel: their sums stay in registers together.
const PLANE_TAPS: usize = 9;

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let &Conv3Shape { size: [_, height, width], inputs, outputs } = self.shape;
        let stride = outputs.div_ceil(GROUP) * GROUP;
        // The gradient of one group of channels, a few rows at a time so that it stays in the first cache.
        let rows = (256 / width).max(1);
        let mut gradient: Vec<[f32; GROUP]> = Vec::with_capacity(rows * width);
        for first in (0..outputs).step_by(GROUP) {
            let count = GROUP.min(outputs - first);
            for h in (0..height).step_by(rows) {
                let last = (h + rows).min(height);
                gradient.clear();
                gradient.extend(self.plane[h * width * outputs..last * width * outputs].chunks_exact(outputs).map(
                    |voxel| {
                        let mut lanes = [0.0; GROUP];
                        lanes[..count].copy_from_slice(&voxel[first..first + count]);
                        lanes
                    },
                ));
                for tap_plane in 0..3 {
                    for channel in 0..inputs {
                        let at = (self.depth + tap_plane) * self.padded.plane + h * self.padded.row + channel;
                        let sums = products::<FMA>(self.padded, at, inputs, width, &gradient);
                        for (tap, sums) in sums.iter().enumerate() {
                            let to = ((tap_plane * PLANE_TAPS + tap) * inputs + channel) * stride + first;
                            self.sums[to..to + GROUP].iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                        }
                    }
                }
                let to = TAPS * inputs * stride + first;
                for voxel in &gradient {
                    self.sums[to..to + GROUP].iter_mut().zip(voxel).for_each(|(to, sum)| *to += sum);
                }
            }
        }
    }
}

/// The products of one input channel under the taps of a plane, the first at `at`, with a group of output channels,
/// summed over rows.
#[inline(always)]
fn products<const FMA: bool>(
    padded: &Padded,
    at: usize,
    inputs: usize,
    width: usize,
    gradient: &[[f32; GROUP]],
) -> [[f32; GROUP]; PLANE_TAPS] {
    let mut sums = [[0.0; GROUP]; PLANE_TAPS];
    for (row, gradient) in gradient.chunks_exact(width).enumerate() {
        let from = at + row * padded.row;
        let x = &padded.data[from..from + 2 * padded.row + (width + 1) * inputs + 1];
        for (w, gradient) in gradient.iter().enumerate() {
            for (tap, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `w < width`, and `x` reaches two rows and `width + 1` voxels on.
                let x = unsafe { *x.get_unchecked(tap / 3 * padded.row + (w + tap % 3) * inputs) };
                for lane in 0..GROUP {
                    sums[lane] = mul_add::<FMA>(x, gradient[lane], sums[lane]);
                }
            }
        }
    }
    sums
}

/// Blocks of 2 x 2 x 2 voxels become one voxel of eight times the channels: what a convolution of stride 2 reads.
///
/// # Shapes
/// - x: `[D, H, W, C]`, sizes even; out: `[D/2, H/2, W/2, 8 * C]`, the eight voxels row-major over (d, h, w)
///
/// # Panics
/// If a size is odd or a slice too short.
pub fn gather_blocks(size: [usize; 3], channels: usize, x: &[f32], out: &mut [f32]) {
    check_blocks(size, channels, x, out);
    let [_, height, width] = size;
    let planes = 2 * height * width * channels;
    out.par_chunks_mut(planes).zip(x.par_chunks(planes)).for_each(|(out, x)| {
        for (run, from) in out.chunks_exact_mut(channels).zip(block_order(height, width)) {
            run.copy_from_slice(&x[from * channels..][..channels]);
        }
    });
}

/// Voxels of two planes in the order of their blocks.
fn block_order(height: usize, width: usize) -> impl Iterator<Item = usize> {
    (0..height).step_by(2).flat_map(move |h| {
        (0..width)
            .step_by(2)
            .flat_map(move |w| (0..8).map(move |tap| ((tap / 4) * height + h + tap / 2 % 2) * width + w + tap % 2))
    })
}

fn check_blocks(size: [usize; 3], channels: usize, x: &[f32], out: &[f32]) {
    assert!(size.iter().all(|size| size % 2 == 0), "blocks: a size of {size:?} is odd");
    let elements = size.iter().product::<usize>() * channels;
    assert!(channels > 0 && x.len() == elements && out.len() == elements, "blocks: slices do not fit {size:?}");
}

/// The way back from [`gather_blocks`], which is also its gradient.
///
/// # Shapes
/// - x: `[D/2, H/2, W/2, 8 * C]`; out: `[D, H, W, C]`
///
/// # Panics
/// As [`gather_blocks`].
pub fn scatter_blocks(size: [usize; 3], channels: usize, x: &[f32], out: &mut [f32]) {
    check_blocks(size, channels, x, out);
    let [_, height, width] = size;
    let planes = 2 * height * width * channels;
    out.par_chunks_mut(planes).zip(x.par_chunks(planes)).for_each(|(out, x)| {
        for (run, to) in x.chunks_exact(channels).zip(block_order(height, width)) {
            out[to * channels..][..channels].copy_from_slice(run);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{max_error, random};

    const SHAPES: [Conv3Shape; 5] = [
        Conv3Shape { size: [1, 1, 1], inputs: 1, outputs: 1 },
        Conv3Shape { size: [2, 3, 5], inputs: 3, outputs: 17 },
        Conv3Shape { size: [4, 6, 12], inputs: 8, outputs: 16 },
        Conv3Shape { size: [5, 4, 13], inputs: 16, outputs: 40 },
        Conv3Shape { size: [3, 3, 25], inputs: 9, outputs: 8 },
    ];

    /// Calls `visit` with the voxel, the tap and the neighbour under the tap, inside the volume only.
    fn neighbours([depth, height, width]: [usize; 3], mut visit: impl FnMut(usize, usize, usize)) {
        for (d, h, w) in (0..depth).flat_map(|d| (0..height).flat_map(move |h| (0..width).map(move |w| (d, h, w)))) {
            for tap in 0..TAPS {
                let at = [d + tap / 9, h + tap / 3 % 3, w + tap % 3].map(|index| index.wrapping_sub(1));
                if at[0] < depth && at[1] < height && at[2] < width {
                    visit((d * height + h) * width + w, tap, (at[0] * height + at[1]) * width + at[2]);
                }
            }
        }
    }

    #[test]
    fn it_and_its_gradients_agree_with_the_definition() {
        for shape in SHAPES {
            let Conv3Shape { size, inputs, outputs } = shape;
            let voxels = shape.voxels();
            let scale = 1.0 / (27.0 * inputs as f32).sqrt();
            let (x, grad) = (random(voxels * inputs, 1), random(voxels * outputs, 2));
            let weight: Vec<f32> = random(TAPS * inputs * outputs, 3).iter().map(|w| w * scale).collect();
            let bias = random(outputs, 4);
            let mut want: Vec<f64> = (0..voxels * outputs).map(|i| f64::from(bias[i % outputs])).collect();
            let mut by_x = vec![0.0; x.len()];
            let mut by_weight = vec![0.0; weight.len()];
            let mut by_bias = vec![0.0; outputs];
            grad.iter().enumerate().for_each(|(i, &g)| by_bias[i % outputs] += f64::from(g));
            neighbours(size, |voxel, tap, other| {
                for (i, o) in (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
                    let at = (tap * inputs + i) * outputs + o;
                    let (x, w) = (f64::from(x[other * inputs + i]), f64::from(weight[at]));
                    let g = f64::from(grad[voxel * outputs + o]);
                    want[voxel * outputs + o] += x * w;
                    by_x[other * inputs + i] += g * w;
                    by_weight[at] += g * x;
                }
            });
            for cpu in Cpu::available() {
                let mut got = vec![f32::NAN; want.len()];
                conv3_on(cpu, &shape, &x, &weight, Some(&bias), &mut got);
                assert!(max_error(&got, &want) < 1e-5, "{cpu:?} {shape:?}");
            }
            let mut got = vec![f32::NAN; x.len()];
            conv3_input_gradient(&shape, &grad, &weight, &mut got);
            assert!(max_error(&got, &by_x) < 1e-5, "{shape:?}: input");
            let (mut got, mut got_bias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; outputs]);
            conv3_weight_gradient(&shape, &x, &grad, &mut got, &mut got_bias);
            assert!(max_error(&got, &by_weight) < 1e-4, "{shape:?}: weight");
            assert!(max_error(&got_bias, &by_bias) < 1e-4, "{shape:?}: bias");
        }
    }

    #[test]
    fn blocks_are_gathered_in_order_and_scattered_back() {
        let (size, channels) = ([4, 2, 6], 3);
        let x = random(size.iter().product::<usize>() * channels, 1);
        let (mut coarse, mut back) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        gather_blocks(size, channels, &x, &mut coarse);
        // Block (1, 0, 2), tap (1, 0, 1): voxel (3, 0, 5).
        let (block, tap) = (3 + 2, 5);
        let (coarse_at, fine_at) = ((block * 8 + tap) * channels, ((3 * 2) * 6 + 5) * channels);
        assert_eq!(coarse[coarse_at..][..channels], x[fine_at..][..channels]);
        scatter_blocks(size, channels, &coarse, &mut back);
        assert_eq!(back, x);
    }

    #[test]
    #[should_panic(expected = "weight is not [27, inputs, outputs]")]
    fn a_short_weight_is_refused() {
        let shape = Conv3Shape { size: [2, 2, 2], inputs: 2, outputs: 2 };
        conv3(&shape, &[0.0; 16], &[0.0; 4], None, &mut [0.0; 16]);
    }
}
