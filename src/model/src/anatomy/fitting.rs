//! Where the bodies of an atlas lie in a scan, and what they say of where a structure is.
//!
//! Each body is moved along the scan and scaled until its structures tell most of the scan's intensities (mutual information,
//! Viola and Wells, 1997: it holds for any contrast). In-plane the box of the body in the scan says how large it is. Then each
//! fitted body says where a structure is, shifted a little where its neighbourhood fits better so, and the best of them vote
//! (multi-atlas segmentation: Iglesias and Sabuncu, Medical Image Analysis 24, 2015). They also say which structure a box is
//! drawn around: that whose own box lies most like it.

use super::samples::Samples;
use super::threads::each;
use super::whole_body::{CELL, WholeBody, joined, words};
use super::{CELLS, Candidate, EDGE_SIGMA, GRID};
use std::collections::BTreeMap;
use std::ops::Range;

/// Millimetres of a body for one of the scan along its length that are tried, and how far it is moved from try to try.
const LENGTHS: [f32; 5] = [0.82, 0.91, 1.0, 1.1, 1.21];
const ALONG: f32 = 10.0;
/// What it takes from a fit that the body is scaled otherwise along its length than across, and that it is scaled at all, by
/// the square of the logarithm.
const UNEVEN_COST: f32 = 0.5;
const SCALED_COST: f32 = 0.1;
/// How far a fit is moved and stretched then, in cells and as a share, step by step.
const MOVES: [f32; 3] = [2.0, 1.0, 0.5];
const STRETCHES: [f32; 3] = [0.06, 0.03, 0.015];
/// How many of the best bodies vote, and by how much their score may fall short until their vote is worth 1/e.
const VOTERS: usize = 10;
const SPREAD: f32 = 0.02;
/// A structure that is nowhere more likely than this lies beyond the scan.
const SEEN: f32 = 0.25;
/// Structures that are several of a kind: a point in them means one of these.
const COLLECTIONS: [&str; 3] = ["vertebrae", "left lung", "right lung"];
/// How likely points must be in a structure, in the mean, to stand for it.
const LIKELY: f32 = 0.5;
/// How far a structure is moved for itself, in cells; how much of what surrounds it counts; and what the square of a cell takes
/// from its score.
const REACH: i32 = 3;
const MARGIN: usize = 5;
const SHIFT_COST: f32 = 0.002;
/// Standard deviation of where the middle of a structure of a body lies, in edges of a box, and at least so many millimetres;
/// what is less like the box than this, as a squared distance, is nothing of its.
const PLACE_SIGMA: f32 = 0.25;
const LEAST_SIGMA: f32 = 15.0;
const UNLIKE: f32 = 12.0;
/// The share of a cell that is filled: as of the atlas's other shapes, a little less than half.
const FILLED: f32 = 0.4;

/// A body in a scan: the cell that a voxel lies in is the whole part of `start + step * voxel`, (d, h, w).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fit {
    body: usize,
    start: [f32; 3],
    step: [f32; 3],
    score: f32,
}

impl Fit {
    /// The label of the body where a voxel lies.
    fn label(&self, body: &WholeBody, place: [usize; 3]) -> Option<u8> {
        let cell = |axis: usize| (self.start[axis] + self.step[axis] * place[axis] as f32).floor();
        let inside = (0..3).all(|axis| cell(axis) >= 0.0 && cell(axis) < body.size[axis] as f32);
        let [d, h, w] = [0, 1, 2].map(|axis| cell(axis) as usize);
        inside.then(|| body.labels[(d * body.size[1] + h) * body.size[2] + w])
    }

    /// The cells along (d, h, w) that a scan of `size` shows; some may lie beyond the body.
    fn seen(&self, size: [usize; 3]) -> [Range<usize>; 3] {
        let cell = |axis: usize, voxel: f32| (self.start[axis] + self.step[axis] * voxel).max(0.0);
        std::array::from_fn(|axis| cell(axis, -0.5) as usize..cell(axis, size[axis] as f32 - 0.5).ceil() as usize)
    }
}

