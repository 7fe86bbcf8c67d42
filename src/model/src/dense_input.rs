//! What the dense prompt path is fed with: prompts as volumes, and what they say of the intensities around them.
//!
//! Box, points and mask alone would leave it to a small network to learn what every interactive method computes: how
//! much each voxel looks like those the prompts point at (as GrabCut's colour models, Rother et al. 2004), and how far it
//! is from them along a path that crosses no edge (geodesic distance, as DeepIGeoS, Wang et al., arXiv 1707.00652). Nor
//! could it find the connected region that fills a box from side to side ([`crate::enclosed_regions`]).

use crate::enclosed_regions::Prompted;
use crate::window_maps::{equalised, flatness, grown, smoothed};
use rayon::prelude::*;
use std::ops::Range;

/// Volumes that the path is fed with: see [`DenseInput::volume`].
pub const INPUT_CHANNELS: usize = 20;

/// Standard deviation of a point's blob, in voxels of the window.
const POINT_SIGMA: f32 = 1.5;
/// Smallest standard deviation intensities are divided by, in units of the window's range.
const MIN_DEVIATION: f32 = 0.002;
/// From here on a point's blob counts as the point.
const SEED: f32 = 0.75;
/// Part of the ellipsoid's radius that counts as surely inside, where there is nothing but a box.
const CORE: f32 = 0.3;
/// Bins of the intensity histograms, and the standard deviation they are smoothed by, in bins.
const BINS: usize = 64;
const BIN_SIGMA: f32 = 2.0;
/// Cost of a step to a neighbour without a change of intensity; the distance at which nearness has fallen to 1/e.
const STEP_COST: f32 = 0.04;
const REACH: f32 = 2.0;
/// Cost of a change by one deviation: of the intensities pointed at, and of those in the box. On labelled scans the second
/// told structures from what surrounds them better the higher it was, up to about 2.
const CHANGE_COST: f32 = 0.5;
const CROSSING_COST: f32 = 2.0;

/// How sure a proposal is: a mask is 1. On labelled scans 0.75 was about as good as 0.5 and 1: the surer, the better for organs
/// that differ from all around them, and the worse for boxes that do not fit.
pub const PROPOSAL: f32 = 0.75;

const IMAGE: usize = 0;
const CONTRAST: usize = 1;
const CUBE: usize = 2;
const ELLIPSOID: usize = 3;
const POSITIVE: usize = 4;
const NEGATIVE: usize = 5;
const GEODESIC: usize = 6;
const MASK: usize = 7;
const LIKENESS: usize = 8;
const ENCLOSED: usize = 9;
const BOX_LIKENESS: usize = 10;
/// The first of four pairs.
const REGIONS: usize = 11;
const PRIOR: usize = 19;

/// The channels that hold the best region of each map.
pub const BEST_REGIONS: [usize; 4] = [REGIONS + 1, REGIONS + 3, REGIONS + 5, REGIONS + 7];

/// For each channel whether it stays, as 1 or 0, where the cues drawn from the image are left out: nearness and likeness
/// (6, 8, 9, 10), connected regions (11 to 18), or both. What learns without them now and then does not lean on them alone.
pub fn channels_without(nearness: bool, regions: bool) -> [f32; INPUT_CHANNELS] {
    std::array::from_fn(|channel| {
        let out = match channel {
            GEODESIC | LIKENESS | ENCLOSED | BOX_LIKENESS => nearness,
            REGIONS..PRIOR => regions,
            _ => false,
        };
        f32::from(!out)
    })
}

/// The window and its prompts.
#[derive(Clone, Copy, Debug)]
pub struct DenseInput<'a> {
    /// The window, row-major (D, H, W), values in `[0, 1]`.
    pub window: &'a [f32],
    /// Its size.
    pub size: [usize; 3],
    /// Points (d, h, w) in voxels with their labels, 1 positive and 0 negative.
    pub points: &'a [([f32; 3], i8)],
    /// A box (d0, h0, w0, d1, h1, w1), inclusive corners.
    pub bounding_box: Option<[f32; 6]>,
    /// A previous mask, of the window's size, from 0 to 1.
    pub mask: Option<&'a [f32]>,
    /// What an atlas expects, of the window's size, from 0 to 1: see [`Atlas`](crate::anatomy::Atlas).
    pub prior: Option<&'a [f32]>,
    /// Whether a box without a mask is taken with a proposal: of the maps' best connected regions the one that fits the box,
    /// and what an atlas expects in it, best.
    pub propose: bool,
}

