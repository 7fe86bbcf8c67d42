//! Instance normalisation with the ReLU that follows it, and their gradient.

use crate::cpu::{Cpu, Kernel};
use crate::math::mul_add;
use rayon::prelude::*;

/// Voxels that are summed at a time: a fixed number, so that sums do not depend on how many threads there are.
const BLOCK: usize = 4096;

/// What the gradient needs to know of the way there.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStatistics {
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// `1 / sqrt(variance + eps)` of each channel.
    pub inverse: Vec<f32>,
}

/// `out = max(0, (x - mean) / sqrt(variance + eps) * gamma + beta)`, mean and population variance of each channel over
/// all voxels (Ulyanov et al., arXiv 1607.08022).
///
/// # Shapes
/// - x, out: `[voxels, channels]`; gamma, beta: `[channels]`
///
/// # Panics
/// If a slice is not as long as its shape says, or there are no voxels.
pub fn instance_norm_relu(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) -> ChannelStatistics {
    let channels = gamma.len();
    check(x.len(), channels, [beta.len(), channels], out.len());
    let voxels = (x.len() / channels) as f64;
    let cpu = Cpu::detect();
    let sums = |centre: &[f32]| blocks(x, x, channels, |x, _, sums| cpu.run(Moments { x, centre, sums }));
    // Around some value of the channel, then around the mean: nothing is lost where the mean is large.
    let some = &x[..channels];
    let first = sums(some);
    let mean: Vec<f32> = (0..channels).map(|c| (f64::from(some[c]) + first[c] / voxels) as f32).collect();
    let second = sums(&mean);
    let inverse: Vec<f32> =
        second[channels..].iter().map(|sum| (1.0 / (sum / voxels + f64::from(eps)).sqrt()) as f32).collect();
    let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(gamma, inverse)| gamma * inverse).collect();
    out.par_chunks_mut(BLOCK * channels)
        .zip(x.par_chunks(BLOCK * channels))
        .for_each(|(out, x)| cpu.run(Apply { x, mean: &mean, scale: &scale, beta, out }));
    ChannelStatistics { mean, inverse }
}

/// Gradients of [`instance_norm_relu`].
///
/// # Shapes
/// - x, grad, by_x: `[voxels, channels]`; the others: `[channels]`
///
/// # Panics
/// As [`instance_norm_relu`].
#[expect(clippy::too_many_arguments, reason = "three inputs, what was noted of them, and three gradients")]
pub fn instance_norm_relu_gradient(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    statistics: &ChannelStatistics,
    grad: &[f32],
    by_x: &mut [f32],
    by_gamma: &mut [f32],
    by_beta: &mut [f32],
) {
    let channels = gamma.len();
    check(x.len(), channels, [beta.len(), by_gamma.len().max(by_beta.len())], grad.len());
    check(x.len(), channels, [statistics.mean.len(), statistics.inverse.len()], by_x.len());
    let cpu = Cpu::detect();
    let line = Line { gamma, beta, mean: &statistics.mean, inverse: &statistics.inverse };
    let sums = blocks(x, grad, channels, |x, grad, sums| cpu.run(Sums { x, grad, line, sums }));
    let voxels = (x.len() / channels) as f64;
    for c in 0..channels {
        by_beta[c] = sums[c] as f32;
        by_gamma[c] = sums[channels + c] as f32;
    }
    let mean_of = |from: usize| sums[from..from + channels].iter().map(|sum| (sum / voxels) as f32).collect::<Vec<_>>();
    let (mean_grad, mean_product) = (mean_of(0), mean_of(channels));
    by_x.par_chunks_mut(BLOCK * channels)
        .zip(x.par_chunks(BLOCK * channels))
        .zip(grad.par_chunks(BLOCK * channels))
        .for_each(|((out, x), grad)| {
            cpu.run(Back { x, grad, line, mean_grad: &mean_grad, mean_product: &mean_product, out });
        });
}

fn check(x: usize, channels: usize, others: [usize; 2], out: usize) {
    assert!(channels > 0 && x > 0 && x.is_multiple_of(channels), "instance_norm: x is not [voxels, {channels}]");
    assert_eq!(others, [channels; 2], "instance_norm: parameters are not [channels]");
    assert_eq!(out, x, "instance_norm: slices differ in length");
}

/// Two sums for each channel over all voxels, block by block and then in order.
fn blocks(x: &[f32], grad: &[f32], channels: usize, sum: impl Fn(&[f32], &[f32], &mut [f32]) + Sync) -> Vec<f64> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks(BLOCK * channels)
        .zip(grad.par_chunks(BLOCK * channels))
        .map(|(x, grad)| {
            let mut sums = vec![0.0; 2 * channels];
            sum(x, grad, &mut sums);
            sums
        })
        .collect();
    (0..2 * channels).map(|index| parts.iter().map(|part| f64::from(part[index])).sum()).collect()
}

struct Moments<'a> {
    x: &'a [f32],
    centre: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Moments<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (first, second) = self.sums.split_at_mut(self.centre.len());
        for x in self.x.chunks_exact(self.centre.len()) {
            for (((x, centre), first), second) in x.iter().zip(self.centre).zip(&mut *first).zip(&mut *second) {
                let difference = x - centre;
                *first += difference;
                *second = mul_add::<FMA>(difference, difference, *second);
            }
        }
    }
}

