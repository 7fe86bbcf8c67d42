//! Blur, and the smoothing along one axis that it is made of.

use super::Parameters;
use adaptmedseg_volume::Volume;
use rayon::prelude::*;

/// Standard deviation in millimetres.
pub(super) const DEVIATION_MM: [f64; 5] = [0.75, 1.5, 2.5, 3.5, 5.0];
/// Standard deviations after which the kernel ends, as in scipy.
const TRUNCATE: f64 = 4.0;

/// Smooths by a Gaussian in physical space.
pub(super) fn apply(image: &mut Volume<f32>, strength: f64, parameters: &mut Parameters) {
    for axis in 0..3 {
        smooth(image, axis, strength / image.geometry.spacing[axis]);
    }
    parameters.insert("deviation_mm", vec![strength]);
}

/// Smooths along an axis by a Gaussian of `deviation` voxels; the image goes on beyond its edge as at the edge.
pub(super) fn smooth(image: &mut Volume<f32>, axis: usize, deviation: f64) {
    let radius = (TRUNCATE * deviation + 0.5) as isize;
    if radius == 0 {
        return;
    }
    let mut kernel: Vec<f64> =
        (-radius..=radius).map(|step| (-0.5 * (step as f64 / deviation).powi(2)).exp()).collect();
    let sum: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= sum);
    let [nx, ny, nz] = image.geometry.size;
    let stay = |at: usize, step: usize, size: usize| {
        (at as isize + step as isize - radius).clamp(0, size as isize - 1) as usize
    };
    let old = &image.data;
    let new = (0..ny * nz).into_par_iter().flat_map_iter(|row| {
        let (y, z) = (row % ny, row / ny);
        let mut sums = vec![0.0; nx];
        for (step, weight) in kernel.iter().enumerate() {
            let from = match axis {
                0 => nx * row,
                1 => nx * (stay(y, step, ny) + ny * z),
                _ => nx * (y + ny * stay(z, step, nz)),
            };
            for (x, sum) in sums.iter_mut().enumerate() {
                let x = if axis == 0 { stay(x, step, nx) } else { x };
                *sum += weight * f64::from(old[from + x]);
            }
        }
        sums.into_iter().map(|sum| sum as f32)
    });
    image.data = new.collect();
}
