//! Which connected regions of a window fill the box that was drawn.
//!
//! All regions that a threshold can cut out of a map of the window form a tree (the component tree; Salembier et al. 1998):
//! each lies in the one that a laxer threshold gives. A structure that its surroundings differ from is one of them, and a
//! tight box says which: the one that reaches all six sides of the box (the prior of Lempitsky et al. 2009) and does not go
//! on beyond it. It may be thin, hollow or far from the middle of its box, where all that is learned from the box's middle
//! misleads. The map may be the image itself (bright and dark structures), how likely an intensity is in the box rather than
//! beyond it, or how flat the image is (structures that edges surround). Points take part: the region has to hold the
//! positive and none of the negative ones.

use std::ops::Range;

/// Sum, over the six sides of the box, of the share of its edge that a region stays away from them, at which the region's
/// score has fallen to 1/e.
const GAP: f32 = 0.15;
/// Number of voxel faces through which a region leaves the box, in units of its volume's two-thirds power, at which its
/// score has fallen to 1/e. Both constants were looked at on labelled scans: a third and three times as much change the
/// Dice of the best region by less than 0.03.
const LEAK: f32 = 1.5;
/// Without a box nothing says how large the structure is: scores grow with the region by this power.
const SIZE_POWER: f32 = 0.3;
/// Fewest voxels of a region.
const MIN_VOXELS: u32 = 8;
/// Scores are spread by this power: a hundredth is still far from nothing.
const SPREAD: f32 = 0.25;

/// The prompts on a window, row-major (D, H, W).
pub(crate) struct Prompted {
    pub(crate) size: [usize; 3],
    /// The planes that belong to the scan: beyond them there is nothing that could be leaked into.
    pub(crate) in_scan: [Range<usize>; 3],
    /// The voxels of the box; without one, of the window but for its outermost ones.
    pub(crate) inside: [Range<usize>; 3],
    pub(crate) boxed: bool,
    /// Voxels with labels: 1 positive, 0 negative, and others that do not count.
    pub(crate) points: Vec<([usize; 3], i8)>,
}

/// What is known of each voxel of the window, from 0 to 1.
pub(crate) struct Regions {
    /// Score of the best region that it lies in.
    pub(crate) fit: Vec<f32>,
    /// The score of the window's best region, in it; 0 elsewhere.
    pub(crate) best: Vec<f32>,
}

/// A region while it grows.
#[derive(Clone)]
struct Region {
    count: u32,
    /// Faces between it and voxels beyond the box that are no less bright.
    leaks: u32,
    low: [u16; 3],
    high: [u16; 3],
    positive: u16,
    negative: u16,
    /// The node of the tree that stands for it as it is now.
    node: u32,
}

const NONE: u32 = u32::MAX;

/// What a place of the padded box is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    Beyond,
    Nowhere,
}

impl Prompted {
    /// The regions of a map: those above a threshold, and with `dark` those below one, too.
    pub(crate) fn regions(&self, map: &[f32], dark: bool) -> Regions {
        let mut out = Regions { fit: vec![0.0; map.len()], best: vec![0.0; map.len()] };
        if self.inside.iter().any(Range::is_empty) {
            return out;
        }
        let signs = if dark { &[1.0, -1.0][..] } else { &[1.0] };
        let mut best = 0.0;
        for tree in signs.iter().map(|&sign| Tree::grown(self, map, sign)) {
            let (node, score) = tree.best();
            if score > best {
                best = score;
                out.best.fill(0.0);
                let held = tree.held_by(node);
                self.spread(&tree, &mut out.best, |local| if held[local] { score } else { 0.0 });
            }
            let fit = tree.best_around();
            self.spread(&tree, &mut out.fit, |local| fit[local]);
        }
        out
    }

    /// Writes values of the padded box to the window where they are larger.
    fn spread(&self, tree: &Tree, out: &mut [f32], value: impl Fn(usize) -> f32) {
        for (local, &place) in tree.places.iter().enumerate() {
            if place == Place::Inside {
                let at = tree.at(local);
                let [d, h, w]: [usize; 3] = std::array::from_fn(|axis| self.inside[axis].start + at[axis] - 1);
                let index = (d * self.size[1] + h) * self.size[2] + w;
                out[index] = out[index].max(value(local));
            }
        }
    }

