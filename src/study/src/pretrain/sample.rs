//! What a network learns from scratch on: windows of phantoms with prompts for one structure.

use super::frame::{self, Found, Frame, View};
use super::stage::Stage;
use crate::phantom::{Appearance, Kind, Look, PhantomModality, Scene, between};
use crate::random::{Use, generator};
use adaptmedseg_engine::WindowPrompts;
use adaptmedseg_model::anatomy::Atlas;
use adaptmedseg_model::dense_prompt::{BEST_REGIONS, DenseInput, INPUT_CHANNELS, PROPOSAL};
use adaptmedseg_volume::Reorientation;
use rand::Rng;
use rand::seq::IndexedRandom;

/// A window, its target, and the prompt.
pub(crate) struct Drawn {
    pub(crate) view: View,
    /// Without the text's embedding.
    pub(crate) prompts: WindowPrompts,
    /// The name to encode, where text is part of the prompt.
    pub(crate) text: Option<String>,
    /// For reports: `box`, `points`, `text` and so on.
    pub(crate) kind: &'static str,
}

/// The share of the window's edge that a box takes in the focused zoom-in.
const FOCUS_SHARE: f32 = 2.0 / 3.0;

/// How much wider each further look around points is, as in the focused zoom-in.
const WIDEN: f32 = 1.6;
/// Fewest voxels of a window that the structure has.
const MIN_INSIDE: usize = 30;
/// Structures that stand out less than this are seldom taken.
const MIN_CONTRAST: f32 = 0.12;
/// How often a body is left upright, as scans are shown to the network.
const UPRIGHT: f64 = 0.7;
/// How often a box comes with what an atlas expects, and the least part of it that is asked. Real bodies are less like those
/// of the atlas than phantoms are, so places are told wrong: factors of edges, and shares of the body's width.
const WITH_PRIOR: f64 = 0.85;
const LEAST_ASKED: f32 = 0.1;
const EDGE_ERROR: f32 = 0.12;
const OFFSET_ERROR: f32 = 0.05;
/// How often it has what the bodies of the atlas, as they fit, have in the box, which they too are told a little wrong: its
/// corners by shares of its edges.
const WITH_CANDIDATES: f64 = 0.75;
const CORNER_ERROR: f32 = 0.1;

/// How often a previous mask is a connected region instead, which may be another structure's.
const WRONG: f64 = 0.4;
/// How often a box comes with any map's region for a proposal, not with the best.
const ANY_PROPOSAL: f64 = 0.3;

