//! What a user asks for, in the spaces users speak in.

use crate::error::{Error, Result};
use adaptmedseg_volume::Geometry;
use serde::Serialize;
use std::str::FromStr;

/// The space a coordinate is given in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Continuous voxel index (i, j, k), fastest axis first, voxel centres at whole numbers.
    #[default]
    Ijk,
    /// Millimetres, axes towards right, anterior, superior (NIfTI, 3D Slicer).
    Ras,
    /// Millimetres, axes towards left, posterior, superior (DICOM, ITK).
    Lps,
    /// Voxels (d, h, w) of the network's zoom-out image: for experts and for comparison with the original.
    Model,
}

impl FromStr for Space {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "ijk" => Ok(Self::Ijk),
            "ras" => Ok(Self::Ras),
            "lps" => Ok(Self::Lps),
            "model" => Ok(Self::Model),
            _ => Err(format!("unknown space {text:?}: ijk, ras, lps or model")),
        }
    }
}

/// Where the scan comes from. Context priors choose their tokens by it; the plain network does not look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Modality {
    /// Not said.
    #[default]
    Unknown,
    /// Computed tomography.
    Ct,
    /// Magnetic resonance.
    Mr,
}

impl FromStr for Modality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "ct" => Ok(Self::Ct),
            "mr" | "mri" => Ok(Self::Mr),
            "unknown" => Ok(Self::Unknown),
            _ => Err(format!("unknown modality {text:?}: CT, MR (or MRI) or unknown")),
        }
    }
}

/// How a volume is segmented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The original's method with its mistakes mended.
    #[default]
    Default,
    /// The original's behaviour, mistakes included.
    Reference,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "default" => Ok(Self::Default),
            "reference" => Ok(Self::Reference),
            _ => Err(format!("unknown mode {text:?}: default or reference")),
        }
    }
}

/// A point inside (positive) or outside (negative) the structure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Where, in `space`.
    pub position: [f64; 3],
    /// The space of the position.
    pub space: Space,
    /// Whether the point lies in the structure.
    pub positive: bool,
}

/// A box around the structure.
///
/// In voxel spaces the corners are voxel positions: the box from 2 to 5 holds the voxels 2, 3, 4 and 5. It must have an
/// extent along every axis; a single slice k is the box from k - 0.5 to k + 0.5.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BoxPrompt {
    /// Two opposite corners, in `space`. In voxel spaces the first is below the second along every axis.
    pub corners: [[f64; 3]; 2],
    /// The space of the corners.
    pub space: Space,
}

/// All prompts of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PromptSet {
    /// Name of the structure.
    pub text: Option<String>,
    /// Points, in the order they were given.
    pub points: Vec<Point>,
    /// The box.
    #[serde(rename = "box")]
    pub bounding_box: Option<BoxPrompt>,
}

impl PromptSet {
    /// Whether there is nothing to go by.
    pub fn is_empty(&self) -> bool {
        self.text.is_none() && self.points.is_empty() && self.bounding_box.is_none()
    }
}

/// The voxel index of a position that is not in [`Space::Model`].
fn to_ijk(position: [f64; 3], space: Space, geometry: &Geometry) -> [f64; 3] {
    match space {
        Space::Ijk | Space::Model => position,
        Space::Lps => geometry.lps_to_ijk(position),
        Space::Ras => geometry.lps_to_ijk([-position[0], -position[1], position[2]]),
    }
}

fn show(position: [f64; 3]) -> String {
    format!("({}, {}, {})", position[0], position[1], position[2])
}

fn hint(space: Space) -> &'static str {
    match space {
        Space::Ijk => "coordinates are voxel indices here (space ijk); the spaces ras and lps take millimetres",
        Space::Ras => "coordinates are RAS millimetres here; the space lps takes LPS millimetres, ijk voxel indices",
        Space::Lps => "coordinates are LPS millimetres here; the space ras takes RAS millimetres, ijk voxel indices",
        Space::Model => "coordinates are (d, h, w) of the network's zoom-out grid",
    }
}

/// The grid a position must lie in, and its name in messages.
fn bounds(space: Space, geometry: &Geometry, zoom: [usize; 3]) -> ([usize; 3], &'static str) {
    if space == Space::Model { (zoom, "the network's grid") } else { (geometry.size, "the image") }
}

fn finite(position: &[f64; 3], what: &str, space: Space) -> Result<()> {
    if position.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(Error::argument(format!("{what} {} is not finite", show(*position)), hint(space)))
    }
}

impl Point {
    /// Checks that the point lies in the image; returns its voxel index, or its place on the network's grid.
    pub(crate) fn locate(&self, geometry: &Geometry, zoom: [usize; 3]) -> Result<[f64; 3]> {
        finite(&self.position, "point", self.space)?;
        let place = to_ijk(self.position, self.space, geometry);
        let (size, name) = bounds(self.space, geometry, zoom);
        if (0..3).all(|axis| place[axis] >= -0.5 && place[axis] <= size[axis] as f64 - 0.5) {
            return Ok(place);
        }
        let [x, y, z] = size;
        Err(Error::argument(
            format!("point {} lies outside {name} ({x} x {y} x {z} voxels)", show(self.position)),
            hint(self.space),
        ))
    }
}

