//! Noise that is independent from voxel to voxel.

use super::Parameters;
use super::range::Range;
use adaptmedseg_volume::Volume;
use rand::Rng;

/// Standard deviation, in parts of the robust range.
pub(super) const DEVIATION: [f64; 5] = [0.02, 0.04, 0.08, 0.14, 0.22];

/// Two independent normal numbers (Box and Muller).
pub(super) fn normal_pair(random: &mut impl Rng) -> [f32; 2] {
    let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    let radius = (-2.0 * u.ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
    [(radius * cos) as f32, (radius * sin) as f32]
}

fn deviation(image: &Volume<f32>, strength: f64, parameters: &mut Parameters) -> f32 {
    let deviation = strength as f32 * Range::robust(image).width();
    parameters.insert("deviation", vec![f64::from(deviation)]);
    deviation
}

/// Adds normal noise.
pub(super) fn gaussian(image: &mut Volume<f32>, strength: f64, random: &mut impl Rng, parameters: &mut Parameters) {
    let deviation = deviation(image, strength, parameters);
    for pair in image.data.chunks_mut(2) {
        let noise = normal_pair(random);
        pair.iter_mut().zip(noise).for_each(|(value, noise)| *value += deviation * noise);
    }
}

/// Makes the image the magnitude of a complex one with normal noise in both channels. Zero signal is the smallest value
/// of the image, so that Hounsfield units have noise of the same kind.
pub(super) fn rician(image: &mut Volume<f32>, strength: f64, random: &mut impl Rng, parameters: &mut Parameters) {
    let deviation = deviation(image, strength, parameters);
    let zero = Range::whole(image).low;
    for value in &mut image.data {
        let [real, imaginary] = normal_pair(random).map(|noise| deviation * noise);
        *value = zero + (*value - zero + real).hypot(imaginary);
    }
}