impl DenseInput<'_> {
    /// The volumes, `[voxels, 20]`:
    ///
    /// 0. the window, [`equalised`];
    /// 1. the window relative to mean and deviation of the intensities the prompts point at;
    /// 2. the box as a cube;
    /// 3. the ellipsoid in it, falling from its middle;
    /// 4. positive points as blobs;
    /// 5. negative points as blobs;
    /// 6. nearness to positive points, else to the mask, else to the middle of the box, along paths that cross no edge;
    /// 7. the previous mask, from -1 to 1; a proposal, from -3/4 to 3/4; 0 where there is neither;
    /// 8. how much more likely the voxel's intensity is where the prompts point than elsewhere, from 0 to 1;
    /// 9. how far the voxel is from what surely lies outside (beyond the box, negative points) along paths that cross as
    ///    few edges as possible, from 0 to 1: the middle of a box need not lie in the structure, but what an edge parts
    ///    from everything around the box does;
    /// 10. how much more likely its intensity is anywhere in the box than beyond it, from 0 to 1;
    /// 11. how well the best connected region that the voxel lies in fills the box and holds the points, from 0 to 1
    ///     (see `enclosed_regions.rs`);
    /// 12. the window's best such region, both of bright and dark ones;
    /// 13. the fit of regions that are more likely in the box than beyond it (without a box, at the points than elsewhere);
    /// 14. the best of them;
    /// 15. the fit of flat regions, that edges surround;
    /// 16. the best of them;
    /// 17. the fit of flat regions of the equalised window;
    /// 18. the best of them;
    /// 19. what an atlas expects, from -1 to 1; 0 where nothing is expected.
    pub fn volume(&self) -> Vec<f32> {
        let [depth, height, width] = self.size;
        let mut out = vec![0.0; depth * height * width * INPUT_CHANNELS];
        let equal = equalised(self.window);
        for (index, out) in out.chunks_exact_mut(INPUT_CHANNELS).enumerate() {
            let place = [index / (height * width), index / width % height, index % width].map(|at| at as f32);
            out[IMAGE] = equal[index] * 2.0 - 1.0;
            if let Some(corners) = &self.bounding_box {
                let (inside, radius) = in_box(place, corners);
                out[CUBE] = f32::from(inside);
                out[ELLIPSOID] = (1.0 - radius).max(0.0);
            }
            for (point, label) in self.points {
                let distance: f32 = (0..3).map(|axis| (place[axis] - point[axis]).powi(2)).sum();
                if distance < (4.0 * POINT_SIGMA).powi(2) {
                    let channel = match label {
                        1 => POSITIVE,
                        0 => NEGATIVE,
                        _ => continue,
                    };
                    out[channel] = out[channel].max((-0.5 * distance / (POINT_SIGMA * POINT_SIGMA)).exp());
                }
            }
            if let Some(mask) = self.mask {
                out[MASK] = mask[index] * 2.0 - 1.0;
            }
            if let Some(prior) = self.prior {
                out[PRIOR] = prior[index] * 2.0 - 1.0;
            }
        }
        let inside = weights(&out);
        let (mean, deviation) = statistics(self.window, &inside);
        for (out, &value) in out.chunks_exact_mut(INPUT_CHANNELS).zip(self.window) {
            out[CONTRAST] = ((value - mean) / (2.0 * deviation)).clamp(-4.0, 4.0);
        }
        self.likeness(&mut out, LIKENESS, &equal, &inside);
        let smooth = smoothed(self.window, self.size);
        self.nearness(&mut out, &smooth, deviation);
        let beyond: Vec<bool> = out.chunks_exact(INPUT_CHANNELS).map(|voxel| self.is_beyond(voxel)).collect();
        if beyond.contains(&true) {
            // Without a box all of the window counts.
            let cube: Vec<f32> = beyond.iter().map(|&beyond| f32::from(!beyond)).collect();
            let (_, deviation) = statistics(self.window, &cube);
            let distances = self.distances(&beyond, &smooth, CROSSING_COST / deviation);
            for (voxel, distance) in out.chunks_exact_mut(INPUT_CHANNELS).zip(distances) {
                voxel[ENCLOSED] = 1.0 - (-distance / REACH).exp();
            }
            if self.bounding_box.is_some() {
                self.likeness(&mut out, BOX_LIKENESS, &equal, &cube);
            }
        }
        self.regions(&mut out, &equal, &smooth);
        out
    }

    /// Whether a voxel surely lies outside the structure.
    fn is_beyond(&self, voxel: &[f32]) -> bool {
        voxel[NEGATIVE] > SEED || self.bounding_box.is_some() && voxel[CUBE] == 0.0
    }

    /// Fills the channels of connected regions, where there is a box or a point.
    fn regions(&self, out: &mut [f32], equal: &[f32], smooth: &[f32]) {
        if self.bounding_box.is_none() && self.points.is_empty() {
            return;
        }
        let inside: [Range<usize>; 3] = std::array::from_fn(|axis| match &self.bounding_box {
            Some(corners) => {
                let first = (corners[axis] - 0.5).ceil().max(0.0) as usize;
                first..((corners[axis + 3] + 0.5).floor().max(-1.0) + 1.0).min(self.size[axis] as f32) as usize
            }
            None => 1..self.size[axis] - 1,
        });
        let points = self.points.iter().map(|&(place, label)| (place.map(|at| at.round().max(0.0) as usize), label));
        let prompted = Prompted {
            size: self.size,
            in_scan: self.in_scan(),
            inside,
            boxed: self.bounding_box.is_some(),
            points: points.collect(),
        };
        let likeness = if self.bounding_box.is_some() { BOX_LIKENESS } else { LIKENESS };
        let likeness: Vec<f32> = out.chunks_exact(INPUT_CHANNELS).map(|voxel| voxel[likeness]).collect();
        let maps = [
            self.window.iter().zip(smooth).map(|(value, smooth)| (value + smooth) / 2.0).collect(),
            smoothed(&likeness, self.size),
            flatness(smooth, self.size),
            flatness(&smoothed(equal, self.size), self.size),
        ];
        let found = maps.into_par_iter().enumerate().map(|(index, map): (usize, Vec<f32>)| {
            let regions = prompted.regions(&map, index == 0);
            // The edge around a flat region is part of what it encloses.
            let grown = |values| if index < 2 { values } else { grown(values, self.size) };
            (grown(regions.fit), grown(regions.best))
        });
        let found: Vec<(Vec<f32>, Vec<f32>)> = found.collect();
        if self.propose && self.mask.is_none() && self.bounding_box.is_some() {
            let rated = found.iter().map(|(_, best)| (self.worth(best), best));
            if let Some((worth, best)) = rated.max_by(|a, b| a.0.total_cmp(&b.0))
                && worth > 0.0
            {
                for (voxel, &best) in out.chunks_exact_mut(INPUT_CHANNELS).zip(best) {
                    voxel[MASK] = if best > 0.0 { PROPOSAL } else { -PROPOSAL };
                }
            }
        }
        for (index, (fit, best)) in found.into_iter().enumerate() {
            for ((voxel, fit), best) in out.chunks_exact_mut(INPUT_CHANNELS).zip(fit).zip(best) {
                voxel[REGIONS + 2 * index] = fit;
                voxel[REGIONS + 2 * index + 1] = best;
            }
        }
    }

    /// What a region is worth as a proposal: its score, by the Dice of the region and what an atlas expects, where that is
    /// known.
    fn worth(&self, region: &[f32]) -> f32 {
        let score = region.iter().copied().fold(0.0, f32::max);
        let Some(prior) = self.prior else { return score };
        let (both, sum) = region.iter().zip(prior).fold((0.0, 0.0), |(both, sum), (&region, &prior)| {
            let inside = f32::from(region > 0.0);
            (both + inside * prior, sum + inside + prior)
        });
        score * 2.0 * both / sum.max(1e-6)
    }

    /// The planes of each axis between those at its ends that are zero throughout: these lie outside the scan.
    fn in_scan(&self) -> [Range<usize>; 3] {
        let [_, height, width] = self.size;
        let mut used = self.size.map(|size| vec![false; size]);
        for (index, _) in self.window.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            for (axis, at) in [index / (height * width), index / width % height, index % width].into_iter().enumerate()
            {
                used[axis][at] = true;
            }
        }
        used.map(|used| {
            let first = used.iter().position(|&used| used).unwrap_or(0);
            first..used.iter().rposition(|&used| used).map_or(used.len(), |last| last + 1)
        })
    }

    /// Fills a channel by two smoothed histograms of the equalised window: one of where `inside` has weight, one of
    /// elsewhere.
    fn likeness(&self, out: &mut [f32], channel: usize, equal: &[f32], inside: &[f32]) {
        let bin = |value: f32| ((value * BINS as f32) as usize).min(BINS - 1);
        let boxed = self.bounding_box.is_some();
        let (mut near, mut far) = ([0.0f32; BINS], [0.0f32; BINS]);
        for ((voxel, &value), &weight) in out.chunks_exact(INPUT_CHANNELS).zip(equal).zip(inside) {
            near[bin(value)] += weight;
            // Elsewhere is outside the box; without one it is everywhere, most of which is not the structure.
            far[bin(value)] += if boxed { 1.0 - voxel[CUBE] } else { 1.0 };
        }
        let (near, far) = (density(&near), density(&far));
        for (voxel, &value) in out.chunks_exact_mut(INPUT_CHANNELS).zip(equal) {
            let (near, far) = (near[bin(value)], far[bin(value)]);
            voxel[channel] = near / (near + far).max(1e-9);
        }
    }

    /// Fills the channel of nearness to positive points, else to the mask, else to the middle of the box.
    fn nearness(&self, out: &mut [f32], smooth: &[f32], deviation: f32) {
        let above = |channel: usize, least: f32| -> Option<Vec<bool>> {
            let seeds: Vec<bool> = out.chunks_exact(INPUT_CHANNELS).map(|voxel| voxel[channel] > least).collect();
            seeds.contains(&true).then_some(seeds)
        };
        let seeds = above(POSITIVE, SEED).or_else(|| above(MASK, 0.5)).or_else(|| above(ELLIPSOID, 1.0 - CORE));
        let Some(seeds) = seeds else { return };
        let distances = self.distances(&seeds, smooth, CHANGE_COST / deviation);
        for (voxel, distance) in out.chunks_exact_mut(INPUT_CHANNELS).zip(distances) {
            voxel[GEODESIC] = (-distance / REACH).exp();
        }
    }

    /// Lengths of the shortest paths from `seeds`, where a change of intensity by 1 costs `change`: sweeps over the
    /// window, there and back, twice.
    fn distances(&self, seeds: &[bool], smooth: &[f32], change: f32) -> Vec<f32> {
        const FAR: f32 = 1e9;
        let [depth, height, width] = self.size;
        let mut distance: Vec<f32> = seeds.iter().map(|&seed| if seed { 0.0 } else { FAR }).collect();
        let strides = [height * width, width, 1];
        let mut relax = |index: usize, neighbour: usize| {
            let cost = STEP_COST + change * (smooth[index] - smooth[neighbour]).abs();
            let through = distance[neighbour] + cost;
            if through < distance[index] {
                distance[index] = through;
            }
        };
        for _ in 0..2 {
            for d in 0..depth {
                for h in 0..height {
                    for w in 0..width {
                        let index = (d * height + h) * width + w;
                        for (axis, at) in [d, h, w].into_iter().enumerate() {
                            if at > 0 {
                                relax(index, index - strides[axis]);
                            }
                        }
                    }
                }
            }
            for d in (0..depth).rev() {
                for h in (0..height).rev() {
                    for w in (0..width).rev() {
                        let index = (d * height + h) * width + w;
                        for (axis, at) in [d, h, w].into_iter().enumerate() {
                            if at + 1 < self.size[axis] {
                                relax(index, index + strides[axis]);
                            }
                        }
                    }
                }
            }
        }
        distance
    }
}