impl BoxPrompt {
    /// Checks the box; returns the first and last voxel in it along each axis, clipped to the image.
    ///
    /// A box in millimetres becomes the voxels between the extremes of its eight corners.
    pub(crate) fn locate(&self, geometry: &Geometry, zoom: [usize; 3]) -> Result<[[f64; 3]; 2]> {
        let [a, b] = self.corners;
        finite(&a, "box corner", self.space)?;
        finite(&b, "box corner", self.space)?;
        let voxels = matches!(self.space, Space::Ijk | Space::Model);
        for axis in 0..3 {
            let problem = match a[axis].total_cmp(&b[axis]) {
                std::cmp::Ordering::Equal => "empty",
                std::cmp::Ordering::Greater if voxels => "inverted",
                _ => continue,
            };
            return Err(Error::argument(
                format!(
                    "box {} to {} is {problem}: its corners are {} and {} along axis {}",
                    show(a),
                    show(b),
                    a[axis],
                    b[axis],
                    axis + 1
                ),
                "give the lower corner first, then the upper one, with an extent along every axis",
            ));
        }
        let corner = |index: usize| -> [f64; 3] { std::array::from_fn(|axis| self.corners[index >> axis & 1][axis]) };
        let corners: Vec<[f64; 3]> = (0..8).map(|index| to_ijk(corner(index), self.space, geometry)).collect();
        let (size, name) = bounds(self.space, geometry, zoom);
        let mut located = [[0.0; 3]; 2];
        for axis in 0..3 {
            let along = || corners.iter().map(|corner| corner[axis]);
            let (low, high) = (along().fold(f64::INFINITY, f64::min), along().fold(f64::NEG_INFINITY, f64::max));
            let last = size[axis] as f64 - 0.5;
            if high < -0.5 || low > last {
                let [x, y, z] = size;
                return Err(Error::argument(
                    format!("box {} to {} lies outside {name} ({x} x {y} x {z} voxels)", show(a), show(b)),
                    hint(self.space),
                ));
            }
            // The voxels whose centres lie in the box; a box that slips between two centres means the nearer one.
            let (mut first, mut end) = ((low - 1e-6).ceil(), (high + 1e-6).floor());
            if first > end {
                first = ((low + high) / 2.0).round();
                end = first;
            }
            let top = size[axis] as f64 - 1.0;
            located[0][axis] = first.clamp(0.0, top);
            located[1][axis] = end.clamp(0.0, top);
        }
        Ok(located)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZOOM: [usize; 3] = [16, 64, 64];

    fn grid() -> Geometry {
        let direction = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([10, 20, 30], [1.0, 2.0, 3.0], [5.0, 6.0, 7.0], direction).expect("a grid")
    }

    fn cube(a: [f64; 3], b: [f64; 3], space: Space) -> BoxPrompt {
        BoxPrompt { corners: [a, b], space }
    }

    #[test]
    fn one_place_has_the_same_voxel_in_every_space() {
        let grid = grid();
        let ijk = [2.0, 3.0, 4.0];
        let [l, p, s] = grid.ijk_to_lps(ijk);
        for (position, space) in [(ijk, Space::Ijk), ([l, p, s], Space::Lps), ([-l, -p, s], Space::Ras)] {
            let place = Point { position, space, positive: true }.locate(&grid, ZOOM).expect("inside");
            assert!((0..3).all(|axis| (place[axis] - ijk[axis]).abs() < 1e-9), "{space:?}: {place:?}");
        }
    }

    #[test]
    fn a_point_outside_says_where_the_image_ends() {
        let point = Point { position: [500.0; 3], space: Space::Ijk, positive: true };
        let error = point.locate(&grid(), ZOOM).unwrap_err();
        assert_eq!(error.to_string(), "point (500, 500, 500) lies outside the image (10 x 20 x 30 voxels)");
        assert!(error.hint().expect("a hint").contains("spaces ras and lps"));
    }

    #[test]
    fn boxes_that_cannot_be_are_refused_by_their_fault() {
        let message = |a, b| cube(a, b, Space::Ijk).locate(&grid(), ZOOM).unwrap_err().to_string();
        assert!(message([5.0; 3], [1.0, 6.0, 6.0]).contains("inverted"));
        assert!(message([5.0; 3], [5.0; 3]).contains("empty"));
        assert!(message([50.0; 3], [60.0; 3]).contains("outside"));
        assert!(message([f64::NAN; 3], [60.0; 3]).contains("finite"));
    }

    #[test]
    fn a_box_in_millimetres_may_name_any_two_corners() {
        let grid = grid();
        let (a, b) = (grid.ijk_to_lps([1.0, 2.0, 3.0]), grid.ijk_to_lps([4.0, 5.0, 6.0]));
        let located = cube(a, b, Space::Lps).locate(&grid, ZOOM).expect("inside");
        assert_eq!(located, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    }
}
