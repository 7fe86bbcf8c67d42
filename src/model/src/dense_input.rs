//! What the dense prompt path is fed with: prompts as volumes, and what they say of the intensities around them.
//!
//! Box, points and mask alone would leave it to a small network to learn what every interactive method computes: how
//! much each voxel looks like those the prompts point at (as GrabCut's colour models, Rother et al. 2004), and how far it
//! is from them along a path that crosses no edge (geodesic distance, as DeepIGeoS, Wang et al., arXiv 1707.00652).

/// Volumes that the path is fed with: see [`DenseInput::volume`].
pub(crate) const INPUT_CHANNELS: usize = 11;

/// Standard deviation of a point's blob, in voxels of the window.
const POINT_SIGMA: f32 = 1.5;
/// Smallest standard deviation intensities are divided by, in units of the window's range.
const MIN_DEVIATION: f32 = 0.002;
/// From here on a point's blob counts as the point.
const SEED: f32 = 0.75;
/// Part of the ellipsoid's radius that counts as surely inside, where there is nothing but a box.
const CORE: f32 = 0.3;
/// Bins of the histogram that a window is equalised by.
const FINE_BINS: usize = 2048;
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
}

impl DenseInput<'_> {
    /// The volumes, `[voxels, 11]`:
    ///
    /// 0. the window, [`equalised`];
    /// 1. the window relative to mean and deviation of the intensities the prompts point at;
    /// 2. the box as a cube;
    /// 3. the ellipsoid in it, falling from its middle;
    /// 4. positive points as blobs;
    /// 5. negative points as blobs;
    /// 6. nearness to positive points, else to the mask, else to the middle of the box, along paths that cross no edge;
    /// 7. the previous mask, from -1 to 1, or 0 where there is none;
    /// 8. how much more likely the voxel's intensity is where the prompts point than elsewhere, from 0 to 1;
    /// 9. how far the voxel is from what surely lies outside (beyond the box, negative points) along paths that cross as
    ///    few edges as possible, from 0 to 1: the middle of a box need not lie in the structure, but what an edge parts
    ///    from everything around the box does;
    /// 10. how much more likely its intensity is anywhere in the box than beyond it, from 0 to 1.
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
        out
    }

    /// Whether a voxel surely lies outside the structure.
    fn is_beyond(&self, voxel: &[f32]) -> bool {
        voxel[NEGATIVE] > SEED || self.bounding_box.is_some() && voxel[CUBE] == 0.0
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

/// Each value replaced by the share of the window's values below it, from 0 to 1 (histogram equalisation).
///
/// A scan's range is set by its brightest and darkest voxels, metal and air, between which the organs may share a few per
/// cent; their share of the window's voxels is what counts. The result is the same for any rising change of intensities.
pub fn equalised(window: &[f32]) -> Vec<f32> {
    let (low, high) =
        window.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    if low >= high {
        return vec![0.5; window.len()];
    }
    let scale = FINE_BINS as f32 / (high - low);
    let bin = |value: f32| (((value - low) * scale) as usize).min(FINE_BINS - 1);
    let mut counts = vec![0u32; FINE_BINS];
    window.iter().for_each(|&value| counts[bin(value)] += 1);
    let mut below = 0;
    let ranks: Vec<f32> = counts
        .iter()
        .map(|&count| {
            let rank = (below as f32 + count as f32 / 2.0) / window.len() as f32;
            below += count;
            rank
        })
        .collect();
    window.iter().map(|&value| ranks[bin(value)]).collect()
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

/// Each voxel averaged with its six neighbours.
fn smoothed(window: &[f32], size: [usize; 3]) -> Vec<f32> {
    let [_, height, width] = size;
    let strides = [height * width, width, 1];
    let mean = |(index, &value): (usize, &f32)| {
        let place = [index / strides[0], index / width % height, index % width];
        let (mut sum, mut count) = (value, 1.0);
        for axis in 0..3 {
            if place[axis] > 0 {
                sum += window[index - strides[axis]];
                count += 1.0;
            }
            if place[axis] + 1 < size[axis] {
                sum += window[index + strides[axis]];
                count += 1.0;
            }
        }
        sum / count
    };
    window.iter().enumerate().map(mean).collect()
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

    fn channel(volume: &[f32], channel: usize, [d, h, w]: [usize; 3]) -> f32 {
        volume[((d * 8 + h) * 16 + w) * INPUT_CHANNELS + channel]
    }

    #[test]
    fn a_point_tells_what_it_lies_in_from_the_rest() {
        let window = halves();
        let points = [([4.0, 4.0, 3.0], 1), ([4.0, 4.0, 12.0], 0)];
        let input = DenseInput { window: &window, size: SIZE, points: &points, bounding_box: None, mask: None };
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
    }

    #[test]
    fn equalised_values_are_shares_of_the_window() {
        // Two organs a hundredth of the range apart, with metal beside them.
        let window: Vec<f32> = (0..100)
            .map(|index| {
                if index == 99 {
                    1.0
                } else if index < 50 {
                    0.10
                } else {
                    0.11
                }
            })
            .collect();
        let equal = equalised(&window);
        assert!((equal[0] - 0.25).abs() < 1e-6 && (equal[60] - 0.745).abs() < 1e-6 && (equal[99] - 0.995).abs() < 1e-6);
        assert_eq!(equalised(&[3.0; 4]), [0.5; 4]);
    }

    #[test]
    fn a_box_is_a_cube_with_an_ellipsoid_in_it() {
        let window = halves();
        let corners = Some([2.0, 2.0, 2.0, 5.0, 5.0, 7.0]);
        let input = DenseInput { window: &window, size: SIZE, points: &[], bounding_box: corners, mask: None };
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
        let input = DenseInput { window: &window, size: SIZE, points: &[], bounding_box: corners, mask: None };
        let volume = input.volume();
        let (ring, beside, outside) = ([4, 2, 8], [4, 1, 8], [4, 0, 8]);
        let [ring, beside, outside] = [ring, beside, outside].map(|at| channel(&volume, ENCLOSED, at));
        assert!(ring > beside + 0.3 && outside == 0.0, "{ring}, {beside}, {outside}");
        assert!(channel(&volume, BOX_LIKENESS, [4, 2, 8]) > 0.8);
        // Without a box negative points alone say what is outside; without those nothing does.
        let points = [([4.0, 0.0, 0.0], 0)];
        let with = DenseInput { bounding_box: None, points: &points, ..input }.volume();
        assert!(channel(&with, ENCLOSED, [4, 2, 8]) > channel(&with, ENCLOSED, [4, 0, 8]));
        let without = DenseInput { bounding_box: None, ..input }.volume();
        assert_eq!([ENCLOSED, BOX_LIKENESS].map(|name| channel(&without, name, [4, 2, 8])), [0.0; 2]);
    }

    #[test]
    fn a_window_without_contrast_or_prompts_has_finite_channels() {
        let window = vec![0.5; 8 * 8 * 16];
        let mask = vec![0.0; window.len()];
        for mask in [None, Some(&mask[..])] {
            let input = DenseInput { window: &window, size: SIZE, points: &[], bounding_box: None, mask };
            assert!(input.volume().iter().all(|value| value.is_finite()));
        }
    }
}