/// The best fit of each of the bodies that vote, the best first; with what they were fitted to.
#[derive(Debug)]
pub struct Fits {
    scan: Samples,
    fits: Vec<Fit>,
    /// For each of them first cell and end along (d, h, w) of each label, of what the scan shows.
    seen: Vec<Vec<Option<[[usize; 3]; 2]>>>,
    /// Size of the scan in voxels and of a voxel in millimetres, (d, h, w).
    size: [usize; 3],
    spacing: [f32; 3],
    threads: usize,
}

impl Samples {
    /// The cell of the body that each sample along an axis lies in.
    fn cells(&self, fit: &Fit, body: &WholeBody, axis: usize) -> Vec<Option<usize>> {
        (0..self.count[axis])
            .map(|sample| {
                let voxel = self.low[axis] + (sample as f32 + 0.5) * self.edge[axis];
                let cell = fit.start[axis] + fit.step[axis] * voxel;
                (cell >= 0.0 && cell < body.size[axis] as f32).then_some(cell as usize)
            })
            .collect()
    }

    fn score(&self, body: &WholeBody, fit: &Fit) -> f32 {
        self.told(body, &std::array::from_fn(|axis| self.cells(fit, body, axis)), [0; 3])
    }

    /// The best fit of a body to the scan.
    fn fit(&self, index: usize, body: &WholeBody, spacing: [f32; 3]) -> Option<Fit> {
        let everything: [bool; 256] = std::array::from_fn(|label| label > 0);
        let planes: Vec<Option<[[usize; 3]; 2]>> =
            (0..body.size[0]).map(|plane| body.bounds(&everything, plane..plane + 1)).collect();
        let extent: [f32; 3] = std::array::from_fn(|axis| self.count[axis] as f32 * self.edge[axis] * spacing[axis]);
        let mut best: Option<Fit> = None;
        for length in LENGTHS {
            let covered = extent[0] * length / CELL;
            // It may be longer than the body: then the body lies somewhere in it.
            let (first, last) = (0f32.min(body.size[0] as f32 - covered), 0f32.max(body.size[0] as f32 - covered));
            let tries = ((last - first) / (ALONG / CELL)) as usize;
            for start in (0..=tries).map(|at| first + at as f32 * ALONG / CELL) {
                let seen = start.max(0.0) as usize..((start + covered).ceil() as usize).min(body.size[0]);
                let boxes = planes[seen].iter().flatten();
                let Some([low, high]) = boxes.copied().reduce(joined) else { continue };
                let across: [f32; 2] = [1, 2].map(|axis| (high[axis] - low[axis]) as f32 * CELL / extent[axis]);
                let scale = (across[0] + across[1]) / 2.0;
                let step: [f32; 3] = std::array::from_fn(|axis| match axis {
                    0 => length * spacing[0] / CELL,
                    _ => (high[axis] - low[axis]) as f32 / (self.count[axis] as f32 * self.edge[axis]),
                });
                let from = [start, low[1] as f32, low[2] as f32];
                let mut fit = Fit {
                    body: index,
                    start: std::array::from_fn(|axis| from[axis] - self.low[axis] * step[axis]),
                    step,
                    score: 0.0,
                };
                fit.score = self.score(body, &fit)
                    - UNEVEN_COST * (length / scale).ln().powi(2)
                    - SCALED_COST * scale.ln().powi(2);
                if best.is_none_or(|best| fit.score > best.score) {
                    best = Some(fit);
                }
            }
        }
        best
    }

    /// A fit moved and stretched a little until it tells most.
    fn refined(&self, body: &WholeBody, mut fit: Fit) -> Fit {
        let mut told = self.score(body, &fit);
        for (by, stretch) in MOVES.into_iter().zip(STRETCHES) {
            for axis in 0..3 {
                let middle = self.low[axis] + self.count[axis] as f32 * self.edge[axis] / 2.0;
                for (by, stretch) in [(by, 0.0), (-by, 0.0), (0.0, stretch), (0.0, -stretch)] {
                    let mut other = fit;
                    other.step[axis] *= 1.0 + stretch;
                    // The scan's middle stays where it is when the body is stretched.
                    other.start[axis] += by + middle * (fit.step[axis] - other.step[axis]);
                    let score = self.score(body, &other);
                    if score > told {
                        (fit, told) = (Fit { score: fit.score + score - told, ..other }, score);
                    }
                }
            }
        }
        fit
    }
}

