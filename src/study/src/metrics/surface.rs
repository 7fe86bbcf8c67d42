//! Surfaces of masks, and how far they are apart.
//!
//! Defined as in MONAI (`get_mask_edges`, `get_surface_distance`): the surface is made of the voxels of a mask with at
//! least one of their six neighbours outside it; what lies beyond the image is outside. The distance of a surface voxel
//! is that to the nearest surface voxel of the other mask, centre to centre, in millimetres.

use super::edt::squared_distances;
use adaptmedseg_volume::Region;
use adaptmedseg_volume::preprocess::bounding_region;

/// Distances in millimetres between two surfaces, sorted from the smallest.
#[derive(Clone, Debug, PartialEq)]
pub struct SurfaceDistances {
    /// From each voxel of the truth's surface to the other.
    pub from_truth: Vec<f64>,
    /// From each voxel of the other surface to the truth's.
    pub from_found: Vec<f64>,
}

impl SurfaceDistances {
    /// Between two masks, one byte per voxel, other than 0 inside, i fastest; `spacing` is in millimetres. `None` if one
    /// of them is empty.
    ///
    /// # Panics
    /// If a mask is not of the size `size`.
    pub fn between(truth: &[u8], found: &[u8], size: [usize; 3], spacing: [f64; 3]) -> Option<Self> {
        assert!(truth.len() == size.iter().product::<usize>() && found.len() == truth.len(), "one byte per voxel");
        let bounds = [truth, found].map(|mask| bounding_region(mask, size, |&voxel| voxel != 0));
        let [Some(a), Some(b)] = bounds else { return None };
        // All surface voxels lie in the region of both masks: nothing outside it matters.
        let region = Region {
            start: std::array::from_fn(|axis| a.start[axis].min(b.start[axis])),
            end: std::array::from_fn(|axis| a.end[axis].max(b.end[axis])),
        };
        let [truth, found] = [truth, found].map(|mask| surface(mask, size, &region));
        let sampled = |at: &[bool], of: &[bool]| {
            let squared = squared_distances(of, region.size(), spacing);
            let mut values: Vec<f64> =
                at.iter().zip(squared).filter(|(at, _)| **at).map(|(_, square)| square.sqrt()).collect();
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        Some(Self { from_truth: sampled(&truth, &found), from_found: sampled(&found, &truth) })
    }

    /// The 95th percentile of the distances, in millimetres: the larger one of both directions.
    pub fn hd95(&self) -> f64 {
        percentile(&self.from_truth, 95.0).max(percentile(&self.from_found, 95.0))
    }

    /// Normalised surface Dice: the share of both surfaces that lies within `tolerance` millimetres of the other.
    pub fn surface_dice(&self, tolerance: f64) -> f64 {
        // Sums of squares of spacings: a distance that is the tolerance by right may be off in its last digits.
        let limit = tolerance * (1.0 + 1e-9);
        let within = |distances: &[f64]| distances.partition_point(|&distance| distance <= limit);
        let all = self.from_truth.len() + self.from_found.len();
        (within(&self.from_truth) + within(&self.from_found)) as f64 / all as f64
    }
}

/// Percentile of sorted values, interpolated linearly between neighbours as numpy does.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let place = percent / 100.0 * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}

/// The surface voxels in a region that holds the whole mask.
fn surface(mask: &[u8], [nx, ny, nz]: [usize; 3], region: &Region) -> Vec<bool> {
    let (strides, size) = ([1, nx, nx * ny], [nx, ny, nz]);
    let mut surface = Vec::with_capacity(region.voxel_count());
    for z in region.start[2]..region.end[2] {
        for y in region.start[1]..region.end[1] {
            for x in region.start[0]..region.end[0] {
                let (place, index) = ([x, y, z], x + nx * (y + ny * z));
                let open = |axis: usize| {
                    let (at, stride) = (place[axis], strides[axis]);
                    at == 0 || at + 1 == size[axis] || mask[index - stride] == 0 || mask[index + stride] == 0
                };
                surface.push(mask[index] != 0 && (0..3).any(open));
            }
        }
    }
    surface
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of voxels from `start` to `end`, the end exclusive.
    fn block(size: [usize; 3], start: [usize; 3], end: [usize; 3]) -> Vec<u8> {
        let place = |voxel: usize| [voxel % size[0], voxel / size[0] % size[1], voxel / (size[0] * size[1])];
        let inside = |voxel: usize| (0..3).all(|axis| (start[axis]..end[axis]).contains(&place(voxel)[axis]));
        (0..size.iter().product()).map(|voxel| u8::from(inside(voxel))).collect()
    }

    #[test]
    fn a_shifted_block_is_as_far_as_it_was_shifted() {
        let (size, spacing) = ([12, 6, 6], [2.0, 1.0, 3.0]);
        let (a, b) = (block(size, [1, 1, 1], [5, 5, 5]), block(size, [4, 1, 1], [8, 5, 5]));
        let distances = SurfaceDistances::between(&a, &b, size, spacing).expect("both are there");
        assert_eq!(distances.hd95(), 6.0);
        assert_eq!(distances.surface_dice(6.0), 1.0);
        assert!(distances.surface_dice(1.0) < 0.6);
        assert_eq!(SurfaceDistances::between(&a, &a, size, spacing).expect("there").hd95(), 0.0);
    }

    #[test]
    fn a_solid_has_a_hollow_surface_also_at_the_edge_of_the_image() {
        let size = [4, 4, 4];
        let whole = block(size, [0; 3], size);
        let found = surface(&whole, size, &Region { start: [0; 3], end: size });
        assert_eq!(found.iter().filter(|&&set| set).count(), 64 - 8);
        assert!(SurfaceDistances::between(&whole, &[0; 64], size, [1.0; 3]).is_none());
    }
}
