//! How hard a case is, as far as its image and its truth tell: what Dice is reported against.

use crate::metrics::squared_distances;
use crate::shift::Range;
use adaptmedseg_volume::preprocess::bounding_region;
use adaptmedseg_volume::{Region, Volume};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Bins of the histogram that the entropy is computed of.
const BINS: usize = 64;
/// A gradient above this part of the robust range per millimetre is an edge.
const EDGE_PER_MM: f64 = 0.05;
/// How far the surroundings of a structure reach, in millimetres.
const SURROUNDINGS_MM: f64 = 6.0;

/// Measures of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageComplexity {
    /// Share of voxels where the gradient (central differences, in millimetres) exceeds 5 % of the robust range per
    /// millimetre.
    pub edge_density: f64,
    /// Shannon entropy of the histogram of 64 bins over the robust range, in bits: from 0 to 6.
    pub entropy_bits: f64,
}

impl ImageComplexity {
    /// Of an image.
    pub fn of(image: &Volume<f32>) -> Self {
        let range = Range::robust(image);
        Self { edge_density: edge_density(image, range), entropy_bits: entropy(image, range) }
    }
}

fn edge_density(image: &Volume<f32>, range: Range) -> f64 {
    let ([nx, ny, nz], spacing) = (image.geometry.size, image.geometry.spacing);
    let limit = (EDGE_PER_MM * f64::from(range.width())).powi(2);
    let edges: usize = (0..ny * nz)
        .into_par_iter()
        .map(|row| {
            let (y, z) = (row % ny, row / ny);
            let square = |x: usize| -> f64 {
                let places = [(x, nx, 1), (y, ny, nx), (z, nz, nx * ny)];
                let index = x + nx * row;
                let slope = |(axis, (at, size, stride)): (usize, (usize, usize, usize))| {
                    let (low, high) = (usize::from(at > 0), usize::from(at + 1 < size));
                    let difference = image.data[index + high * stride] - image.data[index - low * stride];
                    (f64::from(difference) / ((low + high).max(1) as f64 * spacing[axis])).powi(2)
                };
                places.into_iter().enumerate().map(slope).sum()
            };
            (0..nx).filter(|&x| square(x) > limit).count()
        })
        .sum();
    edges as f64 / image.data.len() as f64
}

fn entropy(image: &Volume<f32>, range: Range) -> f64 {
    let mut counts = [0u64; BINS];
    for &value in &image.data {
        counts[((range.share(value).clamp(0.0, 1.0) * BINS as f32) as usize).min(BINS - 1)] += 1;
    }
    let total = image.data.len() as f64;
    let parts = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total);
    // Not -0 of a single bin.
    (-parts.map(|part| part * part.log2()).sum::<f64>()).max(0.0)
}

/// How much a structure stands out: the difference of its mean from that of its surroundings, up to 6 mm away, by the
/// standard deviation of both (the root of their mean variance). `None` if it is empty or has no surroundings.
///
/// # Panics
/// If the mask, one byte per voxel and other than 0 inside, does not have as many voxels as the image.
pub fn foreground_contrast(image: &Volume<f32>, mask: &[u8]) -> Option<f64> {
    let (size, spacing) = (image.geometry.size, image.geometry.spacing);
    assert_eq!(mask.len(), image.data.len(), "one byte per voxel");
    let tight = bounding_region(mask, size, |&voxel| voxel != 0)?;
    let reach = |axis: usize| (SURROUNDINGS_MM / spacing[axis]).ceil() as usize;
    let region = Region {
        start: std::array::from_fn(|axis| tight.start[axis].saturating_sub(reach(axis))),
        end: std::array::from_fn(|axis| (tight.end[axis] + reach(axis)).min(size[axis])),
    };
    let mut voxels = Vec::with_capacity(region.voxel_count());
    for z in region.start[2]..region.end[2] {
        for y in region.start[1]..region.end[1] {
            let row = size[0] * (y + size[1] * z);
            voxels.extend(row + region.start[0]..row + region.end[0]);
        }
    }
    let set: Vec<bool> = voxels.iter().map(|&voxel| mask[voxel] != 0).collect();
    let distances = squared_distances(&set, region.size(), spacing);
    let (mut inside, mut around) = (Moments::default(), Moments::default());
    for (&voxel, distance) in voxels.iter().zip(distances) {
        match distance {
            0.0 => inside.add(image.data[voxel]),
            near if near <= SURROUNDINGS_MM * SURROUNDINGS_MM => around.add(image.data[voxel]),
            _ => {}
        }
    }
    let spread = ((inside.variance() + around.variance()) / 2.0).sqrt();
    let difference = (inside.mean() - around.mean()).abs();
    (around.count > 0.0 && spread > 0.0).then(|| difference / spread)
}

#[derive(Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f32) {
        let value = f64::from(value);
        (self.count, self.sum, self.squares) = (self.count + 1.0, self.sum + value, self.squares + value * value);
    }

    fn mean(&self) -> f64 {
        self.sum / self.count
    }

    fn variance(&self) -> f64 {
        (self.squares / self.count - self.mean().powi(2)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adaptmedseg_volume::Geometry;

    /// A bright block in the middle of a dark image with a faint pattern.
    fn block(bright: f32) -> (Volume<f32>, Vec<u8>) {
        let geometry = Geometry::with_size([20, 20, 20]);
        let inside = |index: usize| [index % 20, index / 20 % 20, index / 400].iter().all(|at| (6..14).contains(at));
        let mask: Vec<u8> = (0..8000).map(|index| u8::from(inside(index))).collect();
        let data = mask.iter().enumerate().map(|(index, &set)| f32::from(set) * bright + (index % 2) as f32).collect();
        (Volume { geometry, data }, mask)
    }

    #[test]
    fn what_stands_out_more_has_more_contrast() {
        let contrast = |bright| {
            let (image, mask) = block(bright);
            foreground_contrast(&image, &mask).expect("there are surroundings")
        };
        // A pattern of 0 and 1 deviates by a half.
        assert!((contrast(10.0) - 20.0).abs() < 0.1, "{}", contrast(10.0));
        assert!(contrast(2.0) < contrast(10.0));
        let (image, _) = block(1.0);
        assert_eq!(foreground_contrast(&image, &[0; 8000]), None);
        assert_eq!(foreground_contrast(&image, &[1; 8000]), None);
    }

    #[test]
    fn edges_and_levels_are_counted() {
        let (image, _) = block(100.0);
        let complexity = ImageComplexity::of(&image);
        // Two voxels deep around a cube of 8.
        assert!((complexity.edge_density - (1000.0 - 216.0) / 8000.0).abs() < 0.04, "{complexity:?}");
        assert!(complexity.entropy_bits > 0.2 && complexity.entropy_bits < 2.0, "{complexity:?}");
        let flat = Volume { data: vec![1.0; 8000], geometry: Geometry::with_size([20, 20, 20]) };
        assert_eq!(ImageComplexity::of(&flat), ImageComplexity::default());
    }
}