/// Draws a sample; `None` where the window came out without the structure.
pub(crate) fn draw(
    stage: &Stage,
    atlas: &Atlas,
    size: [usize; 3],
    modality: Option<PhantomModality>,
    seed: u64,
    number: u64,
) -> Option<Drawn> {
    let mut random = generator(seed, Use::Step, number);
    let random = &mut random;
    let [depth, height, width] = size;
    let count = [width, height, depth];
    let scene = &stage.scene;
    let look = match (modality, random.random_range(0..10)) {
        (Some(PhantomModality::Ct), _) | (None, 0..3) => Look::Ct,
        (Some(PhantomModality::Mr), _) | (None, 3..6) => Look::Mr,
        _ => Look::Any,
    };
    let appearance = Appearance::new(&scene.tissues, look, random);
    let text = stage.kind != Kind::Shapes && random.random_bool(0.06);
    let found = choose(stage, text, random)?;
    let structure = &scene.structures[found.index];
    let kind = match (text, random.random_range(0..100)) {
        (true, 0..60) => "text",
        (true, 60..80) => "text refined",
        (true, _) => "box and text",
        (false, 0..40) => "box",
        (false, 40..48) => "box and points",
        (false, 48..60) => "box refined",
        (false, 60..84) => "points",
        (false, _) => "points refined",
    };
    let mut anchors = Vec::new();
    let frame = match kind {
        "text" => whole(scene, count, random),
        "points" => {
            anchors = places(scene, found, random)?;
            around(scene, &anchors, count, random)
        }
        _ => focused(found, count, random),
    };
    let mut view = frame::view(scene, &appearance, &frame, count, &structure.labels, random);
    // Text tells left from right.
    let upright = text || stage.kind != Kind::Shapes && random.random_bool(UPRIGHT);
    let plan = if upright { Reorientation::identity() } else { turn(count, random) };
    let as_it_lies = view.image.clone();
    view = View { image: plan.apply_to_slice(&view.image, count), target: plan.apply_to_slice(&view.target, count) };
    let inside: Vec<usize> = (0..view.target.len()).filter(|&index| view.target[index] > 0.5).collect();
    if inside.len() < MIN_INSIDE || (contrast(&view, &inside, size) < MIN_CONTRAST && random.random_bool(0.8)) {
        return None;
    }
    let mut prompts = WindowPrompts::default();
    if kind.starts_with("box") {
        prompts.bounding_box = Some(jittered(&inside, size, random));
    }
    if kind == "points" {
        prompts.points = anchors
            .iter()
            .map(|&anchor| {
                let place =
                    std::array::from_fn(|axis| f64::from((anchor[axis] - frame.start[axis]) / frame.step[axis]));
                let [x, y, z] = plan.map_point(count, place).map(|at| at as f32);
                ([z, y, x], 1)
            })
            .collect();
        negatives(&mut prompts.points, &view.target, &inside, size, random);
    } else if kind.contains("points") || kind == "box refined" && random.random_bool(0.5) {
        for _ in 0..random.random_range(1..=5) {
            let index = inside[random.random_range(0..inside.len())];
            prompts.points.push((place(index, size).map(|at| at as f32), 1));
        }
        negatives(&mut prompts.points, &view.target, &inside, size, random);
    }
    if kind.ends_with("refined") {
        let region = if random.random_bool(WRONG) { region(&view.image, &prompts, size, random) } else { None };
        prompts.mask = Some(region.unwrap_or_else(|| spoiled(&view.target, size, random)));
    } else if kind == "box" && random.random_bool(ANY_PROPOSAL) {
        prompts.mask = region(&view.image, &prompts, size, random).map(|region| as_proposal(&region));
    }
    if let Some(located) = prompts.bounding_box.or_else(|| found_box(&prompts, size))
        && random.random_bool(WITH_PRIOR)
    {
        let prior = expected(stage, atlas, &frame, (&as_it_lies, count), back(&located, &plan, count), random);
        prompts.prior = Some(plan.apply_to_slice(&prior, count));
    }
    Some(Drawn { view, prompts, text: text.then(|| structure.name.clone()), kind })
}

/// How far the structure's mean intensity is from that of what surrounds it, in their standard deviations: where it is
/// not, nothing can be learned but to guess.
fn contrast(view: &View, inside: &[usize], size: [usize; 3]) -> f32 {
    let places = inside.iter().map(|&index| place(index, size).map(|at| at as f32));
    let [low, high] = bounds(places).expect("a structure has voxels");
    let mut sums = [[0f32; 3]; 2];
    for (index, &value) in view.image.iter().enumerate() {
        let at = place(index, size).map(|at| at as f32);
        if (0..3).all(|axis| at[axis] + 3.0 >= low[axis] && at[axis] <= high[axis] + 3.0) {
            let [count, first, second] = &mut sums[usize::from(view.target[index] > 0.5)];
            *count += 1.0;
            *first += value;
            *second += value * value;
        }
    }
    let [(outer, outer_deviation), (inner, inner_deviation)] = sums.map(|[count, first, second]| {
        let mean = first / count.max(1.0);
        (mean, (second / count.max(1.0) - mean * mean).max(0.0).sqrt())
    });
    (inner - outer).abs() / (inner_deviation + outer_deviation + 1e-3)
}

/// A structure, the large and the small alike.
fn choose<'a>(stage: &'a Stage, text: bool, random: &mut impl Rng) -> Option<&'a Found> {
    let named: Vec<&Found> = stage.found.iter().filter(|found| !text || found.voxels > 200).collect();
    // Larger ones a little more often: they are what people ask for. So are those that take little of their box, which are
    // the hardest.
    let weight = |found: &&Found| {
        let lengths = (0..3).map(|axis| (found.end[axis] - found.start[axis]) as f64);
        let fill = found.voxels as f64 / lengths.product::<f64>();
        (found.voxels as f64).powf(0.15) * fill.max(0.01).powf(-0.6)
    };
    named.choose_weighted(random, weight).ok().copied()
}

