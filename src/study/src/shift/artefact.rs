//! Artefacts of MR: ghosts of a periodic motion, spikes in k-space.

use super::Parameters;
use super::range::Range;
use adaptmedseg_volume::Volume;
use rand::Rng;
use rayon::prelude::*;
use std::f64::consts::TAU;

/// Strength of all ghosts together.
pub(super) const GHOST: [f64; 5] = [0.1, 0.2, 0.35, 0.5, 0.7];
/// Amplitude of all waves together, in parts of the robust range.
pub(super) const WAVE: [f64; 5] = [0.05, 0.1, 0.2, 0.3, 0.45];
/// Waves of `spike`.
const WAVES: usize = 3;
/// Their lengths in millimetres.
const LENGTH_MM: [f64; 2] = [8.0, 40.0];

/// Adds two to four copies of the image, displaced along one axis by equal parts of the field of view; what leaves it at
/// one side comes in at the other, as in an image that was acquired in k-space.
pub(super) fn ghosting(image: &mut Volume<f32>, strength: f64, random: &mut impl Rng, parameters: &mut Parameters) {
    let (axis, ghosts) = (random.random_range(0..3), random.random_range(2..=4usize));
    let [nx, ny, nz] = image.geometry.size;
    let length = image.geometry.size[axis];
    let shifts: Vec<usize> = (1..=ghosts)
        .map(|ghost| (length as f64 * ghost as f64 / (ghosts as f64 + 1.0)).round() as usize % length)
        .collect();
    let (zero, weight) = (Range::whole(image).low, (strength / ghosts as f64) as f32);
    let old = image.data.clone();
    let back = |at: usize, shift: usize, size: usize| (at + size - shift) % size;
    image.data.par_chunks_mut(nx).enumerate().for_each(|(row, values)| {
        let (y, z) = (row % ny, row / ny);
        for (x, value) in values.iter_mut().enumerate() {
            for &shift in &shifts {
                let from = match axis {
                    0 => back(x, shift, nx) + nx * row,
                    1 => x + nx * (back(y, shift, ny) + ny * z),
                    _ => x + nx * (y + ny * back(z, shift, nz)),
                };
                *value += weight * (old[from] - zero);
            }
        }
    });
    parameters.insert("axis", vec![axis as f64]);
    parameters.insert("shifts_voxels", shifts.into_iter().map(|shift| shift as f64).collect());
    parameters.insert("weight", vec![f64::from(weight)]);
}

/// Adds plane waves, which is what a spike in k-space does to an image. Their lengths are in millimetres.
pub(super) fn spike(image: &mut Volume<f32>, strength: f64, random: &mut impl Rng, parameters: &mut Parameters) {
    let waves: Vec<([f64; 3], f64)> = (0..WAVES)
        .map(|_| {
            let length = random.random_range(LENGTH_MM[0]..LENGTH_MM[1]);
            let direction = super::place::direction(random);
            (direction.map(|part| TAU * part / length), random.random_range(0.0..TAU))
        })
        .collect();
    let amplitude = strength / WAVES as f64 * f64::from(Range::robust(image).width());
    let geometry = image.geometry.clone();
    let [nx, ny, _] = geometry.size;
    image.data.par_chunks_mut(nx).enumerate().for_each(|(row, values)| {
        for (x, value) in values.iter_mut().enumerate() {
            let lps = geometry.ijk_to_lps([x as f64, (row % ny) as f64, (row / ny) as f64]);
            let phase = |(k, start): &([f64; 3], f64)| start + (0..3).map(|axis| k[axis] * lps[axis]).sum::<f64>();
            *value += (amplitude * waves.iter().map(|wave| phase(wave).cos()).sum::<f64>()) as f32;
        }
    });
    parameters.insert("amplitude", vec![amplitude]);
    parameters.insert("waves_per_mm_lps", waves.iter().flat_map(|(k, _)| k.map(|k| k / TAU)).collect());
    parameters.insert("phases", waves.iter().map(|(_, start)| *start).collect());
}
