//! GELU over a slice.

use crate::cpu::{Cpu, Kernel, LANES};
use crate::math::gelu;
use rayon::prelude::*;

/// Numbers a thread takes at a time: 64 KiB, which stay in its first cache.
const BLOCK: usize = 1 << 14;

/// Replaces each `x` by its Gaussian error linear unit, `x * (1 + erf(x / sqrt 2)) / 2`.
///
/// The exact function, not the tanh or sigmoid approximation: the error is below 2e-7, for large `x` below 2e-7 times
/// `|x|`. NaN stays NaN; +inf stays, -inf becomes zero.
pub fn gelu_erf(x: &mut [f32]) {
    let cpu = Cpu::detect();
    x.par_chunks_mut(BLOCK).for_each(|x| cpu.run(Gelu { x }));
}

struct Gelu<'a> {
    x: &'a mut [f32],
}

impl Kernel for Gelu<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        gelu_in_place::<FMA>(self.x);
    }
}

#[inline(always)]
pub(crate) fn gelu_in_place<const FMA: bool>(x: &mut [f32]) {
    let (blocks, rest) = x.as_chunks_mut::<LANES>();
    for block in blocks {
        for x in block {
            *x = gelu::<FMA>(*x);
        }
    }
    for x in rest {
        *x = gelu::<FMA>(*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gelu_f64;

    #[test]
    fn gelu_agrees_with_f64_on_every_instruction_set() {
        let inputs: Vec<f32> = (-20_000..=20_003).map(|i| i as f32 * 1e-3).collect();
        for cpu in Cpu::available() {
            let mut got = inputs.clone();
            cpu.run(Gelu { x: &mut got });
            for (&x, &y) in inputs.iter().zip(&got) {
                let error = (f64::from(y) - gelu_f64(f64::from(x))).abs();
                assert!(error < 2e-7 * f64::from(x.abs()).max(1.0), "{cpu:?}: gelu({x}) = {y}, off by {error:e}");
            }
        }
    }

    #[test]
    fn gelu_of_special_values() {
        let mut x = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, f32::MIN_POSITIVE];
        gelu_erf(&mut x);
        assert_eq!(x[..4], [0.0, 0.0, f32::INFINITY, 0.0].map(|x: f32| x));
        assert!(x[4].is_nan());
        assert_eq!(x[5], f32::MAX);
        assert_eq!(x[6], 0.0);
        gelu_erf(&mut []);
    }

    #[test]
    fn gelu_covers_slices_longer_than_a_block() {
        let mut x = vec![1.0; 3 * BLOCK + 7];
        gelu_erf(&mut x);
        assert!(x.iter().all(|&y| (y - 0.841_344_7).abs() < 1e-6));
    }
}
