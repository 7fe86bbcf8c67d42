//! Comparison with a tolerance, and the one table of tolerances.

use crate::Bundle;
use burn::tensor::Tensor;

/// Largest absolute differences, from the README of the reference data: float64 against float32 there, with a margin
/// for another order of summation. `(mini, full)`.
pub mod tolerance {
    /// Image encoder: patch embedding, blocks, output.
    pub const VIT: (f32, f32) = (2e-5, 5e-5);
    /// Text encoder.
    pub const TEXT: (f32, f32) = (2e-5, 5e-5);
    /// Positional encoding of the image tokens.
    pub const DENSE_PE: (f32, f32) = (1e-5, 1e-5);
    /// Prompt tokens: the phase grows with the window, and so does the error of its sine.
    pub const PROMPT: (f32, f32) = (1e-4, 1e-3);
    /// Streams and features inside the decoder.
    pub const DECODER: (f32, f32) = (1e-4, 1e-3);
    /// Masks and logits of one window.
    pub const LOGITS: (f32, f32) = (2e-4, 1e-3);
    /// Predicted mask quality. The reference gives a limit for mini only; full scales as its logits do.
    pub const IOU: (f32, f32) = (2e-5, 1e-4);
    /// Logits of a whole volume.
    pub const PIPELINE: (f32, f32) = (3e-4, 1e-3);
    /// Least Dice of a mask in bfloat16 with the one in float32.
    pub const BF16_DICE: f64 = 0.999;
}

/// Compares a computed tensor with one of the bundle, whole or sampled.
///
/// # Panics
/// With the largest absolute and relative difference and the place of the worst element, if beyond the limit.
pub fn assert_close<const D: usize>(bundle: &Bundle, name: &str, got: Tensor<D>, limit: (f32, f32)) {
    let got = got.into_data().try_to_vec::<f32>().expect("float32");
    assert_close_slices(bundle, name, &got, limit);
}

/// [`assert_close`] on plain elements, row-major.
///
/// # Panics
/// As [`assert_close`].
pub fn assert_close_slices(bundle: &Bundle, name: &str, got: &[f32], limit: (f32, f32)) {
    let limit = if bundle.config_name() == "mini" { limit.0 } else { limit.1 };
    let (indices, wanted) = bundle.samples(name);
    if indices.is_none() {
        assert_eq!(got.len(), wanted.len(), "{} {name}: number of elements", bundle.name);
    }
    let mut worst = (0.0f32, 0, 0.0, 0.0);
    let mut largest = 0.0f32;
    for (position, &wanted) in wanted.iter().enumerate() {
        let index = indices.as_ref().map_or(position, |indices| indices[position]);
        let difference = (got[index] - wanted).abs();
        // Once NaN, the worst stays NaN, and fails below.
        if difference > worst.0 || difference.is_nan() {
            worst = (difference, index, got[index], wanted);
        }
        largest = largest.max(wanted.abs());
    }
    let (difference, index, got, wanted) = worst;
    println!("{} {name}: max abs {difference:.2e}, relative to largest {:.2e}", bundle.name, difference / largest);
    assert!(
        difference <= limit,
        "{} {name}: max abs {difference:e} (limit {limit:e}, relative {:e}) at {index}: got {got}, reference {wanted}",
        bundle.name,
        difference / largest
    );
}