/// A frame over everything.
fn whole(scene: &Scene, count: [usize; 3], random: &mut impl Rng) -> Frame {
    let extent: [f32; 3] = std::array::from_fn(|axis| scene.size[axis] as f32 * between(random, 0.95, 1.1));
    let centre = std::array::from_fn(|axis| {
        let size = scene.size[axis] as f32;
        (size - 1.0) / 2.0 + size * between(random, -0.03, 0.03)
    });
    Frame::around(centre, extent, count)
}

/// A frame that the structure's box nearly fills, as the focused zoom-in lays it.
fn focused(found: &Found, count: [usize; 3], random: &mut impl Rng) -> Frame {
    let mut centre = [0.0; 3];
    let mut extent = [0.0; 3];
    for axis in 0..3 {
        let (start, end) = (found.start[axis] as f32, found.end[axis] as f32);
        let share = FOCUS_SHARE * between(random, 0.8, 1.2);
        // A voxel is not spread over more than two.
        extent[axis] = ((end - start) / share).max(count[axis] as f32 / 2.0);
        centre[axis] = (start + end - 1.0) / 2.0 + extent[axis] * between(random, -0.06, 0.06);
    }
    Frame::around(centre, extent, count)
}

/// One to five voxels of the structure; one as often as several.
fn places(scene: &Scene, found: &Found, random: &mut impl Rng) -> Option<Vec<[f32; 3]>> {
    let labels = &scene.structures[found.index].labels;
    let wanted = if random.random_bool(0.5) { 1 } else { random.random_range(2..=5) };
    let mut places = Vec::new();
    for _ in 0..2000 {
        let at: [usize; 3] = std::array::from_fn(|axis| random.random_range(found.start[axis]..found.end[axis]));
        if labels.contains(&scene.labels[at[0] + scene.size[0] * (at[1] + scene.size[1] * at[2])]) {
            places.push(at.map(|at| at as f32));
            if places.len() == wanted {
                return Some(places);
            }
        }
    }
    None
}

/// A frame of cubic voxels around points, at one of the scales at which the focused zoom-in looks around.
fn around(scene: &Scene, places: &[[f32; 3]], count: [usize; 3], random: &mut impl Rng) -> Frame {
    let range: [[f32; 2]; 3] = std::array::from_fn(|axis| {
        let along = || places.iter().map(|place| place[axis]);
        [along().fold(f32::INFINITY, f32::min), along().fold(f32::NEG_INFINITY, f32::max)]
    });
    let fine = scene.spacing.iter().copied().fold(f32::INFINITY, f32::min);
    let mut cell = fine * WIDEN.powi(random.random_range(0..4)) * between(random, 0.9, 1.1);
    loop {
        let extent: [f32; 3] = std::array::from_fn(|axis| count[axis] as f32 * cell / scene.spacing[axis]);
        if (0..3).all(|axis| range[axis][1] - range[axis][0] <= 0.8 * extent[axis]) {
            return Frame::around(range.map(|[low, high]| (low + high) / 2.0), extent, count);
        }
        cell *= WIDEN;
    }
}

/// A random way to flip axes, and to exchange them where the window is a cube.
fn turn(count: [usize; 3], random: &mut impl Rng) -> Reorientation {
    let flip: [bool; 3] = std::array::from_fn(|_| random.random_bool(0.5));
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let cube = count[0] == count[1] && count[1] == count[2];
    Reorientation { axes: orders[if cube { random.random_range(0..6) } else { 0 }], flip }
}

/// The corners (x, y, z) of a window's box, inclusive, before the window was turned.
fn back(corners: &[f32; 6], plan: &Reorientation, count: [usize; 3]) -> [[f32; 3]; 2] {
    let [d0, h0, w0, d1, h1, w1] = corners.map(f64::from);
    let [a, b] = [[w0, h0, d0], [w1, h1, d1]].map(|corner| plan.inverse().map_point(plan.map_size(count), corner));
    [std::array::from_fn(|axis| a[axis].min(b[axis]) as f32), std::array::from_fn(|axis| a[axis].max(b[axis]) as f32)]
}

