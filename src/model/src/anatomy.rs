//! What usually fills a box: shapes of known structures, by the size of their boxes and where these lie in the body.
//!
//! A box says little of a structure that takes a tenth of it. A person knows from its size and place that this is an
//! iliopsoas and not the pelvis beside it, and roughly which part of the box it takes. So does an atlas of many bodies
//! (multi-atlas segmentation: Iglesias and Sabuncu, Medical Image Analysis 24, 2015): its shapes, and what they are on the
//! other side of the body, are weighted by how alike their boxes are, and by how well each explains the intensities in the
//! box (their mutual information, Viola and Wells, 1997, which holds for any contrast), bent to explain them better, and
//! averaged.
//!
//! It also has whole bodies, which say where a structure is before there is any box, and which structure a box is drawn around:
//! see [`Fits`].

use explain::Explanations;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use whole_body::words;

mod body;
mod explain;
mod file;
mod fitting;
mod samples;
mod threads;
mod whole_body;

pub use body::body_box;
pub use fitting::Fits;
pub use whole_body::{CELL, WholeBody};

/// Cells along each axis of a box.
pub const GRID: usize = 12;
/// Cells of a box.
pub const CELLS: usize = GRID * GRID * GRID;
/// Bytes of a shape, a bit for each cell.
const BYTES: usize = CELLS / 8;
/// Numbers that describe a place.
const NUMBERS: usize = 7;
/// Standard deviations of the kernel: of the logarithm of an edge, and of where the middle lies, in widths of the body.
const EDGE_SIGMA: f32 = 0.35;
const OFFSET_SIGMA: f32 = 0.06;
/// What it costs that only one of two boxes ends where its scan does, as a squared distance.
const CUT_COST: f32 = 2.0;
/// Shapes with the most similar boxes, which are looked at closely.
const NEAREST: usize = 400;
/// Of these, how many that explain the intensities best are bent.
const BENT: usize = 60;
/// What candidates count for beside the atlas's shapes, and how likely one must be beside the likeliest to count.
const CANDIDATES: f32 = 0.5;
const RIVAL: f32 = 0.1;

/// A box and where it lies, axes (d, h, w) of a body that stands upright: feet first, back first, left first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxPlace {
    /// Its edges in millimetres.
    pub edges: [f32; 3],
    /// How far its middle is from the body's along (h, w), in widths of the body.
    pub offset: [f32; 2],
    /// Whether it ends where the scan does, below and above.
    pub cut: [bool; 2],
}

impl BoxPlace {
    /// The place of a box in a volume of `depth` planes. Boxes are given by their faces (d, h, w) in voxels, whose own faces lie
    /// half a voxel from whole numbers; `spacing` is in millimetres.
    pub fn new([low, high]: [[f32; 3]; 2], spacing: [f32; 3], body: [[f32; 3]; 2], depth: usize) -> Self {
        let width = ((body[1][2] - body[0][2]) * spacing[2]).max(1.0);
        let off = |axis: usize| (low[axis] + high[axis] - body[0][axis] - body[1][axis]) / 2.0 * spacing[axis] / width;
        Self {
            edges: std::array::from_fn(|axis| ((high[axis] - low[axis]) * spacing[axis]).max(0.1)),
            offset: [off(1), off(2)],
            cut: [low[0] < 0.25, high[0] > depth as f32 - 1.25],
        }
    }

    /// Squared distance, in standard deviations of the kernel.
    fn distance(&self, other: &Self) -> f32 {
        let edges: f32 = (0..3).map(|axis| ((self.edges[axis] / other.edges[axis]).ln() / EDGE_SIGMA).powi(2)).sum();
        let offset: f32 = (0..2).map(|axis| ((self.offset[axis] - other.offset[axis]) / OFFSET_SIGMA).powi(2)).sum();
        let cut = (0..2).filter(|&end| self.cut[end] != other.cut[end]).count() as f32;
        edges + offset + CUT_COST * cut
    }

    /// The same on the other side of the body.
    fn mirrored(&self) -> Self {
        Self { offset: [self.offset[0], -self.offset[1]], ..*self }
    }

    fn numbers(&self) -> [f32; NUMBERS] {
        let [d, h, w] = self.edges;
        let [below, above] = self.cut.map(f32::from);
        [d, h, w, self.offset[0], self.offset[1], below, above]
    }

