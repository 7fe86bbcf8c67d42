//! Changes of place, in millimetres: where each voxel of the new image comes from.

use super::Parameters;
use super::range::Range;
use crate::phantom::Noise;
use adaptmedseg_volume::{Geometry, Region, Volume};
use rand::Rng;
use rayon::prelude::*;

/// Degrees of `rotation`.
pub(super) const DEGREES: [f64; 5] = [5.0, 10.0, 20.0, 30.0, 45.0];
/// Magnification of `scaling`; the seed decides between it and its reciprocal.
pub(super) const MAGNIFICATION: [f64; 5] = [1.1, 1.2, 1.35, 1.5, 1.75];
/// Largest displacement of `elastic` along each axis, in millimetres.
pub(super) const DISPLACEMENT_MM: [f64; 5] = [2.0, 4.0, 6.0, 9.0, 12.0];
/// Part of the field of view that `crop` keeps along each axis.
pub(super) const KEPT: [f64; 5] = [0.9, 0.8, 0.7, 0.6, 0.5];
/// Distance between places of `elastic` that move independently, in millimetres: at the largest displacement the image
/// is not folded.
const ELASTIC_MM: f64 = 60.0;
/// Fewest voxels that `crop` leaves along an axis.
const LEAST: usize = 4;

/// Where the voxels of a shifted image come from.
#[derive(Clone)]
pub(super) enum Placement {
    /// From where they are.
    Same,
    /// From a part of the image, whose grid theirs is.
    Crop(Region),
    /// From `centre + matrix (place - centre)`, LPS millimetres.
    Affine { centre: [f64; 3], matrix: [[f64; 3]; 3] },
    /// From a place that is displaced by smooth noise.
    Elastic { noise: Box<[Noise; 3]>, amplitude: f64 },
}

impl std::fmt::Debug for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Same => "Same",
            Self::Crop(_) => "Crop",
            Self::Affine { .. } => "Affine",
            Self::Elastic { .. } => "Elastic",
        })
    }
}

impl Placement {
    /// Where what is at a place came from, LPS millimetres.
    fn source(&self, place: [f64; 3]) -> [f64; 3] {
        match self {
            Self::Same | Self::Crop(_) => place,
            Self::Affine { centre, matrix } => std::array::from_fn(|row| {
                centre[row] + (0..3).map(|axis| matrix[row][axis] * (place[axis] - centre[axis])).sum::<f64>()
            }),
            Self::Elastic { noise, amplitude } => {
                let scaled = place.map(|x| (x / ELASTIC_MM) as f32);
                std::array::from_fn(|axis| place[axis] + amplitude * f64::from(noise[axis].at(scaled)))
            }
        }
    }

    /// The image in its new place, linearly between voxels; what comes from outside has the smallest value.
    pub(super) fn image(&self, image: &Volume<f32>) -> Volume<f32> {
        if let Self::Crop(region) = self {
            return cropped(image, region);
        }
        let outside = Range::whole(image).low;
        let [nx, ny, _] = image.geometry.size;
        let value = |ijk: [f64; 3]| -> f32 {
            if !image.geometry.contains(ijk) {
                return outside;
            }
            let size = image.geometry.size;
            let place: [f64; 3] = std::array::from_fn(|axis| ijk[axis].clamp(0.0, size[axis] as f64 - 1.0));
            let low = place.map(|x| x.floor() as usize);
            let step: [usize; 3] = std::array::from_fn(|axis| usize::from(low[axis] + 1 < size[axis]));
            let part = place.map(|x| x.fract() as f32);
            let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
            let at = |j: usize, k: usize| {
                let row = nx * (low[1] + j * step[1] + ny * (low[2] + k * step[2])) + low[0];
                mix(image.data[row], image.data[row + step[0]], part[0])
            };
            mix(mix(at(0, 0), at(1, 0), part[1]), mix(at(0, 1), at(1, 1), part[1]), part[2])
        };
        Volume { data: self.sampled(&image.geometry, value), geometry: image.geometry.clone() }
    }

    /// A mask in its new place, by the nearest voxel; what comes from outside is outside.
    pub(super) fn carry(&self, mask: &[u8], before: &Geometry) -> Vec<u8> {
        let [nx, ny, _] = before.size;
        match self {
            Self::Same => mask.to_vec(),
            Self::Crop(region) => part(mask, before.size, region),
            _ => self.sampled(before, |ijk| {
                if !before.contains(ijk) {
                    return 0;
                }
                let [x, y, z]: [usize; 3] =
                    std::array::from_fn(|axis| ijk[axis].round().clamp(0.0, before.size[axis] as f64 - 1.0) as usize);
                mask[x + nx * (y + ny * z)]
            }),
        }
    }

