//! How good a mask is: overlap, distance of the surfaces in millimetres, volume.

mod edt;
mod surface;

pub(crate) use edt::squared_distances;
pub use surface::SurfaceDistances;

use adaptmedseg_volume::Geometry;
use serde::{Deserialize, Serialize};

/// A mask beside the truth. What is not defined is absent: everything relative to the truth where there is none, and
/// distances where one of the masks is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Volume of the truth in millilitres; 0: the structure is not there.
    pub truth_ml: f64,
    /// Volume of the mask in millilitres.
    pub found_ml: f64,
    /// `2 TP / (P + T)`; 0 for an empty mask.
    pub dice: Option<f64>,
    /// Normalised surface Dice at the tolerance; 0 for an empty mask.
    pub nsd: Option<f64>,
    /// 95 % Hausdorff distance in millimetres; absent for an empty mask, from which there is no distance.
    pub hd95_mm: Option<f64>,
    /// Volume of the mask less that of the truth, in percent of the truth.
    pub volume_error_percent: Option<f64>,
}

/// Compares a mask with the truth: one byte per voxel, other than 0 inside, i fastest, on the grid `geometry`, whose axes
/// are taken as perpendicular. `tolerance` of the surface Dice is in millimetres.
///
/// # Panics
/// If a mask does not have as many voxels as the grid.
pub fn measure(truth: &[u8], found: &[u8], geometry: &Geometry, tolerance: f64) -> Metrics {
    assert!(truth.len() == geometry.voxel_count() && found.len() == truth.len(), "one byte per voxel");
    let (mut both, mut there, mut marked) = (0u64, 0u64, 0u64);
    for (&truth, &found) in truth.iter().zip(found) {
        both += u64::from(truth != 0 && found != 0);
        there += u64::from(truth != 0);
        marked += u64::from(found != 0);
    }
    let ml = geometry.voxel_volume_mm3() / 1000.0;
    let mut metrics = Metrics { truth_ml: there as f64 * ml, found_ml: marked as f64 * ml, ..Metrics::default() };
    if there > 0 {
        let distances = SurfaceDistances::between(truth, found, geometry.size, geometry.spacing);
        metrics.dice = Some(2.0 * both as f64 / (there + marked) as f64);
        metrics.nsd = Some(distances.as_ref().map_or(0.0, |distances| distances.surface_dice(tolerance)));
        metrics.hd95_mm = distances.map(|distances| distances.hd95());
        metrics.volume_error_percent = Some(100.0 * (marked as f64 - there as f64) / there as f64);
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Geometry {
        let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([4, 1, 1], [10.0, 10.0, 10.0], [0.0; 3], identity).expect("a grid")
    }

    #[test]
    fn what_is_not_defined_is_absent() {
        let nothing = measure(&[0; 4], &[0, 1, 0, 0], &grid(), 1.0);
        assert_eq!(nothing, Metrics { found_ml: 1.0, ..Metrics::default() });
        let missed = measure(&[0, 1, 1, 0], &[0; 4], &grid(), 1.0);
        assert_eq!((missed.dice, missed.nsd, missed.hd95_mm), (Some(0.0), Some(0.0), None));
        assert_eq!(missed.volume_error_percent, Some(-100.0));
    }

    #[test]
    fn overlap_and_volume_are_counted() {
        let half = measure(&[1, 1, 0, 0], &[0, 1, 1, 1], &grid(), 10.0);
        assert_eq!((half.dice, half.volume_error_percent), (Some(0.4), Some(50.0)));
        assert_eq!((half.truth_ml, half.found_ml, half.hd95_mm), (2.0, 3.0, Some(19.0)));
        assert_eq!(half.nsd, Some(0.8));
    }
}