/// What an atlas expects in a box of a window of `count` voxels (x, y, z), about whose place it is told a little wrong.
fn expected(
    stage: &Stage,
    atlas: &Atlas,
    frame: &Frame,
    (image, count): (&[f32], [usize; 3]),
    [low, high]: [[f32; 3]; 2],
    random: &mut impl Rng,
) -> Vec<f32> {
    let in_scene = |corner: [f32; 3], face: f32| {
        std::array::from_fn(|axis| frame.start[axis] + (corner[axis] + face) * frame.step[axis])
    };
    let corners_in_scene = [in_scene(low, -0.5), in_scene(high, 0.5)];
    let mut place = stage.place_of_faces(corners_in_scene);
    place.edges.iter_mut().for_each(|edge| *edge *= between(random, -EDGE_ERROR, EDGE_ERROR).exp());
    place.offset.iter_mut().for_each(|offset| *offset += between(random, -OFFSET_ERROR, OFFSET_ERROR));
    let asked = ((atlas.len() as f32 * between(random, LEAST_ASKED, 1.0)) as usize).max(1);
    let first = random.random_range(0..=atlas.len() - asked);
    let in_window = corners([low, high].map(|[x, y, z]| [z, y, x]));
    let candidates = if random.random_bool(WITH_CANDIDATES) {
        let [low, high] = corners_in_scene;
        let told = [low, high].map(|corner: [f32; 3]| {
            let error = |axis: usize| CORNER_ERROR * (high[axis] - low[axis]) * between(random, -1.0, 1.0);
            let error = [0, 1, 2].map(error);
            std::array::from_fn(|axis| corner[axis] + error[axis])
        });
        stage.candidates(atlas, told)
    } else {
        Vec::new()
    };
    atlas.prior(image, [count[2], count[1], count[0]], &in_window, &place, first..first + asked, &candidates)
}

/// The lowest and the highest of places along each axis; `None` of none.
fn bounds(places: impl Iterator<Item = [f32; 3]>) -> Option<[[f32; 3]; 2]> {
    places.fold(None, |bounds, at| {
        let [low, high] = bounds.unwrap_or([at; 2]);
        Some([
            std::array::from_fn(|axis| f32::min(low[axis], at[axis])),
            std::array::from_fn(|axis| f32::max(high[axis], at[axis])),
        ])
    })
}

/// A box as prompts have it.
fn corners([[a, b, c], [d, e, f]]: [[f32; 3]; 2]) -> [f32; 6] {
    [a, b, c, d, e, f]
}

fn place(index: usize, [_, height, width]: [usize; 3]) -> [usize; 3] {
    [index / (height * width), index / width % height, index % width]
}

/// The box of the structure; half of the time as a hand would draw it.
fn jittered(inside: &[usize], size: [usize; 3], random: &mut impl Rng) -> [f32; 6] {
    let places = inside.iter().map(|&index| place(index, size).map(|at| at as f32));
    let [mut low, mut high] = bounds(places).expect("a structure has voxels");
    if random.random_bool(0.5) {
        for axis in 0..3 {
            let reach = 0.1 * (high[axis] - low[axis] + 1.0);
            let last = size[axis] as f32 - 1.0;
            low[axis] = (low[axis] + reach * between(random, -1.0, 1.0)).clamp(0.0, last);
            high[axis] = (high[axis] + reach * between(random, -1.0, 1.0)).clamp(low[axis], last);
        }
    }
    corners([low, high])
}

/// Adds, now and then, points outside but near.
fn negatives(
    points: &mut Vec<([f32; 3], i8)>,
    target: &[f32],
    inside: &[usize],
    size: [usize; 3],
    random: &mut impl Rng,
) {
    if !random.random_bool(0.25) {
        return;
    }
    for _ in 0..random.random_range(1..=3) {
        let near = place(inside[random.random_range(0..inside.len())], size);
        let at: [usize; 3] = std::array::from_fn(|axis| {
            (near[axis] as f32 + between(random, -10.0, 10.0)).clamp(0.0, size[axis] as f32 - 1.0) as usize
        });
        if target[(at[0] * size[1] + at[1]) * size[2] + at[2]] < 0.2 {
            points.push((at.map(|at| at as f32), 0));
        }
    }
}