    /// How well a region suits the prompts, from 0 to 1.
    fn score(&self, region: &Region, positives: u16) -> f32 {
        if region.negative > 0 || region.count < MIN_VOXELS {
            return 0.0;
        }
        let count = region.count as f32;
        let lengths: [usize; 3] = std::array::from_fn(|axis| self.inside[axis].len());
        let mut away = region.leaks as f32 / (LEAK * count.cbrt().powi(2));
        let mut score = 1.0;
        if self.boxed {
            let gap = |axis: usize| {
                let ends = [region.low[axis] - 1, lengths[axis] as u16 - region.high[axis]];
                // A box's corner may lie anywhere in a voxel.
                ends.map(|gap| (f32::from(gap) - 0.5).max(0.0)).iter().sum::<f32>() / lengths[axis] as f32
            };
            away += (0..3).map(gap).sum::<f32>() / GAP;
        } else {
            score = (count / lengths.iter().product::<usize>() as f32).powf(SPREAD * SIZE_POWER);
        }
        if positives > 0 {
            score *= (f32::from(region.positive) / f32::from(positives)).powf(SPREAD * 2.0);
        }
        score * (-SPREAD * away).exp()
    }
}

/// The component tree of the voxels in the box, padded by one voxel on each side. Its nodes are voxels: each stands for the
/// region that there was when it joined.
struct Tree {
    dims: [usize; 3],
    places: Vec<Place>,
    /// Voxels of the box in the order in which they joined.
    order: Vec<u32>,
    parent: Vec<u32>,
    scores: Vec<f32>,
}

impl Tree {
    /// The tree of bright regions; of dark ones where `sign` is -1.
    fn grown(prompted: &Prompted, map: &[f32], sign: f32) -> Self {
        let dims: [usize; 3] = std::array::from_fn(|axis| prompted.inside[axis].len() + 2);
        let total = dims.iter().product();
        let mut tree = Self {
            dims,
            places: Vec::with_capacity(total),
            order: Vec::new(),
            parent: vec![NONE; total],
            scores: vec![0.0; total],
        };
        let mut values = vec![0f32; total];
        for (local, value) in values.iter_mut().enumerate() {
            let at = tree.at(local);
            // Where it lies in the window, if it does.
            let place: [usize; 3] =
                std::array::from_fn(|axis| (prompted.inside[axis].start + at[axis]).wrapping_sub(1));
            let in_scan = (0..3).all(|axis| prompted.in_scan[axis].contains(&place[axis]));
            let in_box = (0..3).all(|axis| prompted.inside[axis].contains(&place[axis]));
            if in_scan {
                *value = sign * map[(place[0] * prompted.size[1] + place[1]) * prompted.size[2] + place[2]];
            }
            tree.places.push(match (in_scan, in_box) {
                (false, _) => Place::Nowhere,
                (true, true) => Place::Inside,
                (true, false) => Place::Beyond,
            });
        }
        let mut marks = vec![0i8; total];
        let mut positives = 0;
        for &(place, label) in &prompted.points {
            if matches!(label, 0 | 1) && (0..3).all(|axis| prompted.inside[axis].contains(&place[axis])) {
                let at: [usize; 3] = std::array::from_fn(|axis| place[axis] + 1 - prompted.inside[axis].start);
                let local = (at[0] * dims[1] + at[1]) * dims[2] + at[2];
                if label == 1 && marks[local] != 1 {
                    positives += 1;
                }
                marks[local] = if label == 1 { 1 } else { -1 };
            }
        }
        // The brightest first. Of equals those beyond the box: what leaks at a level is known when its regions are judged.
        let mut joining: Vec<u64> = (0..total)
            .filter(|&local| tree.places[local] != Place::Nowhere)
            .map(|local| {
                let inside = u64::from(tree.places[local] == Place::Inside);
                u64::from(!rising(values[local])) << 32 | inside << 31 | local as u64
            })
            .collect();
        joining.sort_unstable();
        tree.join(prompted, &joining, &marks, positives);
        // What is still growing at its own level is no region yet.
        for &voxel in &tree.order {
            let parent = tree.parent[voxel as usize];
            if parent != NONE && values[parent as usize] == values[voxel as usize] {
                tree.scores[voxel as usize] = 0.0;
            }
        }
        tree
    }