impl Fits {
    /// Fits bodies to a scan: row-major (D, H, W), from 0 to 1; `spacing` in millimetres; `body` is the box of the body in it
    /// by its faces. Computed by `threads` threads.
    pub(super) fn new(
        bodies: &[WholeBody],
        image: &[f32],
        size: [usize; 3],
        spacing: [f32; 3],
        body: [[f32; 3]; 2],
        threads: usize,
    ) -> Self {
        let scan = Samples::new(image, size, spacing, body);
        let fits = each(threads, bodies.iter().enumerate(), |(index, body)| scan.fit(index, body, spacing));
        let mut fits: Vec<Fit> = fits.into_iter().flatten().collect();
        fits.sort_by(|a, b| b.score.total_cmp(&a.score));
        fits.truncate(VOTERS);
        let mut fits = each(threads, fits.into_iter(), |fit| scan.refined(&bodies[fit.body], fit));
        fits.sort_by(|a, b| b.score.total_cmp(&a.score));
        let seen = fits.iter().map(|fit| bodies[fit.body].bounds_by_label(&fit.seen(size))).collect();
        Self { scan, fits, seen, size, spacing, threads }
    }

    /// How likely each voxel of the scan is in the structure that `text` names, from 0 to 1; `None` where no body has
    /// it, or has it beyond the scan.
    pub(super) fn expected(&self, bodies: &[WholeBody], text: &str) -> Option<Vec<f32>> {
        let (text, size) = (words(text), self.size);
        let voters: Vec<(&Fit, &WholeBody, [bool; 256])> =
            self.fits.iter().filter_map(|fit| Some((fit, &bodies[fit.body], bodies[fit.body].named(&text)?))).collect();
        let best = voters.first()?.0.score;
        let weights: Vec<f32> = voters.iter().map(|(fit, ..)| ((fit.score - best) / SPREAD).exp()).collect();
        let sum: f32 = weights.iter().sum();
        let mut out = vec![0.0; size.iter().product()];
        let shifts = each(self.threads, voters.iter(), |(fit, body, table)| self.shift(fit, body, table));
        for (((fit, body, table), shift), weight) in voters.iter().zip(shifts).zip(&weights) {
            let cells: [Vec<Option<usize>>; 3] = std::array::from_fn(|axis| {
                let cell =
                    |voxel: usize| (fit.start[axis] + fit.step[axis] * voxel as f32).floor() as i32 + shift[axis];
                let known = 0..body.size[axis] as i32;
                (0..size[axis]).map(|voxel| known.contains(&cell(voxel)).then(|| cell(voxel) as usize)).collect()
            });
            let plane = size[1] * size[2];
            let vote = |(out, d): (&mut [f32], &Option<usize>)| {
                let Some(d) = *d else { return };
                for (out, h) in out.chunks_exact_mut(size[2]).zip(&cells[1]) {
                    let Some(h) = *h else { continue };
                    let row = &body.labels[(d * body.size[1] + h) * body.size[2]..][..body.size[2]];
                    for (out, w) in out.iter_mut().zip(&cells[2]) {
                        if w.is_some_and(|w| table[usize::from(row[w])]) {
                            *out += weight / sum;
                        }
                    }
                }
            };
            each(self.threads, out.chunks_exact_mut(plane).zip(&cells[0]), vote);
        }
        out.iter().any(|&likely| likely >= SEEN).then_some(out)
    }

    /// The same of the structure that most likely holds some voxels (d, h, w) of the scan; `None` where none is likely to.
    pub(super) fn holding(&self, bodies: &[WholeBody], places: &[[usize; 3]]) -> Option<Vec<f32>> {
        let best = self.fits.first()?.score;
        let mut votes: BTreeMap<&str, f32> = BTreeMap::new();
        let mut sum = 0.0;
        for fit in &self.fits {
            let body = &bodies[fit.body];
            let weight = ((fit.score - best) / SPREAD).exp();
            sum += weight * places.len() as f32;
            for label in places.iter().filter_map(|place| fit.label(body, *place)) {
                let holding = body.structures.iter().filter(|(_, labels)| labels.contains(&label));
                for (name, _) in holding.filter(|(name, _)| !COLLECTIONS.contains(&name.as_str())) {
                    *votes.entry(name).or_default() += weight;
                }
            }
        }
        let (name, votes) = votes.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        if votes >= LIKELY * sum { self.expected(bodies, name) } else { None }
    }

