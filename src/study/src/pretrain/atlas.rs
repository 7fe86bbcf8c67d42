//! The atlas of a training from scratch: shapes of bodies that it does not learn from.

use super::frame::Found;
use super::stage::Stage;
use crate::phantom::{self, Scene};
use crate::random::{Use, generator};
use adaptmedseg_model::anatomy::{Atlas, BoxPlace, CELL, CELLS, GRID, WholeBody};
use rand::seq::index;
use rayon::prelude::*;
use std::ops::Range;

/// The scenes it is made of lie beyond those of any run, and those held out. The numbers of whole bodies lie among theirs.
const FIRST: u64 = 1 << 42;
const FIRST_BODY: u64 = FIRST + 240;
/// Most structures of a scene, drawn at random: neighbours are much alike in all.
const STRUCTURES: usize = 20;
/// Smallest structure, cubic millimetres.
const MIN_VOLUME: f32 = 500.0;
/// Places along each axis of a cell that are looked at, and the share of them that a filled cell has: a little less than
/// half, or thin structures would have holes.
const LOOKS: usize = 3;
const FILLED: f32 = 0.4;

/// Whole bodies: torsos, and heads.
const TORSOS: u64 = 24;
const HEADS: u64 = 8;

/// The number of a scene of the atlas: none is a whole body's, which would be drawn alike.
fn number_of_scene(scene: u64) -> u64 {
    let number = FIRST + scene;
    if number < FIRST_BODY { number } else { number + TORSOS + HEADS }
}

/// The atlas of a seed, with the shapes of so many scenes.
pub(crate) fn atlas(seed: u64, scenes: u64, pool: &rayon::ThreadPool) -> Atlas {
    pool.install(|| of_scenes(seed, 0..scenes).with_bodies(whole_bodies(seed, TORSOS, HEADS)))
}

/// Whole bodies of a seed.
pub(super) fn whole_bodies(seed: u64, torsos: u64, heads: u64) -> Vec<WholeBody> {
    let body = |number: u64| {
        let mut random = generator(seed, Use::Phantom, FIRST_BODY + number);
        let scene = if number < torsos {
            phantom::whole_torso(CELL, &mut random)
        } else {
            phantom::whole_head(CELL, &mut random)
        };
        whole_body(&scene)
    };
    (0..torsos + heads).into_par_iter().map(body).collect()
}

/// A scene of [`CELL`]s as a body of an atlas.
fn whole_body(scene: &Scene) -> WholeBody {
    let [nx, ny, nz] = scene.size;
    let mut seen = [false; 256];
    scene.labels.iter().for_each(|&label| seen[usize::from(label)] = true);
    WholeBody { size: [nz, ny, nx], labels: scene.labels.clone(), structures: scene.named(&seen) }
}

/// The atlas of some scenes of a seed.
pub(super) fn of_scenes(seed: u64, scenes: Range<u64>) -> Atlas {
    let of_scene = |number: u64| {
        let stage = Stage::new(seed, number_of_scene(number));
        let scene = &stage.scene;
        let voxel: f32 = scene.spacing.iter().product();
        let known: Vec<&Found> = stage.found.iter().filter(|found| found.voxels as f32 * voxel > MIN_VOLUME).collect();
        let mut random = generator(seed, Use::Atlas, number);
        let chosen = index::sample(&mut random, known.len(), STRUCTURES.min(known.len()));
        chosen
            .iter()
            .map(|chosen| known[chosen])
            .map(|found| (stage.place([found.start, found.end]), cells(scene, found)))
            .collect()
    };
    let entries: Vec<Vec<(BoxPlace, Vec<bool>)>> = scenes.into_par_iter().map(of_scene).collect();
    Atlas::new(entries.into_iter().flatten())
}

/// Which cells of its box a structure fills, (d, h, w).
pub(super) fn cells(scene: &Scene, found: &Found) -> Vec<bool> {
    let mut inside = [false; 256];
    scene.structures[found.index].labels.iter().for_each(|&label| inside[usize::from(label)] = true);
    // Scenes are (x, y, z).
    let places = |axis: usize, cell: usize| {
        let edge = (found.end[axis] - found.start[axis]) as f32;
        (0..LOOKS).map(move |look| {
            let part = (cell as f32 + (look as f32 + 0.5) / LOOKS as f32) / GRID as f32;
            found.start[axis] + (part * edge) as usize
        })
    };
    let [nx, ny, _] = scene.size;
    (0..CELLS)
        .map(|cell| {
            let mut count = 0;
            for z in places(2, cell / (GRID * GRID)) {
                for y in places(1, cell / GRID % GRID) {
                    let row = nx * (y + ny * z);
                    count += places(0, cell % GRID).filter(|x| inside[usize::from(scene.labels[row + x])]).count();
                }
            }
            count as f32 >= FILLED * (LOOKS * LOOKS * LOOKS) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atlas_holds_many_boxes_and_is_its_seeds_own() {
        let stage = Stage::new(3, FIRST);
        let found = &stage.found[0];
        let shape = cells(&stage.scene, found);
        let filled = shape.iter().filter(|&&filled| filled).count();
        assert!(filled > 0, "{}", stage.scene.structures[found.index].name);
        // A box is tight: something is filled near each of its faces.
        for axis in 0..3 {
            let at = |cell: usize| [cell / (GRID * GRID), cell / GRID % GRID, cell % GRID][axis];
            let (low, high) = (0..CELLS)
                .filter(|&cell| shape[cell])
                .fold((GRID, 0), |(low, high), cell| (low.min(at(cell)), high.max(at(cell))));
            assert!(low <= 2 && high + 3 >= GRID, "axis {axis}: {low} to {high}");
        }
        assert_eq!(shape, cells(&Stage::new(3, FIRST).scene, found));
    }

    #[test]
    fn no_scene_of_an_atlas_is_drawn_as_a_whole_body_is() {
        let numbers: Vec<u64> = (0..600).map(number_of_scene).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        assert_eq!(numbers[..240], (FIRST..FIRST + 240).collect::<Vec<_>>());
        assert!((0..TORSOS + HEADS).all(|body| !numbers.contains(&(FIRST_BODY + body))));
    }

    #[test]
    fn whole_bodies_have_what_people_ask_for() {
        let bodies = whole_bodies(3, 1, 1);
        let names = |body: &WholeBody| body.structures.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        for (body, wanted) in bodies.iter().zip([["liver", "left kidney", "right femur"], ["brain", "skull", "eye"]]) {
            for name in wanted {
                assert!(names(body).iter().any(|known| known == name), "{name} among {:?}", names(body));
            }
            assert_eq!(body.size.iter().product::<usize>(), body.labels.len());
        }
        assert_eq!(bodies[0], whole_bodies(3, 1, 0)[0]);
    }
}