    fn from_numbers([d, h, w, back, side, below, above]: [f32; NUMBERS]) -> Self {
        Self { edges: [d, h, w], offset: [back, side], cut: [below > 0.5, above > 0.5] }
    }
}

/// A structure that a box may be drawn around, as whole bodies have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// How likely it is that, from 0 to 1, by how much alike the boxes are.
    likely: f32,
    /// The cells that it fills of its own boxes, (d, h, w), and how unlike these are, as squared distances.
    shapes: Vec<(f32, Vec<u8>)>,
}

/// Shapes with the boxes they fill. Read-only; see the module.
#[derive(Clone, PartialEq)]
pub struct Atlas {
    places: Vec<BoxPlace>,
    /// A bit for each cell, (d, h, w) row-major, the lowest first.
    shapes: Vec<[u8; BYTES]>,
    bodies: Vec<WholeBody>,
}

impl fmt::Debug for Atlas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Atlas")
            .field("shapes", &self.shapes.len())
            .field("bodies", &self.bodies.len())
            .finish_non_exhaustive()
    }
}

impl Atlas {
    /// An atlas of boxes and which of their [`CELLS`] are filled, row-major (d, h, w).
    pub fn new(entries: impl IntoIterator<Item = (BoxPlace, Vec<bool>)>) -> Self {
        let mut atlas = Self { places: Vec::new(), shapes: Vec::new(), bodies: Vec::new() };
        for (place, cells) in entries {
            assert_eq!(cells.len(), CELLS, "cells of a box");
            let mut shape = [0; BYTES];
            cells.iter().enumerate().for_each(|(cell, &filled)| shape[cell / 8] |= u8::from(filled) << (cell % 8));
            atlas.places.push(place);
            atlas.shapes.push(shape);
        }
        atlas
    }

    /// The same with whole bodies.
    pub fn with_bodies(self, bodies: Vec<WholeBody>) -> Self {
        assert!(bodies.iter().all(WholeBody::is_sound), "as many labels as cells");
        Self { bodies, ..self }
    }

    /// Where its whole bodies lie in a scan: row-major (D, H, W), from 0 to 1; `spacing` in millimetres; `body` is the box of
    /// the body in it by its faces, see [`body_box`]. Computed by `threads` threads.
    pub fn fits(
        &self,
        image: &[f32],
        size: [usize; 3],
        spacing: [f32; 3],
        body: [[f32; 3]; 2],
        threads: usize,
    ) -> Fits {
        Fits::new(&self.bodies, image, size, spacing, body, threads)
    }

    /// How likely each voxel of the scan that `fits` are of is in the structure that `text` names, from 0 to 1; `None` where
    /// no body has it.
    pub fn located(&self, fits: &Fits, text: &str) -> Option<Vec<f32>> {
        fits.expected(&self.bodies, text)
    }

    /// The same of the structure that most likely holds some voxels (d, h, w); `None` where none is likely to.
    pub fn holding(&self, fits: &Fits, places: &[[usize; 3]]) -> Option<Vec<f32>> {
        fits.holding(&self.bodies, places)
    }

    /// What a box in the scan that `fits` are of may be drawn around: the structures of the whole bodies whose own boxes lie
    /// much like it; only that which `text` names where there is one. The box is given by its faces (d, h, w) in voxels.
    pub fn candidates(&self, fits: &Fits, corners: [[f32; 3]; 2], text: Option<&str>) -> Vec<Candidate> {
        fits.candidates(&self.bodies, corners, text)
    }

    /// Whether one of its whole bodies has the structure that `text` names.
    pub fn knows(&self, text: &str) -> bool {
        self.structures().iter().any(|name| words(name) == words(text))
    }

    /// The names of all structures of its whole bodies.
    pub fn structures(&self) -> BTreeSet<&str> {
        self.bodies.iter().flat_map(|body| &body.structures).map(|(name, _)| name.as_str()).collect()
    }