    /// The structures of the bodies whose boxes in the scan lie much like one, given by its faces (d, h, w) in voxels; only that which
    /// `text` names where there is one.
    pub(super) fn candidates(
        &self,
        bodies: &[WholeBody],
        corners: [[f32; 3]; 2],
        text: Option<&str>,
    ) -> Vec<Candidate> {
        let named = text.map(words);
        let best = self.fits.first().map_or(0.0, |fit| fit.score);
        let weights: Vec<f32> = self.fits.iter().map(|fit| ((fit.score - best) / SPREAD).exp()).collect();
        let sum: f32 = weights.iter().sum();
        let mut candidates: BTreeMap<&str, Candidate> = BTreeMap::new();
        for ((fit, seen), weight) in self.fits.iter().zip(&self.seen).zip(weights) {
            let body = &bodies[fit.body];
            let asked =
                body.structures.iter().filter(|(name, _)| named.as_ref().is_none_or(|text| words(name) == *text));
            for (name, labels) in asked {
                let boxes = labels.iter().filter_map(|&label| seen[usize::from(label)]);
                let Some(cells) = boxes.reduce(joined) else { continue };
                let own = cells.map(|corner| self.voxel(fit, corner));
                let distance = self.unlike(corners, own);
                if distance < UNLIKE {
                    let candidate = candidates.entry(name).or_default();
                    candidate.likely += weight / sum * (-distance / 2.0).exp();
                    candidate.shapes.push((distance, shape(fit, body, labels, own)));
                }
            }
        }
        candidates.into_values().collect()
    }

    /// Where the face of a cell lies in the scan, in voxels.
    fn voxel(&self, fit: &Fit, cell: [usize; 3]) -> [f32; 3] {
        std::array::from_fn(|axis| {
            ((cell[axis] as f32 - fit.start[axis]) / fit.step[axis]).clamp(-0.5, self.size[axis] as f32 - 0.5)
        })
    }

    /// Squared distance of two boxes by their faces in voxels.
    fn unlike(&self, [low, high]: [[f32; 3]; 2], [other_low, other_high]: [[f32; 3]; 2]) -> f32 {
        let along = |axis: usize| {
            let edge = ((high[axis] - low[axis]) * self.spacing[axis]).max(0.1);
            let other = ((other_high[axis] - other_low[axis]) * self.spacing[axis]).max(0.1);
            let apart = (low[axis] + high[axis] - other_low[axis] - other_high[axis]) / 2.0 * self.spacing[axis];
            ((edge / other).ln() / EDGE_SIGMA).powi(2) + (apart / (PLACE_SIGMA * edge).max(LEAST_SIGMA)).powi(2)
        };
        (0..3).map(along).sum()
    }

    /// How a structure is best moved for itself.
    fn shift(&self, fit: &Fit, body: &WholeBody, table: &[bool; 256]) -> [i32; 3] {
        let Some([low, high]) = body.bounds(table, 0..body.size[0]) else { return [0; 3] };
        let around: [Range<usize>; 3] =
            std::array::from_fn(|axis| low[axis].saturating_sub(MARGIN)..high[axis] + MARGIN);
        let cells: [Vec<Option<usize>>; 3] = std::array::from_fn(|axis| {
            let cells = self.scan.cells(fit, body, axis).into_iter();
            cells.map(|cell| cell.filter(|cell| around[axis].contains(cell))).collect()
        });
        let mut best = ([0; 3], f32::NEG_INFINITY);
        for index in 0..(2 * REACH + 1).pow(3) {
            let edge = 2 * REACH + 1;
            let shift = [index / (edge * edge), index / edge % edge, index % edge].map(|at| at - REACH);
            let squares: i32 = shift.iter().map(|shift| shift * shift).sum();
            let score = self.scan.told_near(body, &cells, shift) - SHIFT_COST * squares as f32;
            if score > best.1 {
                best = (shift, score);
            }
        }
        best.0
    }
}

