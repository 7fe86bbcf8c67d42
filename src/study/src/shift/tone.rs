//! Changes of the tone curve: the same for every voxel. A change of brightness or of linear contrast would be undone by
//! the normalisation of a model; these are not.

use super::Parameters;
use super::range::Range;
use adaptmedseg_volume::Volume;
use rand::Rng;

/// Exponent of `gamma`; the seed decides between it and its reciprocal.
pub(super) const EXPONENT: [f64; 5] = [1.2, 1.5, 1.9, 2.4, 3.0];
/// Gain of the sigmoid of `contrast`.
pub(super) const GAIN: [f64; 5] = [4.0, 6.0, 9.0, 13.0, 18.0];
/// Where the tone curve of `inversion` turns round.
pub(super) const TURN: [f64; 5] = [0.8, 0.6, 0.4, 0.2, 0.0];

/// Raises intensities, from 0 for the smallest to 1 for the largest, to a power.
pub(super) fn gamma(image: &mut Volume<f32>, strength: f64, random: &mut impl Rng, parameters: &mut Parameters) {
    let exponent = if random.random_bool(0.5) { strength } else { 1.0 / strength };
    let range = Range::whole(image);
    for value in &mut image.data {
        *value = range.low + range.width() * range.share(*value).powf(exponent as f32);
    }
    parameters.insert("exponent", vec![exponent]);
}

/// Passes the robust range through a sigmoid: the middle is spread, dark and bright are squeezed.
pub(super) fn contrast(image: &mut Volume<f32>, strength: f64, parameters: &mut Parameters) {
    let gain = strength as f32;
    let sigmoid = |share: f32| 1.0 / (1.0 + (-gain * (share - 0.5)).exp());
    let [low, high] = [sigmoid(0.0), sigmoid(1.0)];
    curve(image, |share| (sigmoid(share) - low) / (high - low));
    parameters.insert("gain", vec![strength]);
}

/// Turns the tone curve round: what is brighter than a part of the robust range becomes the darker the brighter it was.
/// At the last severity everything is inverted, as tissues are between CT and some MR sequences.
pub(super) fn inversion(image: &mut Volume<f32>, strength: f64, parameters: &mut Parameters) {
    let turn = strength as f32;
    let darkest = (2.0 * turn - 1.0).min(0.0);
    curve(image, |share| {
        let folded = if share <= turn { share } else { 2.0 * turn - share };
        (folded - darkest) / (turn - darkest)
    });
    parameters.insert("turn", vec![strength]);
}

/// Applies a curve from 0..1 to 0..1 to the robust range; what lies beyond it is clipped.
fn curve(image: &mut Volume<f32>, curve: impl Fn(f32) -> f32) {
    let range = Range::robust(image);
    for value in &mut image.data {
        *value = range.low + range.width() * curve(range.share(*value).clamp(0.0, 1.0));
    }
}