/// The box (d, h, w, d, h, w), inclusive, of a previous mask and the positive points.
fn found_box(prompts: &WindowPrompts, size: [usize; 3]) -> Option<[f32; 6]> {
    let mask = prompts.mask.as_ref()?;
    let set = (0..mask.len()).filter(|&index| mask[index] > 0.5).map(|index| place(index, size).map(|at| at as f32));
    let points = prompts.points.iter().filter(|(_, label)| *label == 1).map(|(place, _)| *place);
    bounds(set.chain(points)).map(corners)
}

/// A connected region that suits the prompts, and may be the structure's or another's, as a mask; `None` where there is none.
fn region(image: &[f32], prompts: &WindowPrompts, size: [usize; 3], random: &mut impl Rng) -> Option<Vec<f32>> {
    let channel = *BEST_REGIONS.choose(random)?;
    let &WindowPrompts { ref points, bounding_box, .. } = prompts;
    let input =
        DenseInput { window: image, size, points, bounding_box, mask: None, prior: None, propose: false }.volume();
    let mask: Vec<f32> = input.chunks_exact(INPUT_CHANNELS).map(|voxel| f32::from(voxel[channel] > 0.0)).collect();
    mask.contains(&1.0).then_some(mask)
}

/// A region as sure as a proposal is, from 0 to 1.
fn as_proposal(region: &[f32]) -> Vec<f32> {
    region.iter().map(|&inside| 0.5 + PROPOSAL * (inside - 0.5)).collect()
}

