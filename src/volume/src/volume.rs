//! Voxels on a grid.

use crate::error::{Error, Result};
use crate::geometry::Geometry;

/// A 3-D image: voxels and where they lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<T = f32> {
    /// The grid.
    pub geometry: Geometry,
    /// The voxels, i fastest: voxel (i, j, k) is at `i + size[0] * (j + size[1] * k)`.
    pub data: Vec<T>,
}

impl<T> Volume<T> {
    /// Voxels on a grid.
    ///
    /// # Errors
    /// If there are not as many voxels as the grid has places.
    pub fn new(geometry: Geometry, data: Vec<T>) -> Result<Self> {
        if data.len() != geometry.voxel_count() {
            return Err(Error::InvalidVoxels {
                message: format!("{} voxels for a grid of {}", data.len(), geometry.voxel_count()),
            });
        }
        Ok(Self { geometry, data })
    }

    /// The voxel at (i, j, k).
    ///
    /// # Panics
    /// Outside the image.
    pub fn at(&self, [i, j, k]: [usize; 3]) -> &T {
        let [nx, ny, nz] = self.geometry.size;
        assert!(i < nx && j < ny && k < nz, "voxel ({i}, {j}, {k}) of {nx} x {ny} x {nz}");
        &self.data[i + nx * (j + ny * k)]
    }
}

/// Voxels that were not numbers, and what [`sanitise`] replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NonFinite {
    /// NaN voxels.
    pub nan: usize,
    /// Voxels of plus infinity.
    pub pos_inf: usize,
    /// Voxels of minus infinity.
    pub neg_inf: usize,
}

impl NonFinite {
    /// All of them.
    pub fn total(&self) -> usize {
        self.nan + self.pos_inf + self.neg_inf
    }
}

/// Replaces what is not a number: NaN and minus infinity by the smallest finite voxel (outside the patient, usually),
/// plus infinity by the largest.
///
/// # Errors
/// An image without any finite voxel.
pub fn sanitise(volume: &mut Volume<f32>) -> Result<NonFinite> {
    let mut found = NonFinite::default();
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for &value in &volume.data {
        if value.is_finite() {
            low = low.min(value);
            high = high.max(value);
        } else if value.is_nan() {
            found.nan += 1;
        } else if value > 0.0 {
            found.pos_inf += 1;
        } else {
            found.neg_inf += 1;
        }
    }
    if found.total() == volume.data.len() {
        return Err(Error::InvalidVoxels { message: "the image has no finite voxel".into() });
    }
    if found.total() > 0 {
        for value in volume.data.iter_mut().filter(|value| !value.is_finite()) {
            *value = if *value == f32::INFINITY { high } else { low };
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_voxels_are_counted_and_replaced_by_the_stated_rule() {
        let data = vec![1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 5.0];
        let mut volume = Volume::new(Geometry::with_size([5, 1, 1]), data).expect("five voxels");
        assert_eq!(sanitise(&mut volume).expect("finite ones"), NonFinite { nan: 1, pos_inf: 1, neg_inf: 1 });
        assert_eq!(volume.data, [1.0, 1.0, 5.0, 1.0, 5.0]);
        volume.data.fill(f32::NAN);
        assert!(sanitise(&mut volume).is_err());
    }
}