    /// Number of shapes.
    pub fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// How likely each voxel of a window is in the structure that a box is drawn around, from 0 to 1; 0 beyond the box.
    ///
    /// `window` is row-major (D, H, W), `corners` the box in it (d0, h0, w0, d1, h1, w1), inclusive. Only shapes number
    /// `among` are looked at; beside them, `candidates`.
    pub fn prior(
        &self,
        window: &[f32],
        size: [usize; 3],
        corners: &[f32; 6],
        place: &BoxPlace,
        among: Range<usize>,
        candidates: &[Candidate],
    ) -> Vec<f32> {
        let low: [f32; 3] = std::array::from_fn(|axis| corners[axis] - 0.5);
        let edges: [f32; 3] = std::array::from_fn(|axis| (corners[axis + 3] + 0.5 - low[axis]).max(1e-3));
        let explanations = Explanations::new(&cells_of(window, size, low, edges));
        let cells = self.cells(&explanations, place, among, candidates);
        let axes: [Vec<(usize, f32)>; 3] = std::array::from_fn(|axis| {
            let cell = |index: usize| (index as f32 - low[axis]) / edges[axis] * GRID as f32;
            let inside = |at: &(usize, f32)| (0.0..=GRID as f32).contains(&at.1);
            (0..size[axis])
                .map(|index| (index, cell(index)))
                .filter(inside)
                .map(|(index, at)| (index, at - 0.5))
                .collect()
        });
        let mut out = vec![0.0; window.len()];
        for &(d, z) in &axes[0] {
            for &(h, y) in &axes[1] {
                for &(w, x) in &axes[2] {
                    out[(d * size[1] + h) * size[2] + w] = interpolated(&cells, [GRID; 3], [z, y, x]);
                }
            }
        }
        out
    }

    /// How likely each cell is filled.
    fn cells(
        &self,
        explanations: &Explanations,
        place: &BoxPlace,
        among: Range<usize>,
        candidates: &[Candidate],
    ) -> Vec<f32> {
        let both = [(false, *place), (true, place.mirrored())];
        let mut nearest: Vec<(f32, usize, bool)> = both
            .iter()
            .flat_map(|(mirrored, place)| {
                among.clone().map(|index| (self.places[index].distance(place), index, *mirrored))
            })
            .collect();
        nearest.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        nearest.truncate(NEAREST);
        let shapes =
            nearest.into_iter().map(|(distance, index, mirrored)| (distance, expanded(&self.shapes[index], mirrored)));
        let mut cells = averaged(explanations, shapes);
        // The box says which structure it is, better than the intensities in it; these say which shape of that structure.
        let most = candidates.iter().map(|candidate| candidate.likely).fold(0.0, f32::max);
        let rivals = || candidates.iter().filter(|candidate| candidate.likely >= RIVAL * most);
        let sum: f32 = rivals().map(|candidate| candidate.likely).sum();
        if sum > 0.0 {
            cells.iter_mut().for_each(|cell| *cell *= 1.0 - CANDIDATES);
            for candidate in rivals() {
                let weight = CANDIDATES * candidate.likely / sum;
                let shapes = averaged(explanations, candidate.shapes.iter().cloned());
                cells.iter_mut().zip(shapes).for_each(|(cell, filled)| *cell += weight * filled);
            }
        }
        cells
    }
}

/// The mean of shapes, bent and weighted by how well they then explain the intensities, and by how unlike their boxes are.
fn averaged(explanations: &Explanations, shapes: impl Iterator<Item = (f32, Vec<u8>)>) -> Vec<f32> {
    let mut shapes: Vec<(f32, f32, Vec<u8>)> =
        shapes.map(|(distance, shape)| (explanations.weight(&shape) - distance / 2.0, distance, shape)).collect();
    shapes.sort_by(|a, b| b.0.total_cmp(&a.0));
    shapes.truncate(BENT);
    let shapes: Vec<(f32, Vec<u8>)> = shapes
        .into_iter()
        .map(|(_, distance, shape)| {
            let (weight, shape) = explanations.bent(&shape);
            (weight - distance / 2.0, shape)
        })
        .collect();
    let most = shapes.iter().map(|(weight, _)| *weight).fold(f32::NEG_INFINITY, f32::max);
    let mut cells = vec![0.0; CELLS];
    let mut sum = 0.0;
    for (weight, shape) in shapes {
        let weight = (weight - most).exp();
        sum += weight;
        cells.iter_mut().zip(shape).for_each(|(cell, filled)| *cell += weight * f32::from(filled));
    }
    cells.iter_mut().for_each(|cell| *cell /= f32::max(sum, 1e-9));
    cells
}