/// How much each voxel counts as one the prompts point at: positive points, else the mask, else the middle of the box,
/// else all alike.
fn weights(volume: &[f32]) -> Vec<f32> {
    let kinds: [fn(&[f32]) -> f32; 4] =
        [|voxel| voxel[POSITIVE], |voxel| voxel[MASK].max(0.0), |voxel| voxel[ELLIPSOID] * voxel[ELLIPSOID], |_| 1.0];
    kinds
        .into_iter()
        .map(|kind| volume.chunks_exact(INPUT_CHANNELS).map(kind).collect::<Vec<f32>>())
        .find(|weights| weights.iter().sum::<f32>() > 1e-3)
        .unwrap_or_default()
}

/// Weighted mean and standard deviation.
fn statistics(window: &[f32], weights: &[f32]) -> (f32, f32) {
    let (mut sum, mut first, mut second) = (0.0f64, 0.0f64, 0.0f64);
    for (&value, &weight) in window.iter().zip(weights) {
        let (value, weight) = (f64::from(value), f64::from(weight));
        sum += weight;
        first += weight * value;
        second += weight * value * value;
    }
    let mean = first / sum.max(1e-9);
    (mean as f32, ((second / sum.max(1e-9) - mean * mean).max(0.0).sqrt() as f32).max(MIN_DEVIATION))
}

