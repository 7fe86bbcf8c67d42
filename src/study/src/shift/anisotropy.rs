//! Thick slices: resampled to them and back.

use super::Parameters;
use super::blur::smooth;
use adaptmedseg_volume::Volume;
use rand::Rng;
use rayon::prelude::*;

/// Thickness of a slice, in slices of before.
pub(super) const THICKNESS: [f64; 5] = [1.5, 2.0, 3.0, 4.5, 6.0];
/// Full width at half maximum of a Gaussian of deviation 1: the slice profile is as wide as a slice is thick.
const WIDTH: f64 = 2.354_820_045;

/// Smooths along one axis by the profile of a slice, samples slices of that thickness, and goes back to the grid of
/// before, linearly both times.
pub(super) fn apply(image: &mut Volume<f32>, strength: f64, random: &mut impl Rng, parameters: &mut Parameters) {
    let axis = random.random_range(0..3);
    let count = image.geometry.size[axis];
    smooth(image, axis, strength / WIDTH);
    let slices = ((count as f64 / strength).ceil() as usize).max(1);
    let coarse: Vec<f64> = (0..slices).map(|slice| (slice as f64 + 0.5) * strength - 0.5).collect();
    let coarse = sampled(image, axis, &coarse);
    let fine: Vec<f64> = (0..count).map(|at| (at as f64 + 0.5) / strength - 0.5).collect();
    image.data = sampled(&coarse, axis, &fine).data;
    parameters.insert("axis", vec![axis as f64]);
    parameters.insert("thickness_voxels", vec![strength]);
    parameters.insert("thickness_mm", vec![strength * image.geometry.spacing[axis]]);
}

/// The image at other places along an axis, linearly between voxels. The grid has the right size, and no more.
fn sampled(image: &Volume<f32>, axis: usize, places: &[f64]) -> Volume<f32> {
    let mut geometry = image.geometry.clone();
    let (size, last) = (geometry.size, geometry.size[axis] - 1);
    geometry.size[axis] = places.len();
    let [nx, ny, nz] = geometry.size;
    let between: Vec<(usize, usize, f32)> = places
        .iter()
        .map(|&place| {
            let place = place.clamp(0.0, last as f64);
            let low = place.floor() as usize;
            (low, (low + 1).min(last), place.fract() as f32)
        })
        .collect();
    let data = (0..ny * nz).into_par_iter().flat_map_iter(|row| {
        let (y, z) = (row % ny, row / ny);
        let between = &between;
        (0..nx).map(move |x| {
            let mut place = [x, y, z];
            let (low, high, part) = between[place[axis]];
            let mut value = |at: usize| {
                place[axis] = at;
                image.data[place[0] + size[0] * (place[1] + size[1] * place[2])]
            };
            let (low, high) = (value(low), value(high));
            low + (high - low) * part
        })
    });
    let data = data.collect();
    Volume { geometry, data }
}