/// The cells of a box that a structure of a fitted body fills; the box is given by its faces (d, h, w) in voxels.
fn shape(fit: &Fit, body: &WholeBody, labels: &[u8], [low, high]: [[f32; 3]; 2]) -> Vec<u8> {
    // Between the middles of the body's cells its labels count by how near they are.
    let places: [Vec<[(usize, f32); 2]>; 3] = std::array::from_fn(|axis| {
        let last = body.size[axis] - 1;
        (0..GRID)
            .map(|cell| {
                let voxel = low[axis] + (cell as f32 + 0.5) / GRID as f32 * (high[axis] - low[axis]);
                let at = (fit.start[axis] + fit.step[axis] * voxel - 0.5).clamp(0.0, last as f32);
                [(at as usize, 1.0 - at.fract()), ((at as usize + 1).min(last), at.fract())]
            })
            .collect()
    });
    let [_, height, width] = body.size;
    (0..CELLS)
        .map(|cell| {
            let mut share = 0.0;
            for (d, in_d) in places[0][cell / (GRID * GRID)] {
                for (h, in_h) in places[1][cell / GRID % GRID] {
                    for (w, in_w) in places[2][cell % GRID] {
                        let inside = labels.contains(&body.labels[(d * height + h) * width + w]);
                        share += in_d * in_h * in_w * f32::from(u8::from(inside));
                    }
                }
            }
            u8::from(share >= FILLED)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of 40 x 30 x 40 cells: an oval with a spine at its back, a large organ on its right at one height, a small one on
    /// its left at another.
    fn body(structures: &[(&str, u8)]) -> WholeBody {
        let size = [40, 30, 40];
        let labels = (0..40 * 30 * 40)
            .map(|cell| label([(cell / 1200) as f32, (cell / 40 % 30) as f32, (cell % 40) as f32]))
            .collect();
        let structures = structures.iter().map(|&(name, label)| (name.to_owned(), vec![label])).collect();
        WholeBody { size, labels, structures }
    }

    fn label([d, h, w]: [f32; 3]) -> u8 {
        let ball = |middle: [f32; 3], radii: [f32; 3]| {
            let square = |axis: usize| (([d, h, w][axis] - middle[axis]) / radii[axis]).powi(2);
            (0..3).map(square).sum::<f32>() < 1.0
        };
        if ((h - 14.5) / 14.0).powi(2) + ((w - 19.5) / 18.0).powi(2) > 1.0 {
            0
        } else if ball([26.0, 16.0, 28.0], [6.0, 7.0, 7.0]) {
            2
        } else if ball([14.0, 15.0, 11.0], [4.0, 4.0, 4.0]) {
            3
        } else if (h - 5.0).powi(2) + (w - 19.5).powi(2) < 9.0 {
            4
        } else {
            1
        }
    }

    const NAMED: [(&str, u8); 3] = [("liver", 2), ("left kidney", 3), ("spine", 4)];
    /// A scan of 24 planes of 60 x 80 voxels, 4 x 3 x 3 mm, of a part of the body.
    const SIZE: [usize; 3] = [24, 60, 80];
    const SPACING: [f32; 3] = [5.0, 3.0, 3.0];

    /// What a voxel of the scan is.
    fn seen(voxel: usize) -> u8 {
        let [d, h, w] = [voxel / 4800, voxel / 80 % 60, voxel % 80];
        // The scan begins at the body's tenth cell, and the body is a little smaller than the atlas's.
        label([10.0 + d as f32 * 0.9, h as f32 / 2.0, w as f32 / 2.0])
    }

    fn fits(bodies: &[WholeBody], values: [f32; 5]) -> Fits {
        let image: Vec<f32> = (0..SIZE.iter().product()).map(|voxel| values[usize::from(seen(voxel))]).collect();
        let bounds = super::super::body_box(&image, SIZE);
        Fits::new(bodies, &image, SIZE, SPACING, bounds, 2)
    }

    fn dice(likely: &[f32], label: u8) -> f32 {
        let both = likely.iter().enumerate().filter(|&(voxel, &likely)| likely > 0.5 && seen(voxel) == label).count();
        let either = likely.iter().filter(|&&likely| likely > 0.5).count()
            + (0..likely.len()).filter(|&voxel| seen(voxel) == label).count();
        2.0 * both as f32 / either as f32
    }

    #[test]
    fn a_body_finds_its_structures_in_a_part_of_another_whatever_the_contrast() {
        let bodies = [body(&NAMED)];
        for values in [[0.0, 0.4, 0.6, 0.7, 0.9], [0.0, 0.8, 0.3, 0.9, 0.4]] {
            let fits = fits(&bodies, values);
            for (name, label, least) in [("liver", 2, 0.85), ("kidney, left", 3, 0.75), ("Spine", 4, 0.7)] {
                let found = dice(&fits.expected(&bodies, name).expect("it has one"), label);
                assert!(found > least, "{name}: {found}");
            }
            assert_eq!(fits.expected(&bodies, "right kidney"), None);
        }
    }

    #[test]
    fn points_stand_for_what_most_likely_holds_them() {
        let bodies = [body(&[("left lung", 2), ("liver", 2), ("left kidney", 3)])];
        let fits = fits(&bodies, [0.0, 0.4, 0.6, 0.7, 0.9]);
        let in_liver = [[17, 32, 56], [16, 34, 58]];
        let held = fits.holding(&bodies, &in_liver);
        assert_eq!(held, fits.expected(&bodies, "liver"));
        assert!(held.is_some_and(|held| dice(&held, 2) > 0.85));
        assert_eq!(fits.holding(&bodies, &[[17, 40, 10]]), None, "nothing there has a name");
        assert_eq!(fits.holding(&bodies, &[]), None);
    }

    /// The box of a structure in the scan, by its faces, and which of its cells it fills.
    fn boxed(label: u8) -> ([[f32; 3]; 2], Vec<bool>) {
        let place = |voxel: usize| [voxel / 4800, voxel / 80 % 60, voxel % 80];
        let places = || (0..SIZE.iter().product()).filter(|&voxel| seen(voxel) == label).map(place);
        let [low, high] = [usize::min, usize::max].map(|least_or_most| {
            places().reduce(|a, b| std::array::from_fn(|axis| least_or_most(a[axis], b[axis]))).expect("it is there")
        });
        let corners = [low.map(|at| at as f32 - 0.5), high.map(|at| at as f32 + 0.5)];
        let filled = (0..CELLS).map(|cell| {
            let at = [cell / (GRID * GRID), cell / GRID % GRID, cell % GRID];
            let [d, h, w]: [usize; 3] = std::array::from_fn(|axis| {
                let part = (at[axis] as f32 + 0.5) / GRID as f32;
                (corners[0][axis] + part * (corners[1][axis] - corners[0][axis])).round() as usize
            });
            seen((d * 60 + h) * 80 + w) == label
        });
        (corners, filled.collect())
    }

    #[test]
    fn a_box_is_drawn_around_what_lies_like_it() {
        let bodies = [body(&NAMED)];
        let fits = fits(&bodies, [0.0, 0.4, 0.6, 0.7, 0.9]);
        for (name, label) in [("liver", 2), ("left kidney", 3)] {
            let (corners, filled) = boxed(label);
            let found = fits.candidates(&bodies, corners, None);
            let [candidate] = &found[..] else { panic!("{name}: {} candidates", found.len()) };
            assert!(candidate.likely > 0.5, "{name}: {}", candidate.likely);
            let (_, cells) = &candidate.shapes[0];
            let both = cells.iter().zip(&filled).filter(|&(&cell, &filled)| cell == 1 && filled).count();
            let sum = cells.iter().filter(|&&cell| cell == 1).count() + filled.iter().filter(|&&filled| filled).count();
            let dice = 2.0 * both as f32 / sum as f32;
            assert!(dice > 0.85, "{name}: {dice}");
            assert_eq!(fits.candidates(&bodies, corners, Some(name)), found);
            assert_eq!(fits.candidates(&bodies, corners, Some("spine")), []);
        }
        assert_eq!(fits.candidates(&bodies, [[2.0, 5.0, 5.0], [4.0, 9.0, 9.0]], None), [], "nothing lies there");
    }

    #[test]
    fn what_lies_beyond_the_scan_is_not_found_in_it() {
        let mut whole = body(&NAMED);
        whole.structures.push(("bladder".into(), vec![5]));
        whole.labels.iter_mut().take(2 * 1200).filter(|label| **label == 1).for_each(|label| *label = 5);
        let bodies = [whole];
        assert_eq!(fits(&bodies, [0.0, 0.4, 0.6, 0.7, 0.9]).expected(&bodies, "bladder"), None);
        // Nor anything without bodies.
        assert_eq!(fits(&[], [0.0, 0.4, 0.6, 0.7, 0.9]).expected(&[], "liver"), None);
    }
}