/// A mask as a first attempt might have left it: parts grown, parts shrunk, parts missing.
fn spoiled(target: &[f32], size: [usize; 3], random: &mut impl Rng) -> Vec<f32> {
    let mut soft = target.to_vec();
    for _ in 0..random.random_range(1..12) {
        crate::phantom::smooth(&mut soft, [size[2], size[1], size[0]]);
    }
    let (coarse, fine) = (crate::phantom::Noise::new(random), crate::phantom::Noise::new(random));
    let (a, b, level) = (between(random, 0.0, 0.5), between(random, 0.0, 0.25), between(random, 0.3, 0.65));
    let scale = between(random, 6.0, 16.0);
    // A first attempt may also have ended too early on one side, or run over on another.
    let side: [f32; 3] = std::array::from_fn(|_| between(random, -1.0, 1.0));
    let cut = random.random_bool(0.3).then(|| between(random, -12.0, 12.0));
    let over = random.random_bool(0.3).then(|| {
        let centre: [f32; 3] = size.map(|size| size as f32 * between(random, 0.2, 0.8));
        (centre, between(random, 3.0, 10.0))
    });
    soft.iter()
        .enumerate()
        .map(|(index, value)| {
            let p = place(index, size).map(|at| at as f32);
            if let Some(cut) = cut
                && (0..3).map(|axis| side[axis] * (p[axis] - size[axis] as f32 / 2.0)).sum::<f32>() > cut
            {
                return 0.0;
            }
            if let Some((centre, radius)) = over
                && (0..3).map(|axis| (p[axis] - centre[axis]).powi(2)).sum::<f32>() < radius * radius
            {
                return 1.0;
            }
            f32::from(value + a * coarse.scaled(p, scale) + b * fine.scaled(p, 4.0) > level)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::atlas;
    use super::*;

    #[test]
    fn what_the_atlas_expects_lies_where_the_structure_does_however_the_window_was_turned() {
        let (seed, size) = (11, [48; 3]);
        let atlas = atlas::of_scenes(seed, 0..6);
        let stages: Vec<Stage> = (0..4).map(|index| Stage::new(seed, index)).collect();
        let (mut sums, mut count) = ([0.0; 2], 0);
        for number in 0..40 {
            let Some(drawn) = draw(&stages[number as usize % 4], &atlas, size, None, seed, number) else { continue };
            let located = drawn.prompts.bounding_box.or_else(|| found_box(&drawn.prompts, size));
            assert!(drawn.prompts.prior.is_none() || located.is_some());
            // A mask may be another structure's.
            let (Some(prior), Some(corners)) = (drawn.prompts.prior, drawn.prompts.bounding_box) else { continue };
            let in_box = |index: &usize| {
                let at = place(*index, size);
                (0..3).all(|axis| (corners[axis]..=corners[axis + 3]).contains(&(at[axis] as f32)))
            };
            let (inside, outside): (Vec<usize>, Vec<usize>) =
                (0..prior.len()).filter(in_box).partition(|&index| drawn.view.target[index] > 0.5);
            if outside.is_empty() {
                continue;
            }
            let mean = |of: &[usize]| of.iter().map(|&index| prior[index]).sum::<f32>() / of.len() as f32;
            sums = [sums[0] + mean(&inside), sums[1] + mean(&outside)];
            count += 1;
        }
        assert!(count >= 10, "{count} boxes with a prior");
        assert!(sums[0] > 1.5 * sums[1], "{sums:?} of {count}");
    }

    #[test]
    fn previous_masks_are_right_and_wrong() {
        let (seed, size) = (13, [48; 3]);
        let atlas = atlas::of_scenes(seed, 0..2);
        let stages: Vec<Stage> = (0..8).map(|index| Stage::new(seed, index)).collect();
        let (mut masks, mut regions, mut right) = (0, 0, 0);
        let (mut boxes, mut proposed) = (0, 0);
        for number in 0..240 {
            let stage = &stages[number as usize % 8];
            let Some(drawn) = draw(stage, &atlas, size, None, seed, number) else { continue };
            boxes += usize::from(drawn.kind == "box");
            let Some(mask) = &drawn.prompts.mask else { continue };
            if drawn.kind == "box" {
                let [low, high] = [0.0, 1.0].map(|inside| as_proposal(&[inside])[0]);
                assert!(mask.iter().all(|&value| value == low || value == high) && mask.contains(&high));
                proposed += 1;
                continue;
            }
            // What any map of this window proposes.
            let &WindowPrompts { ref points, bounding_box, .. } = &drawn.prompts;
            let window = &drawn.view.image;
            let input =
                DenseInput { window, size, points, bounding_box, mask: None, prior: None, propose: false }.volume();
            let same = |channel: &usize| {
                input
                    .chunks_exact(INPUT_CHANNELS)
                    .zip(mask)
                    .all(|(voxel, &set)| f32::from(voxel[*channel] > 0.0) == set)
            };
            let both: f32 = mask.iter().zip(&drawn.view.target).map(|(mask, target)| mask * target).sum();
            let either: f32 = mask.iter().chain(&drawn.view.target).sum();
            masks += 1;
            regions += usize::from(BEST_REGIONS.iter().any(same));
            right += usize::from(2.0 * both / either > 0.5);
        }
        assert!(masks >= 10 && 4 * right > masks, "{right} of {masks} are the structure");
        assert!(
            (0.5 * WRONG..1.5 * WRONG).contains(&(regions as f64 / masks as f64)),
            "{regions} of {masks} are regions"
        );
        let share = proposed as f64 / boxes as f64;
        assert!((0.5 * ANY_PROPOSAL..1.5 * ANY_PROPOSAL).contains(&share), "{proposed} of {boxes} boxes");
    }

    #[test]
    fn a_found_box_holds_the_mask_and_the_positive_points() {
        let size = [4, 5, 6];
        let mut mask = vec![0.0; 4 * 5 * 6];
        let points = vec![([3.0, 2.0, 2.0], 1), ([0.0, 0.0, 0.0], 0)];
        let found = |mask: &[f32], points: &[([f32; 3], i8)]| {
            let prompts =
                WindowPrompts { mask: Some(mask.to_vec()), points: points.to_vec(), ..WindowPrompts::default() };
            found_box(&prompts, size)
        };
        assert_eq!(found(&mask, &[]), None);
        mask[(5 + 1) * 6 + 4] = 1.0;
        mask[(2 * 5 + 3) * 6 + 5] = 1.0;
        assert_eq!(found(&mask, &[]), Some([1.0, 1.0, 4.0, 2.0, 3.0, 5.0]));
        assert_eq!(found(&mask, &points), Some([1.0, 1.0, 2.0, 3.0, 3.0, 5.0]));
        assert_eq!(found_box(&WindowPrompts { points, ..WindowPrompts::default() }, size), None);
    }
}