    /// Lets voxels join in order, the brightest first.
    fn join(&mut self, prompted: &Prompted, joining: &[u64], marks: &[i8], positives: u16) {
        let total = self.places.len();
        let mut joined = vec![false; total];
        let mut owner: Vec<u32> = (0..total as u32).collect();
        let nothing =
            Region { count: 0, leaks: 0, low: [u16::MAX; 3], high: [0; 3], positive: 0, negative: 0, node: NONE };
        let mut regions = vec![nothing; total];
        let strides = [self.dims[1] * self.dims[2], self.dims[2], 1];
        for voxel in joining.iter().map(|&key| key as u32 & !(1 << 31)) {
            let here = voxel as usize;
            joined[here] = true;
            if self.places[here] == Place::Beyond {
                // A neighbour by the array's order alone lies on the padding, not in the box.
                let beside = strides.iter().flat_map(|&stride| [here.checked_sub(stride), Some(here + stride)]);
                for other in beside.flatten().filter(|&other| other < total) {
                    if self.places[other] == Place::Inside && joined[other] {
                        regions[root(&mut owner, other as u32) as usize].leaks += 1;
                    }
                }
                continue;
            }
            let place = self.at(here).map(|at| at as u16);
            let mut region = Region {
                count: 1,
                leaks: 0,
                low: place,
                high: place,
                positive: u16::from(marks[here] > 0),
                negative: u16::from(marks[here] < 0),
                node: voxel,
            };
            let mut own = voxel;
            for other in strides.iter().flat_map(|&stride| [here - stride, here + stride]) {
                if self.places[other] == Place::Beyond && joined[other] {
                    region.leaks += 1;
                }
                if self.places[other] != Place::Inside || !joined[other] {
                    continue;
                }
                let root = root(&mut owner, other as u32);
                if root == own {
                    continue;
                }
                let taken = &regions[root as usize];
                self.parent[taken.node as usize] = voxel;
                region.count += taken.count;
                region.leaks += taken.leaks;
                region.positive += taken.positive;
                region.negative += taken.negative;
                for axis in 0..3 {
                    region.low[axis] = region.low[axis].min(taken.low[axis]);
                    region.high[axis] = region.high[axis].max(taken.high[axis]);
                }
                // The larger one keeps its root, lest chains grow long.
                if 2 * taken.count > region.count {
                    owner[own as usize] = root;
                    own = root;
                } else {
                    owner[root as usize] = own;
                }
            }
            self.scores[here] = prompted.score(&region, positives);
            regions[own as usize] = region;
            self.order.push(voxel);
        }
    }

    /// Place of a voxel of the padded box.
    fn at(&self, local: usize) -> [usize; 3] {
        let [_, height, width] = self.dims;
        [local / (height * width), local / width % height, local % width]
    }

    /// The best region's node and score.
    fn best(&self) -> (usize, f32) {
        let scores = self.scores.iter().copied().enumerate();
        scores.fold((0, 0.0), |best, (node, score)| if score > best.1 { (node, score) } else { best })
    }

    /// The voxels of the region that a node stands for.
    fn held_by(&self, node: usize) -> Vec<bool> {
        let mut held = vec![false; self.places.len()];
        held[node] = true;
        // Regions that a region lies in come after it.
        for &voxel in self.order.iter().rev() {
            let parent = self.parent[voxel as usize];
            if parent != NONE && held[parent as usize] {
                held[voxel as usize] = true;
            }
        }
        held
    }

    /// For each voxel the best score of the regions that it lies in.
    fn best_around(&self) -> Vec<f32> {
        let mut best = self.scores.clone();
        for &voxel in self.order.iter().rev() {
            let parent = self.parent[voxel as usize];
            if parent != NONE {
                best[voxel as usize] = best[voxel as usize].max(best[parent as usize]);
            }
        }
        best
    }
}