/// 1 for each cell that a shape, or what it is on the other side of the body, fills.
fn expanded(shape: &[u8; BYTES], mirrored: bool) -> Vec<u8> {
    let bit = |cell: usize| shape[cell / 8] >> (cell % 8) & 1;
    (0..CELLS).map(|cell| bit(if mirrored { cell - cell % GRID + GRID - 1 - cell % GRID } else { cell })).collect()
}

/// The means of a window over the cells of a box, from eight places in each.
fn cells_of(window: &[f32], size: [usize; 3], low: [f32; 3], edges: [f32; 3]) -> Vec<f32> {
    let place = |axis: usize, cell: usize, part: f32| low[axis] + (cell as f32 + part) / GRID as f32 * edges[axis];
    (0..CELLS)
        .map(|cell| {
            let at = [cell / (GRID * GRID), cell / GRID % GRID, cell % GRID];
            let parts = (0..8).map(|part| {
                let place =
                    std::array::from_fn(|axis| place(axis, at[axis], if part >> axis & 1 == 0 { 0.25 } else { 0.75 }));
                interpolated(window, size, place)
            });
            parts.sum::<f32>() / 8.0
        })
        .collect()
}

/// The value at a place, interpolated; beyond the ends that of the nearest voxel.
fn interpolated(data: &[f32], size: [usize; 3], place: [f32; 3]) -> f32 {
    let axes: [(usize, usize, f32); 3] = std::array::from_fn(|axis| {
        let last = size[axis] - 1;
        let at = place[axis].clamp(0.0, last as f32);
        (at as usize, (at as usize + 1).min(last), at - at.floor())
    });
    let [d, h, w] = axes;
    let row = |d: usize, h: usize| {
        let row = &data[(d * size[1] + h) * size[2]..][..size[2]];
        row[w.0] + w.2 * (row[w.1] - row[w.0])
    };
    let plane = |d: usize| {
        let (near, far) = (row(d, h.0), row(d, h.1));
        near + h.2 * (far - near)
    };
    let (near, far) = (plane(d.0), plane(d.1));
    near + d.2 * (far - near)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 3] = [24; 3];
    const CORNERS: [f32; 6] = [4.0, 4.0, 4.0, 19.0, 19.0, 19.0];

    /// A box of which the lower half along an axis is filled.
    fn half(axis: usize, edge: f32) -> (BoxPlace, Vec<bool>) {
        let place = BoxPlace { edges: [edge; 3], offset: [0.0; 2], cut: [false; 2] };
        let at = move |cell: usize| [cell / (GRID * GRID), cell / GRID % GRID, cell % GRID][axis];
        (place, (0..CELLS).map(|cell| at(cell) < GRID / 2).collect())
    }

    fn value(prior: &[f32], [d, h, w]: [usize; 3]) -> f32 {
        prior[(d * SIZE[1] + h) * SIZE[2] + w]
    }

    #[test]
    fn shapes_of_similar_boxes_are_what_is_expected() {
        let atlas = Atlas::new([half(0, 50.0), half(1, 200.0)]);
        let flat = vec![0.5; 24 * 24 * 24];
        for (edge, [low, high]) in [(55.0, [[5, 15, 12], [15, 5, 12]]), (180.0, [[15, 5, 12], [5, 15, 12]])] {
            let place = BoxPlace { edges: [edge; 3], ..half(0, edge).0 };
            let prior = atlas.prior(&flat, SIZE, &CORNERS, &place, 0..2, &[]);
            assert!(value(&prior, low) > 0.99 && value(&prior, high) < 0.01, "{edge}");
            assert_eq!(value(&prior, [1, 1, 1]), 0.0);
        }
    }

    #[test]
    fn of_equal_boxes_the_shape_that_the_image_shows_is() {
        let atlas = Atlas::new((0..3).map(|axis| half(axis, 50.0)));
        let window: Vec<f32> = (0..24 * 24 * 24).map(|index| if index / 24 % 24 < 12 { 0.3 } else { 0.6 }).collect();
        for contrast in [1.0, -1.0] {
            let window: Vec<f32> = window.iter().map(|value| 0.5 + contrast * (value - 0.5)).collect();
            let prior = atlas.prior(&window, SIZE, &CORNERS, &half(0, 50.0).0, 0..3, &[]);
            assert!(value(&prior, [15, 5, 15]) > 0.99 && value(&prior, [5, 15, 5]) < 0.01);
        }
    }

    #[test]
    fn candidates_count_half_and_the_likelier_the_more() {
        let (place, cells) = half(0, 50.0);
        let atlas = Atlas::new([(place, cells)]);
        let flat = vec![0.5; 24 * 24 * 24];
        let of = |axis: usize, likely: f32| Candidate {
            likely,
            shapes: vec![(1.0, half(axis, 50.0).1.into_iter().map(u8::from).collect())],
        };
        let prior = |candidates: &[Candidate]| atlas.prior(&flat, SIZE, &CORNERS, &place, 0..1, candidates);
        // Where one shape is filled and the others are not.
        let places = [[5, 15, 15], [15, 5, 15], [15, 15, 5]];
        for (candidates, wanted) in [
            (&[][..], [1.0, 0.0, 0.0]),
            (&[of(1, 0.02)], [0.5, 0.5, 0.0]),
            (&[of(1, 0.6), of(2, 0.2)], [0.5, 0.375, 0.125]),
            (&[of(1, 0.6), of(2, 0.05)], [0.5, 0.5, 0.0]),
        ] {
            let found = places.map(|place| value(&prior(candidates), place));
            let off = found.iter().zip(wanted).map(|(found, wanted): (&f32, f32)| (found - wanted).abs());
            assert!(off.fold(0.0, f32::max) < 0.01, "{found:?} for {wanted:?}");
        }
    }

    #[test]
    fn a_shape_is_known_on_the_other_side_of_the_body_too() {
        let (place, cells) = half(2, 50.0);
        let atlas = Atlas::new([(BoxPlace { offset: [0.1, 0.2], ..place }, cells)]);
        let flat = vec![0.5; 24 * 24 * 24];
        for (side, [inside, outside]) in [(0.2, [[12, 12, 5], [12, 12, 18]]), (-0.2, [[12, 12, 18], [12, 12, 5]])] {
            let prior = atlas.prior(&flat, SIZE, &CORNERS, &BoxPlace { offset: [0.1, side], ..place }, 0..1, &[]);
            assert!(value(&prior, inside) > 0.99 && value(&prior, outside) < 0.01, "{side}");
        }
    }

    #[test]
    fn a_shape_is_bent_to_what_the_image_shows() {
        // A plate across h, upright in the atlas; in the image its lower end lies further along h than its upper end.
        let at = |cell: usize| [cell / (GRID * GRID), cell / GRID % GRID, cell % GRID];
        let upright = (0..CELLS).map(|cell| (4..8).contains(&at(cell)[1])).collect();
        let place = BoxPlace { edges: [50.0; 3], offset: [0.0; 2], cut: [false; 2] };
        let atlas = Atlas::new([(place, upright)]);
        let middle = |d: usize| 12.0 + 2.0 * ((d as f32 - 3.5) / 16.0 * std::f32::consts::PI).cos();
        let window: Vec<f32> = (0..24 * 24 * 24)
            .map(|index| {
                let (d, h) = (index / 576, index / 24 % 24);
                if (h as f32 + 0.5 - middle(d)).abs() < 2.7 { 0.9 } else { 0.1 }
            })
            .collect();
        let prior = atlas.prior(&window, SIZE, &CORNERS, &place, 0..1, &[]);
        for (inside, outside) in [([5, 15, 12], [5, 9, 12]), ([18, 9, 12], [18, 14, 12])] {
            let found = [inside, outside].map(|at| value(&prior, at));
            assert!(found[0] > 0.7 && found[1] < 0.3, "{found:?}");
        }
        // Where the image shows nothing it stays as it is.
        let prior = atlas.prior(&vec![0.5; window.len()], SIZE, &CORNERS, &place, 0..1, &[]);
        for d in [5, 18] {
            assert!(
                value(&prior, [d, 12, 12]) > 0.9 && value(&prior, [d, 7, 12]).max(value(&prior, [d, 16, 12])) < 0.1
            );
        }
    }

    #[test]
    fn a_place_is_told_in_millimetres_and_widths_of_the_body() {
        let body = [[-0.5, 9.5, 19.5], [99.5, 59.5, 119.5]];
        let place = BoxPlace::new([[-0.5, 9.5, 94.5], [9.5, 19.5, 119.5]], [3.0, 2.0, 2.0], body, 100);
        assert_eq!(place, BoxPlace { edges: [30.0, 20.0, 50.0], offset: [-0.2, 0.375], cut: [true, false] });
    }
}