struct Apply<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    beta: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let channels = self.scale.len();
        for (x, out) in self.x.chunks_exact(channels).zip(self.out.chunks_exact_mut(channels)) {
            for c in 0..channels {
                let value = mul_add::<FMA>(x[c] - self.mean[c], self.scale[c], self.beta[c]);
                // Written so that NaN passes.
                out[c] = if value < 0.0 { 0.0 } else { value };
            }
        }
    }
}

/// What a channel is multiplied with and what is added to it.
#[derive(Clone, Copy)]
struct Line<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    mean: &'a [f32],
    inverse: &'a [f32],
}

impl Line<'_> {
    /// The normalised value, and whether ReLU lets it through.
    #[inline(always)]
    fn at<const FMA: bool>(&self, channel: usize, x: f32) -> (f32, bool) {
        let normal = (x - self.mean[channel]) * self.inverse[channel];
        (normal, mul_add::<FMA>(normal, self.gamma[channel], self.beta[channel]) > 0.0)
    }
}

struct Sums<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    line: Line<'a>,
    sums: &'a mut [f32],
}

impl Kernel for Sums<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let channels = self.line.gamma.len();
        let (by_beta, by_gamma) = self.sums.split_at_mut(channels);
        for (x, grad) in self.x.chunks_exact(channels).zip(self.grad.chunks_exact(channels)) {
            for c in 0..channels {
                let (normal, on) = self.line.at::<FMA>(c, x[c]);
                let grad = if on { grad[c] } else { 0.0 };
                by_beta[c] += grad;
                by_gamma[c] = mul_add::<FMA>(grad, normal, by_gamma[c]);
            }
        }
    }
}

struct Back<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    line: Line<'a>,
    mean_grad: &'a [f32],
    mean_product: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Back<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let channels = self.line.gamma.len();
        let rows = self.x.chunks_exact(channels).zip(self.grad.chunks_exact(channels));
        for ((x, grad), out) in rows.zip(self.out.chunks_exact_mut(channels)) {
            for c in 0..channels {
                let (normal, on) = self.line.at::<FMA>(c, x[c]);
                let grad = if on { grad[c] } else { 0.0 };
                let centred = grad - self.mean_grad[c] - normal * self.mean_product[c];
                out[c] = self.line.gamma[c] * self.line.inverse[c] * centred;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{max_error, random};

    const EPS: f32 = 1e-5;

    fn reference(x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let channels = gamma.len();
        let voxels = x.len() / channels;
        let mut out = vec![0.0; x.len()];
        for c in 0..channels {
            let of = |v: usize| x[v * channels + c];
            let mean = (0..voxels).map(of).sum::<f64>() / voxels as f64;
            let variance = (0..voxels).map(|v| (of(v) - mean).powi(2)).sum::<f64>() / voxels as f64;
            for v in 0..voxels {
                let normal = (of(v) - mean) / (variance + f64::from(EPS)).sqrt();
                out[v * channels + c] = (normal * gamma[c] + beta[c]).max(0.0);
            }
        }
        out
    }

    #[test]
    fn values_and_gradients_agree_with_f64() {
        for (voxels, channels, offset) in [(2, 1, 0.0), (37, 5, 3.0), (5000, 16, 100.0)] {
            let x: Vec<f32> = random(voxels * channels, 1).iter().map(|x| x + offset).collect();
            let (gamma, beta, grad) = (random(channels, 2), random(channels, 3), random(x.len(), 4));
            let double = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
            let exact = [double(&x), double(&gamma), double(&beta)];
            let mut out = vec![f32::NAN; x.len()];
            let statistics = instance_norm_relu(&x, &gamma, &beta, EPS, &mut out);
            let error = max_error(&out, &reference(&exact[0], &exact[1], &exact[2]));
            assert!(error < 3e-5, "{voxels} x {channels}: {error:e}");

            let (mut by_x, mut by_gamma, mut by_beta) = (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
            instance_norm_relu_gradient(&x, &gamma, &beta, &statistics, &grad, &mut by_x, &mut by_gamma, &mut by_beta);
            let loss = |which: usize, index: usize, by: f64| -> f64 {
                let mut moved = exact.clone();
                moved[which][index] += by;
                let out = reference(&moved[0], &moved[1], &moved[2]);
                out.iter().zip(&grad).map(|(y, &g)| y * f64::from(g)).sum()
            };
            let step = 1e-6;
            for (which, by) in [by_x, by_gamma, by_beta].iter().enumerate() {
                for index in [0, by.len() / 2, by.len() - 1] {
                    let want = (loss(which, index, step) - loss(which, index, -step)) / (2.0 * step);
                    let got = f64::from(by[index]);
                    assert!((got - want).abs() < 1e-3 * want.abs().max(1.0), "{which}, {index}: {got} {want}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "parameters are not")]
    fn parameters_of_another_width_are_refused() {
        instance_norm_relu(&[0.0; 6], &[1.0; 3], &[0.0; 2], EPS, &mut [0.0; 6]);
    }
}
