//! What a network learns from scratch on: windows of phantoms with prompts for one structure.

use super::frame::{self, Found, Frame, View};
use crate::phantom::{self, Appearance, Kind, Look, Scene, between};
use crate::random::{Use, generator};
use adaptmedseg_engine::WindowPrompts;
use adaptmedseg_volume::Reorientation;
use rand::Rng;
use rand::seq::IndexedRandom;

/// A scene and what can be asked for in it.
pub(crate) struct Stage {
    kind: Kind,
    scene: Scene,
    found: Vec<Found>,
}

impl Stage {
    /// Scene number `index` of a seed.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let (kind, scene) = phantom::scene(seed, index);
        let found = frame::find(&scene);
        Self { kind, scene, found }
    }
}

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

/// Fewest voxels of a window that the structure has.
const MIN_INSIDE: usize = 30;

/// Draws a sample; `None` where the window came out without the structure.
pub(crate) fn draw(stage: &Stage, size: [usize; 3], seed: u64, number: u64) -> Option<Drawn> {
    let mut random = generator(seed, Use::Step, number);
    let random = &mut random;
    let [depth, height, width] = size;
    let count = [width, height, depth];
    let scene = &stage.scene;
    let look = match random.random_range(0..10) {
        0..3 => Look::Ct,
        3..6 => Look::Mr,
        _ => Look::Any,
    };
    let appearance = Appearance::new(&scene.tissues, look, random);
    let text = stage.kind != Kind::Shapes && random.random_bool(0.15);
    let found = choose(stage, text, random)?;
    let structure = &scene.structures[found.index];
    let kind = match (text, random.random_range(0..100)) {
        (true, 0..60) => "text",
        (true, 60..80) => "text refined",
        (true, _) => "box and text",
        (false, 0..40) => "box",
        (false, 40..48) => "box and points",
        (false, 48..55) => "box refined",
        (false, 55..82) => "points",
        (false, _) => "points refined",
    };
    let frame = match kind {
        "text" => whole(scene, random),
        "points" => loose(scene, found, count, random),
        _ => focused(found, count, random),
    };
    let mut view = frame::view(scene, &appearance, &frame, count, &structure.labels, random);
    if !text {
        turn(&mut view, size, random);
    }
    let inside: Vec<usize> = (0..view.target.len()).filter(|&index| view.target[index] > 0.5).collect();
    if inside.len() < MIN_INSIDE {
        return None;
    }
    let mut prompts = WindowPrompts::default();
    if kind.starts_with("box") {
        prompts.bounding_box = Some(jittered(&inside, size, random));
    }
    if kind.contains("points") || kind == "box refined" && random.random_bool(0.5) {
        prompts.points = points(&view.target, &inside, size, random);
    }
    if kind.ends_with("refined") {
        prompts.mask = Some(spoiled(&view.target, size, random));
    }
    Some(Drawn { view, prompts, text: text.then(|| structure.name.clone()), kind })
}

/// A structure, the large and the small alike.
fn choose<'a>(stage: &'a Stage, text: bool, random: &mut impl Rng) -> Option<&'a Found> {
    let named: Vec<&Found> = stage.found.iter().filter(|found| !text || found.voxels > 200).collect();
    // Larger ones a little more often: they are what people ask for.
    named.choose_weighted(random, |found| (found.voxels as f64).powf(0.15)).ok().copied()
}

/// A frame over everything.
fn whole(scene: &Scene, random: &mut impl Rng) -> Frame {
    let start: [f32; 3] = std::array::from_fn(|axis| scene.size[axis] as f32 * between(random, -0.08, 0.08));
    let extent: [f32; 3] = std::array::from_fn(|axis| scene.size[axis] as f32 * between(random, 0.9, 1.1));
    let centre = std::array::from_fn(|axis| start[axis] + scene.size[axis] as f32 / 2.0 - 0.5);
    Frame::around(centre, extent, [48; 3])
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

/// A frame of cubic voxels somewhere around a part of the structure, at any scale.
fn loose(scene: &Scene, found: &Found, count: [usize; 3], random: &mut impl Rng) -> Frame {
    let fine = scene.spacing.iter().copied().fold(f32::INFINITY, f32::min);
    let cell = fine * 2f32.powf(between(random, -0.3, 1.8));
    let extent: [f32; 3] = std::array::from_fn(|axis| count[axis] as f32 * cell / scene.spacing[axis]);
    let centre = std::array::from_fn(|axis| {
        let (start, end) = (found.start[axis] as f32, found.end[axis] as f32);
        // Anywhere that keeps a part of it in sight.
        let away = ((end - start) * 0.35).min(extent[axis] * 0.3);
        (start + end - 1.0) / 2.0 + away * between(random, -1.0, 1.0)
    });
    Frame::around(centre, extent, count)
}

/// Flips axes, and exchanges them where the window is a cube.
fn turn(view: &mut View, size: [usize; 3], random: &mut impl Rng) {
    let flip: [bool; 3] = std::array::from_fn(|_| random.random_bool(0.5));
    let cube = size[0] == size[1] && size[1] == size[2];
    let order = if cube {
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][random.random_range(0..6)]
    } else {
        [0, 1, 2]
    };
    let plan = Reorientation { axes: order, flip };
    let change = |data: &[f32]| plan.apply_to_slice(data, [size[2], size[1], size[0]]);
    *view = View { image: change(&view.image), target: change(&view.target) };
}

fn place(index: usize, [_, height, width]: [usize; 3]) -> [usize; 3] {
    [index / (height * width), index / width % height, index % width]
}

/// The box of the structure; half of the time as a hand would draw it.
fn jittered(inside: &[usize], size: [usize; 3], random: &mut impl Rng) -> [f32; 6] {
    let (mut low, mut high) = ([f32::INFINITY; 3], [0f32; 3]);
    for &index in inside {
        for (axis, at) in place(index, size).into_iter().enumerate() {
            low[axis] = low[axis].min(at as f32);
            high[axis] = high[axis].max(at as f32);
        }
    }
    if random.random_bool(0.5) {
        for axis in 0..3 {
            let reach = 0.1 * (high[axis] - low[axis] + 1.0);
            let last = size[axis] as f32 - 1.0;
            low[axis] = (low[axis] + reach * between(random, -1.0, 1.0)).clamp(0.0, last);
            high[axis] = (high[axis] + reach * between(random, -1.0, 1.0)).clamp(low[axis], last);
        }
    }
    std::array::from_fn(|index| if index < 3 { low[index] } else { high[index - 3] })
}

/// One to five points inside, and now and then some outside but near.
fn points(target: &[f32], inside: &[usize], size: [usize; 3], random: &mut impl Rng) -> Vec<([f32; 3], i8)> {
    let mut points = Vec::new();
    for _ in 0..random.random_range(1..=5) {
        let index = inside[random.random_range(0..inside.len())];
        points.push((place(index, size).map(|at| at as f32), 1));
    }
    if random.random_bool(0.3) {
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
    points
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