/// A number that rises with a float.
fn rising(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The root of a voxel's region; shortens the way to it.
fn root(owner: &mut [u32], mut voxel: u32) -> u32 {
    while owner[voxel as usize] != voxel {
        owner[voxel as usize] = owner[owner[voxel as usize] as usize];
        voxel = owner[voxel as usize];
    }
    voxel
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 3] = [10, 12, 16];

    fn map(value: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
        let [depth, height, width] = SIZE;
        let voxels =
            (0..depth * height * width).map(|index| [index / (height * width), index / width % height, index % width]);
        voxels.map(|[d, h, w]| value(d, h, w)).collect()
    }

    fn boxed(inside: [Range<usize>; 3]) -> Prompted {
        Prompted { size: SIZE, in_scan: SIZE.map(|size| 0..size), inside, boxed: true, points: Vec::new() }
    }

    /// Dice of what is set in a channel and what should be.
    fn dice(channel: &[f32], wanted: &[f32]) -> f32 {
        let count = |both: fn(bool, bool) -> bool| {
            channel.iter().zip(wanted).filter(|&(&a, &b)| both(a > 0.0, b > 0.0)).count() as f32
        };
        2.0 * count(|a, b| a && b) / (count(|a, _| a) + count(|_, b| b))
    }

    fn number(yes: bool) -> f32 {
        f32::from(u8::from(yes))
    }

    /// A hook along three sides of the box; and a rod through the middle of the box that goes on beyond it.
    fn hook(d: usize, h: usize, w: usize) -> bool {
        (2..8).contains(&d) && (2..10).contains(&h) && (3..13).contains(&w) && (h < 4 || w < 5 || h >= 8)
    }

    fn rod(_: usize, h: usize, w: usize) -> bool {
        (5..7).contains(&h) && w >= 6
    }

    #[test]
    fn the_region_that_fills_the_box_is_found_where_its_middle_is_another_ones() {
        for (sign, other) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0)] {
            let both = map(|d, h, w| 0.5 + sign * 0.3 * number(hook(d, h, w)) + other * 0.4 * number(rod(d, h, w)));
            let regions = boxed([2..8, 2..10, 3..13]).regions(&both, true);
            let found = dice(&regions.best, &map(|d, h, w| number(hook(d, h, w))));
            assert!(found > 0.97, "{found}");
            let at = |d: usize, h: usize, w: usize| (d * SIZE[1] + h) * SIZE[2] + w;
            let (inside, rod) = (at(4, 3, 8), at(4, 5, 8));
            assert_eq!(regions.fit[inside], 1.0);
            assert!(regions.fit[rod] < 0.9, "{}", regions.fit[rod]);
            assert_eq!(regions.fit[at(0, 0, 0)], 0.0, "nothing beyond the box");
        }
        // Dark ones only where they are asked for.
        let dark = map(|d, h, w| 1.0 - number(hook(d, h, w)));
        let regions = boxed([2..8, 2..10, 3..13]).regions(&dark, false);
        assert!(regions.best.iter().all(|&score| score < 0.9));
    }

    #[test]
    fn points_say_which() {
        // Two slabs, equal but for a voxel, with a dark plane between them.
        let slab = |h: usize| (3..5).contains(&h) || (6..9).contains(&h);
        let slabs = map(|d, h, w| match h {
            _ if !(2..8).contains(&d) || !(3..13).contains(&w) => 0.2,
            5 => 0.0,
            _ => 0.2 + 0.8 * number(slab(h)),
        });
        let mut prompted = boxed([2..8, 3..9, 3..13]);
        let held =
            |prompted: &Prompted, h: usize| prompted.regions(&slabs, false).best[(5 * SIZE[1] + h) * SIZE[2] + 6] > 0.0;
        for (chosen, other) in [(3, 8), (8, 3)] {
            prompted.points = vec![([5, chosen, 5], 1)];
            assert!(held(&prompted, chosen) && !held(&prompted, other), "with a point in {chosen}");
            prompted.points = vec![([5, other, 5], 0)];
            assert!(held(&prompted, chosen) && !held(&prompted, other), "with a negative point in {other}");
        }
        // Other labels, and places beyond the box, do not count.
        prompted.points = vec![([5, 8, 5], -1), ([5, 10, 5], 0)];
        assert!(held(&prompted, 8) && !held(&prompted, 3));
    }

    #[test]
    fn without_a_box_the_region_around_the_point() {
        let ball = map(|d, h, w| {
            let square = [d.abs_diff(5), h.abs_diff(6), w.abs_diff(8)].iter().map(|&x| (x * x) as f32).sum::<f32>();
            if square < 10.0 { 0.8 } else { 0.2 + 0.01 * w as f32 }
        });
        let mut prompted = boxed([1..9, 1..11, 1..15]);
        prompted.boxed = false;
        prompted.points = vec![([5, 6, 8], 1)];
        let regions = prompted.regions(&ball, true);
        let found = dice(&regions.best, &ball.iter().map(|&value| number(value == 0.8)).collect::<Vec<_>>());
        assert!(found > 0.97, "{found}");
    }

    #[test]
    fn what_the_scan_ends_in_does_not_leak() {
        // A dark slab at the end of the scan; beyond it are zeros, darker still.
        let slab = map(|d, h, w| match d {
            0..3 => 0.0,
            3..6 if (2..10).contains(&h) && (3..13).contains(&w) => 0.1,
            _ => 0.7,
        });
        let mut prompted = boxed([3..6, 2..10, 3..13]);
        let leaking = prompted.regions(&slab, true).fit[(4 * SIZE[1] + 5) * SIZE[2] + 6];
        prompted.in_scan[0] = 3..10;
        let ended = prompted.regions(&slab, true).fit[(4 * SIZE[1] + 5) * SIZE[2] + 6];
        assert!(ended == 1.0 && leaking < 0.8, "{ended} {leaking}");
    }

    #[test]
    fn an_empty_or_flat_box_gives_nothing_or_itself() {
        let regions = boxed([2..2, 2..10, 3..13]).regions(&map(|_, _, _| 0.5), true);
        assert!(regions.fit.iter().chain(&regions.best).all(|&value| value == 0.0));
        let regions = boxed([2..8, 2..10, 3..13]).regions(&map(|_, _, _| 0.5), true);
        assert!(regions.fit.iter().chain(&regions.best).all(|value| (0.0..=1.0).contains(value)));
    }

    #[test]
    fn numbers_rise_with_floats() {
        let floats = [f32::NEG_INFINITY, -2.0, -1e-30, 0.0, 1e-30, 0.5, 3.0];
        assert!(floats.windows(2).all(|pair| rising(pair[0]) < rising(pair[1])));
        assert_eq!(rising(-0.0), rising(0.0));
    }
}