/// A histogram smoothed by a Gaussian and scaled to sum 1.
fn density(counts: &[f32; BINS]) -> [f32; BINS] {
    let sum = counts.iter().sum::<f32>().max(1e-9);
    let kernel: Vec<f32> = (0..BINS).map(|bin| (-0.5 * (bin as f32 / BIN_SIGMA).powi(2)).exp()).collect();
    std::array::from_fn(|bin| {
        (0..BINS)
            .filter(|other| bin.abs_diff(*other) <= 8)
            .map(|other| counts[other] * kernel[bin.abs_diff(other)])
            .sum::<f32>()
            / sum
    })
}

/// Whether a voxel lies in a box, and its distance from the middle where the inscribed ellipsoid ends at 1.
fn in_box(place: [f32; 3], corners: &[f32; 6]) -> (bool, f32) {
    let (mut inside, mut square) = (true, 0.0);
    for axis in 0..3 {
        let (low, high) = (corners[axis] - 0.5, corners[axis + 3] + 0.5);
        inside &= (low..=high).contains(&place[axis]);
        let half = ((high - low) / 2.0).max(0.5);
        square += ((place[axis] - (low + high) / 2.0) / half).powi(2);
    }
    (inside, square.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 3] = [8, 8, 16];

    /// Bright for w < 8, dark beyond.
    fn halves() -> Vec<f32> {
        (0..8 * 8 * 16).map(|index| if index % 16 < 8 { 0.8 } else { 0.2 }).collect()
    }

    /// A window and no prompts.
    fn input(window: &[f32]) -> DenseInput<'_> {
        DenseInput { window, size: SIZE, points: &[], bounding_box: None, mask: None, prior: None, propose: false }
    }

    fn channel(volume: &[f32], channel: usize, [d, h, w]: [usize; 3]) -> f32 {
        volume[((d * 8 + h) * 16 + w) * INPUT_CHANNELS + channel]
    }

    #[test]
    fn a_point_tells_what_it_lies_in_from_the_rest() {
        let window = halves();
        let points = [([4.0, 4.0, 3.0], 1), ([4.0, 4.0, 12.0], 0)];
        let input = DenseInput { points: &points, ..input(&window) };
        let volume = input.volume();
        assert_eq!(channel(&volume, POSITIVE, [4, 4, 3]), 1.0);
        assert_eq!(channel(&volume, NEGATIVE, [4, 4, 12]), 1.0);
        let (near, far) = ([1, 6, 6], [1, 6, 9]);
        for name in [GEODESIC, LIKENESS] {
            let (near, far) = (channel(&volume, name, near), channel(&volume, name, far));
            assert!(near > 0.6 && far < 0.1, "channel {name}: {near}, {far}");
        }
        assert!(channel(&volume, CONTRAST, near).abs() < 0.1 && channel(&volume, CONTRAST, far) < -3.0);
        assert_eq!([CUBE, ELLIPSOID, MASK].map(|name| channel(&volume, name, near)), [0.0; 3]);
        let mask: Vec<f32> = window.iter().map(|&value| value.round()).collect();
        let boxed =
            DenseInput { bounding_box: Some([1.0, 1.0, 2.0, 6.0, 6.0, 13.0]), mask: Some(&mask), ..input }.volume();
        assert_eq!([near, far].map(|at| channel(&boxed, MASK, at)), [1.0, -1.0]);
    }

    #[test]
    fn a_box_is_a_cube_with_an_ellipsoid_in_it() {
        let window = halves();
        let corners = Some([2.0, 2.0, 2.0, 5.0, 5.0, 7.0]);
        let input = DenseInput { bounding_box: corners, ..input(&window) };
        let volume = input.volume();
        assert_eq!(
            [[2, 2, 2], [5, 5, 7], [1, 2, 2], [5, 5, 8]].map(|at| channel(&volume, CUBE, at)),
            [1.0, 1.0, 0.0, 0.0]
        );
        assert!(channel(&volume, ELLIPSOID, [3, 3, 4]) > 0.5);
        assert_eq!(channel(&volume, ELLIPSOID, [2, 2, 2]), 0.0);
        assert!(channel(&volume, LIKENESS, [3, 3, 4]) > channel(&volume, LIKENESS, [3, 3, 12]));
        assert!(channel(&volume, BOX_LIKENESS, [3, 3, 4]) > channel(&volume, BOX_LIKENESS, [3, 3, 12]));
    }

    #[test]
    fn what_an_edge_parts_from_all_around_the_box_is_enclosed() {
        // A bright ring whose middle, the box's, is as dark as everything else.
        let on_ring = |index: usize| {
            let (h, w) = (index / 16 % 8, index % 16);
            (2..6).contains(&h) && (4..12).contains(&w) && !((3..5).contains(&h) && (6..10).contains(&w))
        };
        let window: Vec<f32> = (0..8 * 8 * 16).map(|index| if on_ring(index) { 0.9 } else { 0.1 }).collect();
        let corners = Some([0.0, 1.0, 3.0, 7.0, 6.0, 12.0]);
        let input = DenseInput { bounding_box: corners, ..input(&window) };
        let volume = input.volume();
        let (ring, beside, outside) = ([4, 2, 8], [4, 1, 8], [4, 0, 8]);
        let [ring, beside, outside] = [ring, beside, outside].map(|at| channel(&volume, ENCLOSED, at));
        assert!(ring > beside + 0.3 && outside == 0.0, "{ring}, {beside}, {outside}");
        assert!(channel(&volume, BOX_LIKENESS, [4, 2, 8]) > 0.8);
        // Without a box negative points alone say what is outside; without those nothing does.
        let points = [([4.0, 0.0, 0.0], 0)];
        let with = DenseInput { bounding_box: None, points: &points, ..input }.volume();
        assert!(channel(&with, ENCLOSED, [4, 2, 8]) > channel(&with, ENCLOSED, [4, 0, 8]));
        // Nor does any region count.
        let without = DenseInput { bounding_box: None, ..input }.volume();
        assert!((REGIONS..INPUT_CHANNELS).all(|name| channel(&without, name, [4, 2, 8]) == 0.0));
        assert_eq!([ENCLOSED, BOX_LIKENESS].map(|name| channel(&without, name, [4, 2, 8])), [0.0; 2]);
    }

    #[test]
    fn regions_that_fill_the_box_are_told_by_brightness_likeness_and_edges() {
        // A grey block between dark and bright: no threshold of the image cuts it out, but edges do.
        let block = |h: usize, w: usize| (2..6).contains(&h) && (4..12).contains(&w);
        let grey = |index: usize| {
            let (h, w) = (index / 16 % 8, index % 16);
            if block(h, w) {
                0.5
            } else if w < 8 {
                0.1
            } else {
                0.9
            }
        };
        let window: Vec<f32> = (0..8 * 8 * 16).map(grey).collect();
        let corners = Some([0.0, 2.0, 4.0, 7.0, 5.0, 11.0]);
        let input = DenseInput { bounding_box: corners, ..input(&window) };
        let volume = input.volume();
        let best = |pair: usize| channel(&volume, REGIONS + 2 * pair + 1, [4, 3, 8]);
        // The best one is proposed, where that is wanted.
        assert_eq!(channel(&volume, MASK, [4, 3, 8]), 0.0);
        let proposed = DenseInput { propose: true, ..input }.volume();
        assert_eq!([[4, 3, 8], [4, 0, 0]].map(|at| channel(&proposed, MASK, at)), [PROPOSAL, -PROPOSAL]);
        let mask = vec![0.0; window.len()];
        let with_mask = DenseInput { propose: true, mask: Some(&mask), ..input }.volume();
        assert_eq!(channel(&with_mask, MASK, [4, 3, 8]), -1.0);
        assert!(best(1) > 0.9 && best(2) > 0.9 && best(3) > 0.9, "{} {} {}", best(1), best(2), best(3));
        let far = [4, 0, 0];
        assert!((REGIONS..INPUT_CHANNELS).all(|name| channel(&volume, name, far) == 0.0));
    }

    #[test]
    fn what_an_atlas_does_not_expect_is_worth_less() {
        let window = halves();
        let prior: Vec<f32> = window.iter().map(|&value| value.round()).collect();
        let regions = [0.4, 0.2].map(|score| prior.iter().map(|expected| score * expected).collect::<Vec<f32>>());
        let other: Vec<f32> = prior.iter().map(|expected| 0.9 * (1.0 - expected)).collect();
        let without = input(&window);
        assert_eq!([&regions[0], &regions[1], &other].map(|region| without.worth(region)), [0.4, 0.2, 0.9]);
        let with = DenseInput { prior: Some(&prior), ..without };
        assert_eq!([&regions[0], &regions[1], &other].map(|region| with.worth(region)), [0.4, 0.2, 0.0]);
        // Half of what is expected.
        let half: Vec<f32> =
            regions[0].iter().enumerate().map(|(at, value)| if at % 32 < 16 { *value } else { 0.0 }).collect();
        assert!((with.worth(&half) - 0.4 * 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn planes_of_zeros_at_the_ends_lie_outside_the_scan() {
        let mut window = halves();
        window[..2 * 8 * 16].fill(0.0);
        let input = input(&window);
        assert_eq!(input.in_scan(), [2..8, 0..8, 0..16]);
        let nothing = vec![0.0; window.len()];
        assert_eq!(DenseInput { window: &nothing, ..input }.in_scan(), [0..8, 0..8, 0..16]);
    }

    #[test]
    fn what_an_atlas_expects_is_a_channel_of_its_own() {
        let (window, corners) = (vec![0.5; SIZE.iter().product()], Some([2.0, 2.0, 2.0, 5.0, 5.0, 5.0]));
        let prior: Vec<f32> = (0..window.len()).map(|index| index as f32 / window.len() as f32).collect();
        let without = DenseInput { bounding_box: corners, propose: true, ..input(&window) };
        let with = DenseInput { prior: Some(&prior), ..without }.volume();
        let without = without.volume();
        let voxels = |volume: Vec<f32>| volume.chunks_exact(INPUT_CHANNELS).map(<[f32]>::to_vec).collect::<Vec<_>>();
        for ((with, without), prior) in voxels(with).into_iter().zip(voxels(without)).zip(prior) {
            assert_eq!(with[..PRIOR], without[..PRIOR]);
            assert_eq!((with[PRIOR], without[PRIOR]), (2.0 * prior - 1.0, 0.0));
        }
    }

    #[test]
    fn a_window_without_contrast_or_prompts_has_finite_channels() {
        let window = vec![0.5; 8 * 8 * 16];
        let mask = vec![0.0; window.len()];
        for mask in [None, Some(&mask[..])] {
            let input = DenseInput { mask, ..input(&window) };
            assert!(input.volume().iter().all(|value| value.is_finite()));
        }
    }
}
