//! Products in bfloat16 with float32 sums: linear layers and attention.
//!
//! A bfloat16 is the upper half of a float32, so it has the same range and 8 bits of precision. `vdpbf16ps`
//! multiplies two pairs and adds both products to a float32, twice the work of a float32 instruction; operands of half
//! the size do the rest. Activations that go from product to product stay bfloat16 in between.

mod attention;
mod linear;
mod tile;

pub use attention::attention_bf16;
pub use linear::{Bf16Weight, Output, linear_bf16};

use crate::cpu::{Cpu, Kernel, LANES};
use half::bf16;
use rayon::prelude::*;

/// Numbers a thread takes at a time.
const BLOCK: usize = 1 << 14;

/// What a kernel writes: float32 as it is, or rounded to bfloat16.
pub trait Element: Copy + Send + Sync + private::Rounded {}

impl Element for f32 {}
impl Element for bf16 {}

pub(crate) mod private {
    /// Made of a float32.
    pub trait Rounded {
        /// The nearest number there is.
        fn rounded(x: f32) -> Self;
    }

    impl Rounded for f32 {
        #[inline(always)]
        fn rounded(x: f32) -> Self {
            x
        }
    }

    impl Rounded for half::bf16 {
        #[inline(always)]
        fn rounded(x: f32) -> Self {
            super::round(x)
        }
    }
}

/// Whether this processor multiplies bfloat16 faster than float32 (AVX512-BF16). Elsewhere the kernels are correct, and
/// slow.
pub fn has_fast_bf16() -> bool {
    tile::Unit::detect() != tile::Unit::Portable
}

/// Rounds to nearest, ties to even; NaN stays NaN.
#[inline(always)]
fn round(x: f32) -> bf16 {
    // Rounding could carry NaN's mantissa into the exponent and sign.
    if x.is_nan() { bf16::NAN } else { round_number(x) }
}

/// [`round`] of what is known not to be NaN.
#[inline(always)]
fn round_number(x: f32) -> bf16 {
    let bits = x.to_bits();
    bf16::from_bits((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
}

/// Rounds every number to bfloat16.
///
/// # Panics
/// If the slices differ in length.
pub fn to_bf16(x: &[f32], out: &mut [bf16]) {
    assert_eq!(x.len(), out.len(), "to_bf16: slices differ in length");
    let cpu = Cpu::detect();
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| cpu.run(Round { x, out }));
}

struct Round<'a> {
    x: &'a [f32],
    out: &'a mut [bf16],
}

impl Kernel for Round<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        round_all(self.x, self.out);
    }
}

#[inline(always)]
fn round_all(x: &[f32], out: &mut [bf16]) {
    let ((blocks, rest), (outs, out_rest)) = (x.as_chunks::<LANES>(), out.as_chunks_mut::<LANES>());
    for (x, out) in blocks.iter().zip(outs) {
        for i in 0..LANES {
            out[i] = round(x[i]);
        }
    }
    for (x, out) in rest.iter().zip(out_rest) {
        *out = round(*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        let mut numbers: Vec<f32> = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9))).collect();
        numbers.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 1.0e-45]);
        let mut got = vec![bf16::ZERO; numbers.len()];
        to_bf16(&numbers, &mut got);
        for (&x, &got) in numbers.iter().zip(&got) {
            let want = bf16::from_f32(x);
            assert!(got == want || (got.is_nan() && want.is_nan()), "{x:e}: {got:?}, not {want:?}");
        }
    }
}
