//! A receive coil that does not hear all places alike.

use super::Parameters;
use super::range::Range;
use adaptmedseg_volume::Volume;
use rand::Rng;
use rayon::prelude::*;

/// Largest coefficient of the polynomial.
pub(super) const COEFFICIENT: [f64; 5] = [0.1, 0.2, 0.3, 0.45, 0.6];
/// Its degree, as in TorchIO and MONAI.
const DEGREE: u32 = 3;

/// Powers of the terms of a polynomial in three variables, without the constant one.
fn terms() -> Vec<[i32; 3]> {
    let all = 0..=DEGREE as i32;
    let mut terms = Vec::new();
    for x in all.clone() {
        for y in all.clone() {
            for z in all.clone() {
                if (1..=DEGREE as i32).contains(&(x + y + z)) {
                    terms.push([x, y, z]);
                }
            }
        }
    }
    terms
}

/// Multiplies the image, from its smallest value on, by the exponential of a cubic polynomial. Its variables are
/// millimetres from the middle in LPS, divided by half the longest edge of the field of view.
pub(super) fn apply(image: &mut Volume<f32>, strength: f64, random: &mut impl Rng, parameters: &mut Parameters) {
    let terms = terms();
    let coefficients: Vec<f64> = terms.iter().map(|_| strength * random.random_range(-1.0..1.0)).collect();
    let geometry = image.geometry.clone();
    let [nx, ny, _] = geometry.size;
    let middle = geometry.ijk_to_lps(geometry.size.map(|size| (size as f64 - 1.0) / 2.0));
    let longest = (0..3).map(|axis| geometry.size[axis] as f64 * geometry.spacing[axis]).fold(0.0, f64::max);
    let zero = Range::whole(image).low;
    image.data.par_chunks_mut(nx).enumerate().for_each(|(row, values)| {
        for (x, value) in values.iter_mut().enumerate() {
            let lps = geometry.ijk_to_lps([x as f64, (row % ny) as f64, (row / ny) as f64]);
            let place: [f64; 3] = std::array::from_fn(|axis| (lps[axis] - middle[axis]) / (longest / 2.0));
            let product = |powers: &[i32; 3]| (0..3).map(|axis| place[axis].powi(powers[axis])).product::<f64>();
            let log: f64 = terms.iter().zip(&coefficients).map(|(powers, by)| by * product(powers)).sum();
            *value = zero + (*value - zero) * log.exp() as f32;
        }
    });
    parameters.insert("coefficients", coefficients);
}
