//! How well a shape explains the intensities in a box, and how it is bent to explain them better.

use super::{CELLS, GRID};
use std::f32::consts::PI;
use std::sync::LazyLock;

/// What the share of a shape that the intensities explain adds to the logarithm of its weight.
const EXPLAINED: f32 = 25.0;
/// How far each way of bending moves the middle of a shape, in cells, first and then; and what the square of it takes from
/// the logarithm of the weight.
const BENDS: [f32; 2] = [1.5, 0.75];
const BENT_COST: f32 = 0.45;
/// Bins of equal size that the intensities of a box are put into.
const BINS: usize = 16;

/// How much of a shape the intensities in a box explain.
pub(super) struct Explanations {
    /// The bin of each cell.
    bins: Vec<u8>,
    /// Cells of each bin.
    totals: [u32; BINS],
}

impl Explanations {
    /// Of the mean intensity of each cell.
    pub(super) fn new(cells: &[f32]) -> Self {
        let bins = bins(cells);
        let mut totals = [0; BINS];
        bins.iter().for_each(|&bin| totals[usize::from(bin)] += 1);
        Self { bins, totals }
    }

    /// The logarithm of the weight that the intensities give a shape.
    pub(super) fn weight(&self, shape: &[u8]) -> f32 {
        let mut inside = [0; BINS];
        shape.iter().zip(&self.bins).for_each(|(&filled, &bin)| inside[usize::from(bin)] += u32::from(filled));
        EXPLAINED * self.explained(&inside)
    }

    /// The share of what there is to know of a shape, which cells are filled, that the intensities tell: mutual information
    /// by entropy, from 0 to 1, by how many cells of each bin it fills.
    fn explained(&self, inside: &[u32; BINS]) -> f32 {
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
    pub(super) fn bent(&self, shape: &[u8]) -> (f32, Vec<u8>) {
        let mut amounts = vec![0.0f32; WAYS.len()];
        let mut offsets = [(); 3].map(|()| vec![0.0f32; CELLS]);
        // Where each cell's value comes from.
        let mut sources: Vec<usize> = (0..CELLS).collect();
        let mut best = self.weight(shape);
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
                    let weight = EXPLAINED * self.explained(&inside) - BENT_COST * squares;
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
