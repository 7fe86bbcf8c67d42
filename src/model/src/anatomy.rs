//! What usually fills a box: shapes of known structures, by the size of their boxes and where these lie in the body.
//!
//! A box says little of a structure that takes a tenth of it. A person knows from its size and place that this is an
//! iliopsoas and not the pelvis beside it, and roughly which part of the box it takes. So does an atlas of many bodies
//! (multi-atlas segmentation: Iglesias and Sabuncu, Medical Image Analysis 24, 2015): its shapes, and what they are on the
//! other side of the body, are weighted by how alike their boxes are, and by how well each explains the intensities in the
//! box (their mutual information, Viola and Wells, 1997, which holds for any contrast), bent to explain them better, and
//! averaged.

use crate::error::{Error, Result};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::f32::consts::PI;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

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
/// What the share of a shape that the intensities explain adds to the logarithm of its weight.
const EXPLAINED: f32 = 25.0;
/// How far each way of bending moves the middle of a shape, in cells, first and then; and what the square of it takes from
/// the logarithm of the weight.
const BENDS: [f32; 2] = [1.5, 0.75];
const BENT_COST: f32 = 0.45;
/// Bins of equal size that the intensities of a box are put into.
const BINS: usize = 16;

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

/// Shapes with the boxes they fill. Read-only; see the module.
#[derive(Clone, PartialEq)]
pub struct Atlas {
    places: Vec<BoxPlace>,
    /// A bit for each cell, (d, h, w) row-major, the lowest first.
    shapes: Vec<[u8; BYTES]>,
}

impl fmt::Debug for Atlas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Atlas").field("shapes", &self.shapes.len()).finish_non_exhaustive()
    }
}

impl Atlas {
    /// An atlas of boxes and which of their [`CELLS`] are filled, row-major (d, h, w).
    pub fn new(entries: impl IntoIterator<Item = (BoxPlace, Vec<bool>)>) -> Self {
        let mut atlas = Self { places: Vec::new(), shapes: Vec::new() };
        for (place, cells) in entries {
            assert_eq!(cells.len(), CELLS, "cells of a box");
            let mut shape = [0; BYTES];
            cells.iter().enumerate().for_each(|(cell, &filled)| shape[cell / 8] |= u8::from(filled) << (cell % 8));
            atlas.places.push(place);
            atlas.shapes.push(shape);
        }
        atlas
    }