    /// A value for each voxel of a grid, by the continuous voxel index it comes from.
    fn sampled<T: Send>(&self, grid: &Geometry, value: impl Fn([f64; 3]) -> T + Sync) -> Vec<T> {
        let [nx, ny, nz] = grid.size;
        let rows = (0..ny * nz).into_par_iter().flat_map_iter(|row| {
            let value = &value;
            (0..nx).map(move |x| {
                let place = grid.ijk_to_lps([x as f64, (row % ny) as f64, (row / ny) as f64]);
                value(grid.lps_to_ijk(self.source(place)))
            })
        });
        rows.collect()
    }
}

fn part<T: Copy>(data: &[T], [nx, ny, _]: [usize; 3], region: &Region) -> Vec<T> {
    let mut out = Vec::with_capacity(region.voxel_count());
    for z in region.start[2]..region.end[2] {
        for y in region.start[1]..region.end[1] {
            let row = nx * (y + ny * z);
            out.extend_from_slice(&data[row + region.start[0]..row + region.end[0]]);
        }
    }
    out
}

fn cropped(image: &Volume<f32>, region: &Region) -> Volume<f32> {
    let mut geometry = image.geometry.clone();
    geometry.origin = image.geometry.ijk_to_lps(region.start.map(|at| at as f64));
    geometry.size = region.size();
    Volume { data: part(&image.data, image.geometry.size, region), geometry }
}

/// A direction, all being equally likely.
pub(crate) fn direction(random: &mut impl Rng) -> [f64; 3] {
    let z: f64 = random.random_range(-1.0..1.0);
    let (sin, cos) = random.random_range(0.0..std::f64::consts::TAU).sin_cos();
    let radius = (1.0 - z * z).sqrt();
    [radius * cos, radius * sin, z]
}

fn middle(geometry: &Geometry) -> [f64; 3] {
    geometry.ijk_to_lps(geometry.size.map(|size| (size as f64 - 1.0) / 2.0))
}

/// A turn about a random axis through the middle of the image.
pub(super) fn rotation(
    geometry: &Geometry,
    degrees: f64,
    random: &mut impl Rng,
    parameters: &mut Parameters,
) -> Placement {
    let [x, y, z] = direction(random);
    let (sin, cos) = degrees.to_radians().sin_cos();
    let rest = 1.0 - cos;
    // Rodrigues' formula.
    let matrix = [
        [cos + x * x * rest, x * y * rest - z * sin, x * z * rest + y * sin],
        [y * x * rest + z * sin, cos + y * y * rest, y * z * rest - x * sin],
        [z * x * rest - y * sin, z * y * rest + x * sin, cos + z * z * rest],
    ];
    parameters.insert("degrees", vec![degrees]);
    parameters.insert("axis_lps", vec![x, y, z]);
    affine(geometry, matrix, parameters)
}

/// A magnification about the middle of the image.
pub(super) fn scaling(
    geometry: &Geometry,
    strength: f64,
    random: &mut impl Rng,
    parameters: &mut Parameters,
) -> Placement {
    let factor = if random.random_bool(0.5) { strength } else { 1.0 / strength };
    let matrix = std::array::from_fn(|row| std::array::from_fn(|axis| if row == axis { 1.0 / factor } else { 0.0 }));
    parameters.insert("magnification", vec![factor]);
    affine(geometry, matrix, parameters)
}

fn affine(geometry: &Geometry, matrix: [[f64; 3]; 3], parameters: &mut Parameters) -> Placement {
    let centre = middle(geometry);
    parameters.insert("source_matrix_lps", matrix.concat());
    parameters.insert("centre_lps_mm", centre.to_vec());
    Placement::Affine { centre, matrix }
}

/// A smooth random displacement.
pub(super) fn elastic(strength: f64, random: &mut impl Rng, parameters: &mut Parameters) -> Placement {
    parameters.insert("largest_displacement_mm", vec![strength]);
    Placement::Elastic { noise: Box::new(std::array::from_fn(|_| Noise::new(random))), amplitude: strength }
}

/// A part of the field of view, somewhere in it.
pub(super) fn crop(geometry: &Geometry, kept: f64, random: &mut impl Rng, parameters: &mut Parameters) -> Placement {
    // As a part of what may be left out, so that all severities look at the same place.
    let at: [f64; 3] = std::array::from_fn(|_| random.random());
    let size = geometry.size.map(|size| ((size as f64 * kept).round() as usize).clamp(LEAST.min(size), size));
    let start: [usize; 3] =
        std::array::from_fn(|axis| (at[axis] * (geometry.size[axis] - size[axis]) as f64).round() as usize);
    let end = std::array::from_fn(|axis| start[axis] + size[axis]);
    parameters.insert("start_voxels", start.map(|at| at as f64).to_vec());
    parameters.insert("size_voxels", size.map(|size| size as f64).to_vec());
    Placement::Crop(Region { start, end })
}
