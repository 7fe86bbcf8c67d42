//! Elementary functions without branches, so that loops over them become vector instructions.

use crate::cpu::LANES;

/// `a * b + c`, rounded once where the processor can (`FMA`) and twice elsewhere: never a call into the C library.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `2^x` for `x <= 127`, relative error below 2e-7; results that would be subnormal (`x < -126`) are zero. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves no room for a fraction: the sum's last bits are `x` rounded to an integer.
    const ROUND: f32 = 12_582_912.0;
    const EXPONENT_BIAS: u32 = 127 << 23;
    let shifted = x + ROUND;
    let fraction = x - (shifted - ROUND);
    // 2^fraction on [-1/2, 1/2]: the coefficients of Cephes' `exp2f`.
    let mut power = 1.535_336_2e-4;
    power = mul_add::<FMA>(power, fraction, 1.339_887_4e-3);
    power = mul_add::<FMA>(power, fraction, 9.618_437e-3);
    power = mul_add::<FMA>(power, fraction, 5.550_332_6e-2);
    power = mul_add::<FMA>(power, fraction, 2.402_264_7e-1);
    power = mul_add::<FMA>(power, fraction, std::f32::consts::LN_2);
    power = mul_add::<FMA>(power, fraction, 1.0);
    let whole = f32::from_bits((shifted.to_bits() << 23).wrapping_add(EXPONENT_BIAS));
    if x < -126.0 { 0.0 } else { power * whole }
}

/// Gaussian error linear unit `x * Phi(x)` with the exact normal distribution; error below `2e-7 max(1, |x|)`.
///
/// Written as `max(x, 0) - |x| Phi(-|x|)`, which loses nothing to cancellation, with
/// `Phi(-a) = 2^(-a^2 log2(e) / 2) t P(t)`, `t = 1 / (1 + 0.31 a)`.
#[inline(always)]
pub(crate) fn gelu<const FMA: bool>(x: f32) -> f32 {
    // From 13.3 on the power below is zero. A comparison, not `min`, which would drop NaN.
    let a = if x.abs() > 13.5 { 13.5 } else { x.abs() };
    let t = 1.0 / mul_add::<FMA>(a, 0.31, 1.0);
    // P interpolates exp(a^2 / 2) Phi(-a) / t at the Chebyshev nodes of t over 0 <= a <= 13; relative error 2e-7.
    let mut p = 0.036_081_78;
    p = mul_add::<FMA>(p, t, -0.142_668_51);
    p = mul_add::<FMA>(p, t, 0.157_011_27);
    p = mul_add::<FMA>(p, t, -0.016_789_113);
    p = mul_add::<FMA>(p, t, 0.111_152_96);
    p = mul_add::<FMA>(p, t, 0.107_444_77);
    p = mul_add::<FMA>(p, t, 0.124_113_46);
    p = mul_add::<FMA>(p, t, 0.123_653_46);
    let density = exp2::<FMA>(a * a * (-0.5 * std::f32::consts::LOG2_E));
    let positive = if x > 0.0 { x } else { 0.0 };
    mul_add::<FMA>(-a * t, p * density, positive)
}

/// Sum of all lanes, pairwise.
#[inline(always)]
pub(crate) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest of all numbers; NaN is passed over.
#[inline(always)]
pub(crate) fn max_of(blocks: &[[f32; LANES]]) -> f32 {
    let mut max = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for i in 0..LANES {
            max[i] = larger(max[i], block[i]);
        }
    }
    max_lanes(max)
}

/// Largest of all lanes; NaN is passed over.
#[inline(always)]
pub(crate) fn max_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = larger(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The larger of two numbers, one instruction: `kept` if either is NaN.
#[inline(always)]
pub(crate) fn larger(kept: f32, other: f32) -> f32 {
    if other > kept { other } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_accurate_and_keeps_special_values() {
        for step in -126 * 512..=127 * 512 {
            let x = step as f32 / 512.0 + 1e-4;
            if !(-126.0..=127.0).contains(&x) {
                continue;
            }
            let want = f64::from(x).exp2();
            for got in [exp2::<true>(x), exp2::<false>(x)] {
                assert!((f64::from(got) / want - 1.0).abs() < 2e-7, "2^{x} = {want:e}, got {got:e}");
            }
        }
        assert_eq!(exp2::<true>(0.0), 1.0);
        assert_eq!(exp2::<true>(-3.0), 0.125);
        for tiny in [-126.5, -127.0, -200.0, -1e6, -1e30, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp2::<true>(tiny), 0.0, "2^{tiny}");
        }
        assert!(exp2::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn lanes_are_reduced_whole() {
        let lanes = std::array::from_fn(|i| if i == 17 { 100.0 } else { i as f32 });
        assert_eq!(max_lanes(lanes), 100.0);
        assert_eq!(sum_lanes(lanes), (31 * 32 / 2) as f32 - 17.0 + 100.0);
    }
}
