//! Prompts of an evaluation: which there are, and how they are drawn from the truth.

use crate::random::{Use, generator, number_of};
use adaptmedseg_segment::{BoxPrompt, Point, Space};
use adaptmedseg_volume::Geometry;
use adaptmedseg_volume::preprocess::bounding_region;
use rand::Rng;
use std::fmt;
use std::str::FromStr;

/// Most points of a prompt.
const MOST_POINTS: usize = 50;

/// A kind of prompt, such as `text+box`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptKind {
    text: bool,
    points: usize,
    bounding_box: bool,
}

impl PromptKind {
    /// Whether the structure is named.
    pub fn has_text(self) -> bool {
        self.text
    }

    /// Whether something in it is drawn from the truth.
    pub fn has_place(self) -> bool {
        self.points > 0 || self.bounding_box
    }
}

impl fmt::Display for PromptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = match self.points {
            0 => None,
            1 => Some("point".to_owned()),
            count => Some(format!("points{count}")),
        };
        let text = self.text.then(|| "text".to_owned());
        let bounding_box = self.bounding_box.then(|| "box".to_owned());
        f.write_str(&[text, points, bounding_box].into_iter().flatten().collect::<Vec<_>>().join("+"))
    }
}

impl FromStr for PromptKind {
    type Err = String;

    /// Reads `text`, `point`, `points2` to `points50`, `box`, or several of them with `+` between.
    fn from_str(name: &str) -> Result<Self, String> {
        let mut kind = Self { text: false, points: 0, bounding_box: false };
        for part in name.split('+') {
            let points = match part.strip_prefix("points").map(str::parse) {
                Some(Ok(count @ 2..=MOST_POINTS)) => count,
                _ => usize::from(part == "point"),
            };
            let twice = match part {
                "text" => std::mem::replace(&mut kind.text, true),
                "box" => std::mem::replace(&mut kind.bounding_box, true),
                _ if points > 0 => std::mem::replace(&mut kind.points, points) > 0,
                _ => {
                    return Err(format!(
                        "unknown prompt {part:?}: it is one of text, point, points2 to points{MOST_POINTS}, box, or \
                         several with + between, such as text+box"
                    ));
                }
            };
            if twice {
                return Err(format!("prompt {name:?} asks twice for the same kind"));
            }
        }
        Ok(kind)
    }
}

/// Points and a box in the voxel space of an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Drawn {
    pub(super) points: Vec<Point>,
    pub(super) bounding_box: Option<BoxPrompt>,
}

/// Draws the places of a prompt from a mask, one byte per voxel; `None` if the mask is empty.
///
/// A point is drawn from all voxels of the structure and then moved by up to `jitter` millimetres in any direction, but
/// not out of the image. Each face of the tight box is moved by up to `jitter` millimetres along its axis, outwards no
/// farther than the image reaches, inwards no farther than half of what the box has beyond a voxel: a box never turns
/// inside out. `names` say which structure it is: with the seed they decide everything random, and another jitter moves
/// the same things the same way, by more or less.
pub(super) fn draw(
    kind: PromptKind,
    mask: &[u8],
    geometry: &Geometry,
    jitter: f64,
    seed: u64,
    names: &[&str],
) -> Option<Drawn> {
    let of = |what: &str| {
        let named: Vec<&str> = names.iter().copied().chain([what]).collect();
        generator(seed, Use::Prompt, number_of(&named))
    };
    let region = bounding_region(mask, geometry.size, |&voxel| voxel != 0)?;
    let points =
        if kind.points == 0 { Vec::new() } else { points(kind.points, mask, geometry, jitter, &mut of("point")) };
    let tight = [region.start.map(|at| at as f64 - 0.5), region.end.map(|at| at as f64 - 0.5)];
    let bounding_box = kind.bounding_box.then(|| moved_box(tight, geometry, jitter, &mut of("box")));
    Some(Drawn { points, bounding_box })
}

fn points(count: usize, mask: &[u8], geometry: &Geometry, jitter: f64, random: &mut impl Rng) -> Vec<Point> {
    let inside = mask.iter().filter(|&&voxel| voxel != 0).count();
    let [nx, ny, _] = geometry.size;
    // All three numbers of a point one after the other: the first points are the same however many there are.
    let drawn: Vec<(usize, [f64; 3])> = (0..count)
        .map(|_| {
            let rank = random.random_range(0..inside);
            let length = jitter * random.random::<f64>();
            (rank, crate::shift::direction(random).map(|part| length * part))
        })
        .collect();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&point| drawn[point].0);
    let mut voxels = (0..mask.len()).filter(|&voxel| mask[voxel] != 0).enumerate();
    let (mut current, mut places) = (voxels.next(), vec![0; count]);
    for point in order {
        while current.is_some_and(|(rank, _)| rank < drawn[point].0) {
            current = voxels.next();
        }
        places[point] = current.expect("a rank below the number of voxels").1;
    }
    let moved = places.into_iter().zip(&drawn).map(|(voxel, (_, by))| {
        let ijk = [voxel % nx, voxel / nx % ny, voxel / (nx * ny)].map(|at| at as f64);
        let position = if jitter > 0.0 {
            let lps = geometry.ijk_to_lps(ijk);
            let ijk = geometry.lps_to_ijk(std::array::from_fn(|axis| lps[axis] + by[axis]));
            std::array::from_fn(|axis| ijk[axis].clamp(0.0, geometry.size[axis] as f64 - 1.0))
        } else {
            ijk
        };
        Point { position, space: Space::Ijk, positive: true }
    });
    moved.collect()
}

