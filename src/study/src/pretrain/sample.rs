//! What a network learns from scratch on: windows of phantoms with prompts for one structure.

use super::frame::{self, Found, Frame, View};
use crate::phantom::{self, Appearance, Kind, Look, PhantomModality, Scene, between};
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

/// How much wider each further look around points is, as in the focused zoom-in.
const WIDEN: f32 = 1.6;
/// Fewest voxels of a window that the structure has.
const MIN_INSIDE: usize = 30;
/// Structures that stand out less than this are seldom taken.
const MIN_CONTRAST: f32 = 0.12;

/// Draws a sample; `None` where the window came out without the structure.
pub(crate) fn draw(
    stage: &Stage,
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
        (false, 0..38) => "box",
        (false, 38..46) => "box and points",
        (false, 46..52) => "box refined",
        (false, 52..84) => "points",
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
    let plan = if text { Reorientation::identity() } else { turn(count, random) };
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
        prompts.mask = Some(spoiled(&view.target, size, random));
    }
    Some(Drawn { view, prompts, text: text.then(|| structure.name.clone()), kind })
}

/// How far the structure's mean intensity is from that of what surrounds it, in their standard deviations: where it is
/// not, nothing can be learned but to guess.
fn contrast(view: &View, inside: &[usize], size: [usize; 3]) -> f32 {
    let (mut low, mut high) = (size, [0; 3]);
    for &index in inside {
        for (axis, at) in place(index, size).into_iter().enumerate() {
            low[axis] = low[axis].min(at);
            high[axis] = high[axis].max(at);
        }
    }
    let mut sums = [[0f32; 3]; 2];
    for (index, &value) in view.image.iter().enumerate() {
        let at = place(index, size);
        if (0..3).all(|axis| at[axis] + 3 >= low[axis] && at[axis] <= high[axis] + 3) {
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
