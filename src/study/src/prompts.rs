//! Prompts drawn from the truth, as the original trains (quirks 49 and 51).

use adaptmedseg_engine::{TextEmbedding, WindowPrompts};
use rand::Rng;

/// The combinations a sample is asked by, in the original's order. The loss is the sum over them.
pub(crate) const COMBINATIONS: [&str; 6] = ["text+points", "text+box", "text", "box", "points", "box+points"];
/// Most points of a kind beyond the first positive one.
const MORE_POINTS: usize = 10;
/// Farthest a corner of a box is moved, in voxels of the window.
const JITTER: f64 = 10.0;
/// And in parts of the box, so that the box of a small structure stays one of it.
const JITTER_SHARE: f64 = 0.25;
/// A label that was resampled has fractions; from here on a voxel is surely inside, or outside.
const SURELY_INSIDE: f32 = 0.9;
const SURELY_OUTSIDE: f32 = 0.1;
/// And from here on it counts for the box.
const HALF_INSIDE: f32 = 0.25;

/// Points and a box for a target, (d, h, w) in voxels of the window; `None` if there is nothing in it.
///
/// `jitter` from 0 to 1 says how much of the original's jitter the box gets.
pub(crate) fn draw(
    target: &[f32],
    size: [usize; 3],
    text: Option<&TextEmbedding>,
    jitter: f64,
    random: &mut impl Rng,
) -> Option<Vec<(&'static str, WindowPrompts)>> {
    let inside: Vec<usize> = (0..target.len()).filter(|&voxel| target[voxel] > SURELY_INSIDE).collect();
    if inside.is_empty() {
        return None;
    }
    let outside: Vec<usize> = (0..target.len()).filter(|&voxel| target[voxel] < SURELY_OUTSIDE).collect();
    let [_, height, width] = size;
    let place = |voxel: usize| {
        [voxel / (height * width), voxel / width % height, voxel % width].map(|coordinate| coordinate as f32)
    };
    let mut points = Vec::new();
    for _ in 0..1 + random.random_range(0..=MORE_POINTS) {
        points.push((place(inside[random.random_range(0..inside.len())]), 1));
    }
    if !outside.is_empty() {
        for _ in 0..random.random_range(0..=MORE_POINTS) {
            points.push((place(outside[random.random_range(0..outside.len())]), 0));
        }
    }
    let corners = jittered(bounding_box(target, size), size, jitter, random);
    let combinations = COMBINATIONS.into_iter().filter_map(|name| {
        let with = |kind| name.split('+').any(|part| part == kind);
        let prompts = WindowPrompts {
            points: if with("points") { points.clone() } else { Vec::new() },
            bounding_box: with("box").then_some(corners),
            text: if with("text") { Some(text?.clone()) } else { None },
            ..WindowPrompts::default()
        };
        Some((name, prompts))
    });
    Some(combinations.collect())
}

/// First and last voxel of the target along each axis.
fn bounding_box(target: &[f32], [_, height, width]: [usize; 3]) -> [[f64; 2]; 3] {
    let mut bounds = [[f64::INFINITY, f64::NEG_INFINITY]; 3];
    for voxel in (0..target.len()).filter(|&voxel| target[voxel] > HALF_INSIDE) {
        let place = [voxel / (height * width), voxel / width % height, voxel % width];
        for (bounds, coordinate) in bounds.iter_mut().zip(place) {
            *bounds = [bounds[0].min(coordinate as f64), bounds[1].max(coordinate as f64)];
        }
    }
    bounds
}

/// Moves the corners by up to ten voxels each, but by no more than a quarter of the box. The original moves them without
/// a limit, which can turn the box of a small structure inside out.
fn jittered(bounds: [[f64; 2]; 3], size: [usize; 3], jitter: f64, random: &mut impl Rng) -> [f32; 6] {
    let mut corners = [0.0; 6];
    for (axis, [low, high]) in bounds.into_iter().enumerate() {
        let most = (JITTER.min(JITTER_SHARE * (high - low + 1.0)) * jitter).floor();
        let mut moved = |corner: f64| {
            let by = if most >= 1.0 { random.random_range(-(most as i64)..=most as i64) as f64 } else { 0.0 };
            (corner + by).clamp(0.0, size[axis] as f64 - 1.0)
        };
        let (a, b) = (moved(low), moved(high));
        (corners[axis], corners[3 + axis]) = (a.min(b) as f32, a.max(b) as f32);
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Use, generator};

    const SIZE: [usize; 3] = [8, 16, 24];

    fn target(low: [usize; 3], high: [usize; 3]) -> Vec<f32> {
        let inside = |voxel: usize| {
            let place = [voxel / (SIZE[1] * SIZE[2]), voxel / SIZE[2] % SIZE[1], voxel % SIZE[2]];
            (0..3).all(|axis| (low[axis]..=high[axis]).contains(&place[axis]))
        };
        (0..SIZE.iter().product()).map(|voxel| f32::from(u8::from(inside(voxel)))).collect()
    }

    #[test]
    fn a_box_never_inverts_nor_leaves_the_window() {
        for (low, high) in [([3, 3, 3], [3, 3, 3]), ([0, 0, 0], [7, 15, 23]), ([6, 14, 0], [7, 15, 1])] {
            let target = target(low, high);
            for index in 0..500 {
                let mut random = generator(1, Use::Step, index);
                let drawn = draw(&target, SIZE, None, 1.0, &mut random).expect("something inside");
                let corners = drawn[0].1.bounding_box.expect("without text the first is the box");
                for axis in 0..3 {
                    assert!(0.0 <= corners[axis] && corners[axis] <= corners[3 + axis], "{corners:?}");
                    assert!(corners[3 + axis] <= SIZE[axis] as f32 - 1.0, "{corners:?}");
                }
            }
        }
    }

    #[test]
    fn points_lie_where_their_label_says() {
        let (low, high) = ([2, 4, 6], [5, 9, 12]);
        let target = target(low, high);
        for index in 0..200 {
            let drawn = draw(&target, SIZE, None, 1.0, &mut generator(2, Use::Step, index)).expect("something inside");
            assert_eq!(drawn.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["box", "points", "box+points"]);
            let points = &drawn[1].1.points;
            let positives = points.iter().filter(|(_, label)| *label == 1).count();
            assert!((1..=11).contains(&positives) && points.len() - positives <= 10);
            for (place, label) in points {
                let inside = (0..3).all(|axis| (low[axis] as f32..=high[axis] as f32).contains(&place[axis]));
                assert_eq!(inside, *label == 1, "{place:?}");
            }
        }
    }

    #[test]
    fn without_jitter_the_box_is_the_target_s() {
        let target = target([2, 4, 6], [5, 9, 12]);
        let drawn = draw(&target, SIZE, None, 0.0, &mut generator(3, Use::Step, 0)).expect("something inside");
        assert_eq!(drawn[0].1.bounding_box, Some([2.0, 4.0, 6.0, 5.0, 9.0, 12.0]));
        assert!(draw(&[0.0; 8], [2, 2, 2], None, 0.0, &mut generator(3, Use::Step, 0)).is_none());
    }
}