fn moved_box([low, high]: [[f64; 3]; 2], geometry: &Geometry, jitter: f64, random: &mut impl Rng) -> BoxPrompt {
    let mut corners = [low, high];
    for axis in 0..3 {
        let inwards = (high[axis] - low[axis] - 1.0) / 2.0;
        let mut by = || random.random_range(-1.0..1.0) * jitter / geometry.spacing[axis];
        let last = geometry.size[axis] as f64 - 0.5;
        corners[0][axis] = (low[axis] + by().min(inwards)).clamp(-0.5, last);
        corners[1][axis] = (high[axis] - by().min(inwards)).clamp(-0.5, last);
    }
    BoxPrompt { corners, space: Space::Ijk }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> PromptKind {
        name.parse().expect("a kind of prompt")
    }

    fn grid() -> Geometry {
        let direction = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([20, 16, 10], [0.8, 1.0, 4.0], [0.0; 3], direction).expect("a grid")
    }

    fn block(low: [usize; 3], high: [usize; 3]) -> Vec<u8> {
        let place = |voxel: usize| [voxel % 20, voxel / 20 % 16, voxel / 320];
        (0..3200)
            .map(|voxel| u8::from((0..3).all(|axis| (low[axis]..=high[axis]).contains(&place(voxel)[axis]))))
            .collect()
    }

    #[test]
    fn kinds_are_read_and_unknown_ones_list_the_known() {
        for (text, canonical) in [("box", "box"), ("box+text", "text+box"), ("points5+text", "text+points5")] {
            assert_eq!(kind(text).to_string(), canonical);
        }
        let message = |text: &str| text.parse::<PromptKind>().expect_err("unknown");
        for text in ["", "boxes", "points1", "points99", "text+mask"] {
            assert!(message(text).contains("text, point, points2 to points50, box"), "{text}");
        }
        assert!(message("box+box").contains("twice") && message("point+points3").contains("twice"));
    }

    #[test]
    fn a_box_never_inverts_nor_leaves_the_image() {
        for (low, high) in [([3, 3, 3], [3, 3, 3]), ([0, 0, 0], [19, 15, 9]), ([18, 2, 0], [19, 9, 0])] {
            let (mask, grid) = (block(low, high), grid());
            for seed in 0..300 {
                for jitter in [0.0, 1.0, 5.0, 10.0, 50.0] {
                    let drawn = draw(kind("box"), &mask, &grid, jitter, seed, &["a"]).expect("it is there");
                    let [a, b] = drawn.bounding_box.expect("asked for").corners;
                    for axis in 0..3 {
                        assert!(b[axis] - a[axis] >= 1.0 - 1e-9, "{a:?} to {b:?}");
                        assert!(a[axis] >= -0.5 && b[axis] <= grid.size[axis] as f64 - 0.5, "{a:?} to {b:?}");
                        let farthest = jitter / grid.spacing[axis] + 1e-9;
                        assert!((a[axis] - (low[axis] as f64 - 0.5)).abs() <= farthest);
                        assert!((b[axis] - (high[axis] as f64 + 0.5)).abs() <= farthest);
                    }
                }
            }
        }
    }

    #[test]
    fn points_lie_in_the_structure_and_jitter_is_in_millimetres() {
        let (mask, grid) = (block([4, 5, 2], [9, 8, 6]), grid());
        for seed in 0..200 {
            let at = |jitter| draw(kind("points5"), &mask, &grid, jitter, seed, &["a"]).expect("it is there").points;
            let (exact, moved) = (at(0.0), at(2.0));
            for (exact, moved) in exact.iter().zip(&moved) {
                let [x, y, z] = exact.position.map(|at| at as usize);
                assert_eq!(mask[x + 20 * (y + 16 * z)], 1);
                let (a, b) = (grid.ijk_to_lps(exact.position), grid.ijk_to_lps(moved.position));
                let distance: f64 = (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum();
                assert!(distance.sqrt() <= 2.0 + 1e-9, "{a:?} to {b:?}");
            }
            let one = draw(kind("point"), &mask, &grid, 0.0, seed, &["a"]).expect("it is there").points;
            assert_eq!(one[0], exact[0], "the first point is the same however many there are");
        }
        assert_eq!(draw(kind("point"), &[0; 3200], &grid, 0.0, 1, &["a"]), None);
        let other = |name| draw(kind("points5"), &mask, &grid, 0.0, 1, &[name]).expect("it is there");
        assert_ne!(other("a"), other("b"));
    }
}