    /// Number of shapes.
    pub fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// Reads a safetensors file of `places`, float32 `[shapes, 7]` (edges, offset, cut), and `shapes`, bytes `[shapes, 216]`.
    ///
    /// # Errors
    /// Anything else; `path` names the file.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::format(path, what);
        let file = SafeTensors::deserialize(bytes).map_err(|error| wrong(format!("malformed safetensors: {error}")))?;
        let tensor = |name: &str, dtype: Dtype, columns: usize| {
            let view = file.tensor(name).map_err(|_| wrong(format!("no tensor {name}")))?;
            match (view.dtype() == dtype, view.shape()) {
                (true, &[rows, found]) if found == columns => Ok((rows, view)),
                _ => Err(wrong(format!(
                    "{name} is {:?} of {:?}, not {dtype:?} of [shapes, {columns}]",
                    view.dtype(),
                    view.shape()
                ))),
            }
        };
        let (count, places) = tensor("places", Dtype::F32, NUMBERS)?;
        let (shapes_count, shapes) = tensor("shapes", Dtype::U8, BYTES)?;
        if count != shapes_count {
            return Err(wrong(format!("{count} places for {shapes_count} shapes")));
        }
        let (numbers, _) = places.data().as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let (numbers, _) = numbers.as_chunks::<NUMBERS>();
        if numbers
            .iter()
            .any(|place| !place.iter().all(|number| number.is_finite()) || place[..3].iter().any(|&edge| edge <= 0.0))
        {
            return Err(wrong("a place that cannot be".into()));
        }
        let (shapes, _) = shapes.data().as_chunks::<BYTES>();
        Ok(Self { places: numbers.iter().copied().map(BoxPlace::from_numbers).collect(), shapes: shapes.to_vec() })
    }

    /// The file that [`from_bytes`](Self::from_bytes) reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let places: Vec<u8> =
            self.places.iter().flat_map(BoxPlace::numbers).flat_map(|number| number.to_le_bytes()).collect();
        let shapes = self.shapes.concat();
        let view = |dtype, columns, bytes| {
            TensorView::new(dtype, vec![self.len(), columns], bytes).expect("as many bytes as the shape says")
        };
        let views = [("places", view(Dtype::F32, NUMBERS, &places)), ("shapes", view(Dtype::U8, BYTES, &shapes))];
        safetensors::serialize(views, None).expect("names and numbers")
    }

    /// How likely each voxel of a window is in the structure that a box is drawn around, from 0 to 1; 0 beyond the box.
    ///
    /// `window` is row-major (D, H, W), `corners` the box in it (d0, h0, w0, d1, h1, w1), inclusive. Only shapes number
    /// `among` are looked at.
    pub fn prior(
        &self,
        window: &[f32],
        size: [usize; 3],
        corners: &[f32; 6],
        place: &BoxPlace,
        among: Range<usize>,
    ) -> Vec<f32> {
        let low: [f32; 3] = std::array::from_fn(|axis| corners[axis] - 0.5);
        let edges: [f32; 3] = std::array::from_fn(|axis| (corners[axis + 3] + 0.5 - low[axis]).max(1e-3));
        let cells = self.cells(&bins(&cells_of(window, size, low, edges)), place, among);
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

    /// How likely each cell is filled, given the bins of its intensities.
    fn cells(&self, bins: &[u8], place: &BoxPlace, among: Range<usize>) -> Vec<f32> {
        let both = [(false, *place), (true, place.mirrored())];
        let mut nearest: Vec<(f32, usize, bool)> = both
            .iter()
            .flat_map(|(mirrored, place)| {
                among.clone().map(|index| (self.places[index].distance(place), index, *mirrored))
            })
            .collect();
        nearest.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        nearest.truncate(NEAREST);
        let explanations = Explanations::new(bins);
        let mut shapes: Vec<(f32, f32, Vec<u8>)> = nearest
            .into_iter()
            .map(|(distance, index, mirrored)| {
                let shape = expanded(&self.shapes[index], mirrored);
                let explained = EXPLAINED * explanations.of(&shape);
                (explained - distance / 2.0, distance, shape)
            })
            .collect();
        shapes.sort_by(|a, b| b.0.total_cmp(&a.0));
        shapes.truncate(BENT);
        let shapes: Vec<(f32, Vec<u8>)> = shapes
            .into_iter()
            .map(|(_, distance, shape)| {
                let (explained, shape) = explanations.bent(&shape);
                (explained - distance / 2.0, shape)
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
}

/// 1 for each cell that a shape, or what it is on the other side of the body, fills.
fn expanded(shape: &[u8; BYTES], mirrored: bool) -> Vec<u8> {
    let bit = |cell: usize| shape[cell / 8] >> (cell % 8) & 1;
    (0..CELLS).map(|cell| bit(if mirrored { cell - cell % GRID + GRID - 1 - cell % GRID } else { cell })).collect()
}

/// How much of a shape the intensities in a box explain.
struct Explanations<'a> {
    bins: &'a [u8],
    /// Cells of each bin.
    totals: [u32; BINS],
}

impl<'a> Explanations<'a> {
    fn new(bins: &'a [u8]) -> Self {
        let mut totals = [0; BINS];
        bins.iter().for_each(|&bin| totals[usize::from(bin)] += 1);
        Self { bins, totals }
    }

    /// The share of what there is to know of a shape, which cells are filled, that the intensities tell: mutual information
    /// by entropy, from 0 to 1.
    fn of(&self, shape: &[u8]) -> f32 {
        let mut inside = [0; BINS];
        shape.iter().zip(self.bins).for_each(|(&filled, &bin)| inside[usize::from(bin)] += u32::from(filled));
        self.of_counts(&inside)
    }

    /// The same by how many cells of each bin a shape fills.
    fn of_counts(&self, inside: &[u32; BINS]) -> f32 {
        let share = inside.iter().sum::<u32>() as f32 / CELLS as f32;
        let term = |share: f32| if share > 0.0 { -share * share.ln() } else { 0.0 };
        let entropy = |share: f32| term(share) + term(1.0 - share);
        let whole = entropy(share);
        if whole <= 0.0 {
            return 0.0;
        }
        let rest = inside.iter().zip(&self.totals).filter(|(_, total)| **total > 0);
        let rest: f32 =
            rest.map(|(&inside, &total)| total as f32 / CELLS as f32 * entropy(inside as f32 / total as f32)).sum();
        ((whole - rest) / whole).max(0.0)
    }

    /// A shape bent within its box until the intensities explain it best, step by step, and the logarithm of its weight.
    fn bent(&self, shape: &[u8]) -> (f32, Vec<u8>) {
        let mut amounts = vec![0.0f32; WAYS.len()];
        let mut offsets = [(); 3].map(|()| vec![0.0f32; CELLS]);
        // Where each cell's value comes from.
        let mut sources: Vec<usize> = (0..CELLS).collect();
        let mut best = EXPLAINED * self.of(shape);
        for step in BENDS {
            for (way, (axis, pattern)) in WAYS.iter().enumerate() {
                for step in [step, -step] {
                    let by = |cell: usize| offsets[*axis][cell] + step * pattern[cell];
                    let source = |cell: usize| moved(sources[cell], *axis, coordinate(cell, *axis) as f32 + by(cell));
                    let mut inside = [0; BINS];
                    self.bins
                        .iter()
                        .enumerate()
                        .for_each(|(cell, &bin)| inside[usize::from(bin)] += u32::from(shape[source(cell)]));
                    let amount = amounts[way] + step;
                    let squares: f32 = amounts.iter().map(|amount| amount * amount).sum();
                    let squares = squares - amounts[way] * amounts[way] + amount * amount;
                    let weight = EXPLAINED * self.of_counts(&inside) - BENT_COST * squares;
                    if weight > best {
                        best = weight;
                        amounts[way] = amount;
                        sources = (0..CELLS).map(source).collect();
                        offsets[*axis] = (0..CELLS).map(by).collect();
                    }
                }
            }
        }
        (best, sources.into_iter().map(|source| shape[source]).collect())
    }
}

/// How far a cell lies along an axis.
fn coordinate(cell: usize, axis: usize) -> usize {
    cell / STRIDES[axis] % GRID
}

/// The cell that lies where another does, but for an axis.
fn moved(cell: usize, axis: usize, along: f32) -> usize {
    let along = ((along + 0.5).max(0.0) as usize).min(GRID - 1);
    cell + along * STRIDES[axis] - coordinate(cell, axis) * STRIDES[axis]
}

const STRIDES: [usize; 3] = [GRID * GRID, GRID, 1];

/// The ways to bend a shape within its box: the axis along which cells move, and how far each does. The middle moves most,
/// the box's faces not at all; everywhere alike, or there and back along another axis.
static WAYS: LazyLock<Vec<(usize, Vec<f32>)>> = LazyLock::new(|| {
    let along = |cell: usize, axis: usize| (coordinate(cell, axis) as f32 + 0.5) / GRID as f32 * PI;
    let whole = (0..3).map(|axis| (axis, (0..CELLS).map(|cell| along(cell, axis).sin()).collect()));
    let pairs = (0..3).flat_map(|axis| (0..3).filter(move |&other| other != axis).map(move |other| (axis, other)));
    let tilted = pairs.map(|(axis, other)| {
        (axis, (0..CELLS).map(|cell| along(cell, axis).sin() * along(cell, other).cos()).collect())
    });
    whole.chain(tilted).collect()
});

/// For each cell which of equally many its intensity is among; equal intensities are among the same.
fn bins(cells: &[f32]) -> Vec<u8> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by(|&a, &b| cells[a].total_cmp(&cells[b]));
    let mut bins = vec![0; cells.len()];
    let mut rank = 0;
    for equal in order.chunk_by(|&a, &b| cells[a] == cells[b]) {
        let bin = (rank + equal.len() / 2) * BINS / CELLS;
        equal.iter().for_each(|&cell| bins[cell] = bin as u8);
        rank += equal.len();
    }
    bins
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

/// Samples of an image along its longest axis that the body is looked for in.
const BODY_SAMPLES: usize = 96;
/// Bins of the image's histogram.
const BODY_BINS: usize = 64;
/// The part of Otsu's threshold that a voxel of the body is above: dark tissue counts too.
const BODY_SHARE: f32 = 0.6;

/// The box of the body in an image, by its faces (d, h, w) in voxels: the largest connected part above a share of Otsu's
/// threshold. `image` is row-major (D, H, W), from 0 to 1.
pub fn body_box(image: &[f32], size: [usize; 3]) -> [[f32; 3]; 2] {
    let step = size.map(|size| size.div_ceil(BODY_SAMPLES));
    let count: [usize; 3] = std::array::from_fn(|axis| size[axis].div_ceil(step[axis]));
    let place = |index: usize| [index / (count[1] * count[2]), index / count[2] % count[1], index % count[2]];
    let samples: Vec<f32> = (0..count.iter().product())
        .map(|index| {
            let [d, h, w] = place(index);
            image[(d * step[0] * size[1] + h * step[1]) * size[2] + w * step[2]]
        })
        .collect();
    let threshold = BODY_SHARE * otsu(&samples);
    let strides = [count[1] * count[2], count[2], 1];
    let mut free: Vec<bool> = samples.iter().map(|&value| value > threshold).collect();
    let (mut largest, mut found) = (0, [[0; 3], count.map(|count| count - 1)]);
    let mut open = Vec::new();
    for start in 0..free.len() {
        if !std::mem::take(&mut free[start]) {
            continue;
        }
        open.push(start);
        let (mut voxels, mut low, mut high) = (0, count, [0; 3]);
        while let Some(index) = open.pop() {
            voxels += 1;
            let at = place(index);
            for axis in 0..3 {
                (low[axis], high[axis]) = (low[axis].min(at[axis]), high[axis].max(at[axis]));
                let before = (at[axis] > 0).then(|| index - strides[axis]);
                let after = (at[axis] + 1 < count[axis]).then(|| index + strides[axis]);
                for next in before.into_iter().chain(after) {
                    if std::mem::take(&mut free[next]) {
                        open.push(next);
                    }
                }
            }
        }
        if voxels > largest {
            (largest, found) = (voxels, [low, high]);
        }
    }
    let [low, high] = found;
    [
        std::array::from_fn(|axis| (low[axis] * step[axis]) as f32 - 0.5),
        std::array::from_fn(|axis| ((high[axis] + 1) * step[axis]).min(size[axis]) as f32 - 0.5),
    ]
}

/// The threshold that parts values from 0 to 1 into two classes with the least variance within them (Otsu, 1979).
fn otsu(values: &[f32]) -> f32 {
    let mut histogram = [0.0f64; BODY_BINS];
    values.iter().for_each(|&value| histogram[((value * BODY_BINS as f32) as usize).min(BODY_BINS - 1)] += 1.0);
    let moment = |bins: &[f64], first: usize| -> (f64, f64) {
        bins.iter().enumerate().fold((0.0, 0.0), |(count, sum), (bin, n)| (count + n, sum + n * (first + bin) as f64))
    };
    let between = |cut: usize| {
        let ((below, below_sum), (above, above_sum)) = (moment(&histogram[..cut], 0), moment(&histogram[cut..], cut));
        if below == 0.0 || above == 0.0 { 0.0 } else { below * above * (below_sum / below - above_sum / above).powi(2) }
    };
    let best = (1..BODY_BINS).max_by(|&a, &b| between(a).total_cmp(&between(b)).then(b.cmp(&a))).unwrap_or(1);
    best as f32 / BODY_BINS as f32
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
            let prior = atlas.prior(&flat, SIZE, &CORNERS, &place, 0..2);
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
            let prior = atlas.prior(&window, SIZE, &CORNERS, &half(0, 50.0).0, 0..3);
            assert!(value(&prior, [15, 5, 15]) > 0.99 && value(&prior, [5, 15, 5]) < 0.01);
        }
    }

    #[test]
    fn an_atlas_comes_back_from_its_file_and_another_file_is_refused() {
        let atlas = Atlas::new([half(0, 50.0), half(1, 200.0)]);
        let path = Path::new("anatomy.safetensors");
        let bytes = atlas.to_bytes();
        assert_eq!(Atlas::from_bytes(&bytes, path).expect("its own file"), atlas);
        let error = Atlas::from_bytes(&bytes[..bytes.len() - 1], path).expect_err("cut short").to_string();
        assert!(error.contains("anatomy.safetensors"), "{error}");
        let mut broken = atlas.clone();
        broken.places[1].edges[0] = f32::NAN;
        assert!(Atlas::from_bytes(&broken.to_bytes(), path).is_err());
    }

    #[test]
    fn the_body_is_the_largest_bright_part() {
        let size = [10, 40, 200];
        let image: Vec<f32> = (0..10 * 40 * 200)
            .map(|index| {
                let (h, w) = (index / 200 % 40, index % 200);
                let body = (10..30).contains(&h) && (50..150).contains(&w);
                let table = h == 36;
                if body { if (80..120).contains(&w) { 0.4 } else { 0.9 } } else { if table { 0.8 } else { 0.02 } }
            })
            .collect();
        // Every third column is looked at.
        assert_eq!(body_box(&image, size), [[-0.5, 9.5, 50.5], [9.5, 29.5, 149.5]]);
    }

    #[test]
    fn a_place_is_told_in_millimetres_and_widths_of_the_body() {
        let body = [[-0.5, 9.5, 19.5], [99.5, 59.5, 119.5]];
        let place = BoxPlace::new([[-0.5, 9.5, 94.5], [9.5, 19.5, 119.5]], [3.0, 2.0, 2.0], body, 100);
        assert_eq!(place, BoxPlace { edges: [30.0, 20.0, 50.0], offset: [-0.2, 0.375], cut: [true, false] });
    }
}
