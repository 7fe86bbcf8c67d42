//! Random inputs and plain double-precision formulas for the tests.

/// `count` numbers of mean 0 and variance 1, uniformly distributed, the same for the same seed.
pub(crate) fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f64 / (1u64 << 24) as f64 - 0.5) * 12f64.sqrt()
    };
    (0..count).map(|_| next() as f32).collect()
}

/// Largest absolute difference; NaN if any number is NaN.
pub(crate) fn max_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(&g, &w)| (f64::from(g) - w).abs())
        .fold(0.0, |max, e| if e > max || e.is_nan() { e } else { max })
}

pub(crate) fn gelu_f64(x: f64) -> f64 {
    x * 0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// Complementary error function: the Taylor series of erf near zero, the continued fraction of erfc beyond.
fn erfc(z: f64) -> f64 {
    let a = z.abs();
    let positive = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..80 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..120).rev().fold(a, |tail, n| a + 0.5 * f64::from(n) / tail);
        (-a * a).exp() / fraction * std::f64::consts::FRAC_2_SQRT_PI * 0.5
    };
    if z < 0.0 { 2.0 - positive } else { positive }
}
