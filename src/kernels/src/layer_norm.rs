//! Layer normalisation over rows.

use crate::bf16::Element;
use crate::cpu::{Cpu, Kernel, LANES};
use crate::math::{mul_add, sum_lanes};
use rayon::prelude::*;

/// Numbers a thread takes at a time, rounded up to whole rows.
const BLOCK: usize = 1 << 15;

/// Normalises each row to mean 0 and variance 1, then scales and shifts it:
/// `out = (x - mean) / sqrt(variance + eps) * gamma + beta`, with the population variance.
///
/// A row that holds NaN or infinity becomes NaN.
///
/// # Shapes
/// - x: `[rows, width]`
/// - gamma, beta: `[width]`
/// - out: `[rows, width]`, float32 or rounded to bfloat16
///
/// # Panics
/// If `gamma` is empty, `beta` is not as long as `gamma`, `x` is not whole rows, or `out` is not as long as `x`.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [impl Element]) {
    let width = gamma.len();
    assert!(width > 0, "layer_norm: gamma is empty");
    assert_eq!(beta.len(), width, "layer_norm: beta and gamma differ in length");
    assert_eq!(x.len() % width, 0, "layer_norm: x is not whole rows of {width}");
    assert_eq!(out.len(), x.len(), "layer_norm: out and x differ in length");
    let cpu = Cpu::detect();
    let block = BLOCK.div_ceil(width) * width;
    out.par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .for_each(|(out, x)| cpu.run(LayerNorm { x, gamma, beta, eps, out }));
}

struct LayerNorm<'a, T> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    out: &'a mut [T],
}

impl<T: Element> Kernel for LayerNorm<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let width = self.gamma.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let (mean, variance) = mean_and_variance::<FMA>(x);
            let inverse = 1.0 / (variance + self.eps).sqrt();
            for (((out, &x), &gamma), &beta) in out.iter_mut().zip(x).zip(self.gamma).zip(self.beta) {
                *out = T::rounded(mul_add::<FMA>((x - mean.0 - mean.1) * inverse, gamma, beta));
            }
        }
    }
}

/// Mean, as a float32 and what its rounding left over, and population variance.
///
/// Two passes. The second also sums the differences from the rounded mean: they would add up to zero if it were exact,
/// and what they add up to instead corrects it, which matters where the mean is large against the deviation.
#[inline(always)]
fn mean_and_variance<const FMA: bool>(x: &[f32]) -> ((f32, f32), f32) {
    let count = x.len() as f32;
    let (blocks, rest) = x.as_chunks::<LANES>();

    let mut sums = [0.0; LANES];
    for block in blocks {
        for i in 0..LANES {
            sums[i] += block[i];
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x;
    }
    let mean = sum_lanes(sums) / count;

    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    for block in blocks {
        for i in 0..LANES {
            let difference = block[i] - mean;
            sums[i] += difference;
            squares[i] = mul_add::<FMA>(difference, difference, squares[i]);
        }
    }
    for ((sum, square), x) in sums.iter_mut().zip(&mut squares).zip(rest) {
        let difference = x - mean;
        *sum += difference;
        *square = mul_add::<FMA>(difference, difference, *square);
    }
    let correction = sum_lanes(sums) / count;
    let variance = sum_lanes(squares) / count - correction * correction;
    ((mean, correction), variance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{max_error, random};

    fn reference(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) -> Vec<f64> {
        let width = gamma.len();
        let row = |x: &[f32]| {
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
            let normal = |(i, &x): (usize, &f32)| {
                (f64::from(x) - mean) / (variance + f64::from(eps)).sqrt() * f64::from(gamma[i]) + f64::from(beta[i])
            };
            x.iter().enumerate().map(normal).collect::<Vec<_>>()
        };
        x.chunks_exact(width).flat_map(row).collect()
    }

    #[test]
    fn rows_of_any_width_agree_with_f64_on_every_instruction_set() {
        for (width, rows) in [(1, 3), (2, 5), (31, 4), (32, 4), (33, 4), (768, 50), (1000, 3), (40_000, 2)] {
            let (gamma, beta) = (random(width, 2), random(width, 3));
            // The last: deviation 1 around a mean of 1000, where one pass of float32 would keep no digit.
            for (scale, offset) in [(1.0, 0.0), (1e-3, 0.5), (1.0, 1000.0)] {
                let x: Vec<f32> = random(rows * width, 1).iter().map(|x| x * scale + offset).collect();
                let want = reference(&x, &gamma, &beta, 1e-5);
                let mut got = vec![f32::NAN; x.len()];
                for cpu in Cpu::available() {
                    cpu.run(LayerNorm { x: &x, gamma: &gamma, beta: &beta, eps: 1e-5, out: &mut got });
                    let error = max_error(&got, &want);
                    assert!(error < 1e-6, "{cpu:?}: width {width}, offset {offset}: error {error:e}");
                }
                got.fill(f32::NAN);
                layer_norm(&x, &gamma, &beta, 1e-5, &mut got);
                assert!(max_error(&got, &want) < 1e-6);
            }
        }
    }

    #[test]
    fn constant_rows_become_beta() {
        let mut out = [0.0; 6];
        layer_norm(&[7.0; 6], &[2.0, 2.0, 2.0], &[1.0, 2.0, 3.0], 1e-5, &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn nan_spoils_its_row_only() {
        let mut out = [0.0; 6];
        layer_norm(&[1.0, f32::NAN, 3.0, 1.0, 2.0, 3.0], &[1.0; 3], &[0.0; 3], 1e-5, &mut out);
        assert!(out[..3].iter().all(|x| x.is_nan()));
        assert!(out[3..].iter().all(|x| x.is_finite()));
    }

    #[test]
    #[should_panic(expected = "whole rows")]
    fn partial_rows_are_refused() {
        layer_norm(&[0.0; 5], &[1.0; 3], &[0.0; 3], 1e-5, &mut [0.0; 5]);
    }
}
