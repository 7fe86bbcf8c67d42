//! What makes tissue look like itself, painted into a finished arrangement: cortex and marrow of bones, fat between
//! muscles and between organs, what is in the bowel, vessels.
//!
//! Bones of one grey value, organs that float in fat and loops without a wall taught the built-in model to look for
//! uniform blobs; on scans it then took the marrow for something else and the neighbour for the structure.

use super::body::Body;
use super::noise::Noise;
use super::scene::{Ellipsoid, Scene, Tissue};
use super::shapes::{between, walk};
use rand::Rng;

impl Scene {
    /// Makes the inside of some regions, as the marrow of bones, of another tissue: what lies deeper than `depth` voxels.
    pub(super) fn core(&mut self, of: impl Fn(&Self, u8) -> bool, depth: usize, tissue: Tissue) {
        let [nx, ny, _] = self.size;
        let strides = [1, nx, nx * ny];
        let chosen: Vec<bool> = (0..=u8::MAX).map(|label| of(self, label)).collect();
        let mut inner: Vec<bool> = self.labels.iter().map(|&label| chosen[usize::from(label)]).collect();
        for _ in 0..depth {
            let before = inner.clone();
            for (index, value) in inner.iter_mut().enumerate().filter(|(_, value)| **value) {
                let place = [index % nx, index / nx % ny, index / (nx * ny)];
                *value = (0..3).all(|axis| {
                    let same = |other: usize| before[other] && self.labels[other] == self.labels[index];
                    // What the volume cuts off goes on beyond it.
                    (place[axis] == 0 || same(index - strides[axis]))
                        && (place[axis] + 1 == self.size[axis] || same(index + strides[axis]))
                });
            }
        }
        let mut cores = [0u8; 256];
        for (index, inner) in inner.into_iter().enumerate() {
            if inner {
                let rind = self.labels[index];
                if cores[usize::from(rind)] == 0 {
                    cores[usize::from(rind)] = self.region(tissue);
                    self.belongs_to(cores[usize::from(rind)], rind);
                }
                self.labels[index] = cores[usize::from(rind)];
            }
        }
    }

    /// A layer of fat, with gaps, between soft tissues that touch and are no parts of one structure.
    pub(super) fn septa(&mut self, noise: &Noise, random: &mut impl Rng) {
        let soft = |tissue: Tissue| {
            matches!(tissue, Tissue::Muscle | Tissue::Organ | Tissue::Bowel | Tissue::Vessel | Tissue::Fluid)
        };
        let mut together = vec![[false; 256]; 256];
        for structure in &self.structures {
            for &a in &structure.labels {
                for &b in &structure.labels {
                    together[usize::from(a)][usize::from(b)] = true;
                }
            }
        }
        let fat = self.region(Tissue::Fat);
        let thinner = self.region(Tissue::Septum);
        let (gaps, scale) = (between(random, -0.7, 0.5), between(random, 15.0, 40.0));
        let [nx, ny, _] = self.size;
        let strides = [1, nx, nx * ny];
        let old = self.labels.clone();
        for index in 0..old.len() {
            let own = old[index];
            if !soft(self.tissues[usize::from(own)]) {
                continue;
            }
            let place = [index % nx, index / nx % ny, index / (nx * ny)];
            let touches = (0..3).any(|axis| {
                place[axis] + 1 < self.size[axis] && {
                    let other = old[index + strides[axis]];
                    other != own
                        && soft(self.tissues[usize::from(other)])
                        && !together[usize::from(own)][usize::from(other)]
                }
            });
            if touches {
                let p = std::array::from_fn(|axis| place[axis] as f32 * self.spacing[axis]);
                let field = noise.scaled(p, scale);
                if field > gaps {
                    self.labels[index] = if field > gaps + 0.5 { fat } else { thinner };
                }
            }
        }
    }
}

impl<R: Rng> Body<'_, R> {
    /// What is in a piece of bowel: a narrower tube along the same path, part of the structure. Some hold gas above and
    /// fluid below.
    pub(super) fn lumen(&mut self, wall: u8, path: &[([f32; 3], f32)]) {
        let inner = self.scene.region(Tissue::Lumen);
        self.scene.belongs_to(inner, wall);
        let share = between(self.random, 0.55, 0.9);
        let path: Vec<_> = path.iter().map(|&(p, r)| (p, (r - 2.5).min(r * share).max(1.0))).collect();
        self.scene.tube(inner, &path, &[wall]);
        if self.random.random_bool(0.35) {
            let gas = self.scene.region(Tissue::Air);
            self.scene.belongs_to(gas, wall);
            let (low, high) = path
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (p, _)| (low.min(p[1]), high.max(p[1])));
            // Who lies on the back has the gas in front.
            let level = between(self.random, low - 10.0, high + 10.0);
            let bounds = [[-400.0, level, -900.0], [400.0, 400.0, 900.0]];
            self.scene.paint(gas, bounds, &[inner], |p| p[1] > level);
        }
    }

    /// Vessels of an organ, part of it.
    pub(super) fn vessels_in(&mut self, organ: u8, centre: [f32; 3], count: usize) {
        let label = self.scene.region(Tissue::Vessel);
        self.scene.belongs_to(label, organ);
        for _ in 0..count {
            let start = self.place(centre, 10.0);
            let radius = self.scale * between(self.random, 1.8, 5.0);
            let path = walk(start, self.random);
            let steps = path.len() as f32;
            let path: Vec<_> = path
                .into_iter()
                .enumerate()
                .map(|(step, (p, _))| (p, radius * (1.0 - 0.6 * step as f32 / steps)))
                .collect();
            self.scene.tube(label, &path, &[organ]);
        }
    }

    /// Vessels and nodes in the fat between the organs, of no name.
    pub(super) fn clutter(&mut self, over: &[u8]) {
        let vessel = self.scene.region(Tissue::Vessel);
        let node = self.scene.region(Tissue::Muscle);
        for _ in 0..self.random.random_range(10..40) {
            let start = self.place([0.0, 0.0, 40.0], 120.0);
            let radius = between(self.random, 1.2, 3.5);
            let path: Vec<_> = walk(start, self.random).into_iter().map(|(p, _)| (p, radius)).collect();
            self.scene.tube(vessel, &path, over);
        }
        for _ in 0..self.random.random_range(0..25) {
            let centre = self.place([0.0, 0.0, 40.0], 130.0);
            let radius = between(self.random, 2.0, 9.0);
            let radii = std::array::from_fn(|_| radius * between(self.random, 0.6, 1.5));
            let shape = Ellipsoid::new(centre, radii).bumpy(between(self.random, 0.0, 0.3), radius.max(4.0));
            self.scene.ellipsoid(node, &shape, &self.noise, over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Use, generator};

    /// Two structures of a tissue side by side, each of 8 x 8 x 8 voxels, one voxel of air around them.
    fn pair(tissue: Tissue, random: &mut impl Rng) -> Scene {
        let mut scene = Scene::new([18, 10, 10], [2.0; 3], Tissue::Air, (0.0, 50.0), random);
        let labels = [scene.structure("one", tissue), scene.structure("two", tissue)];
        for index in 0..scene.labels.len() {
            let (x, y, z) = (index % 18, index / 18 % 10, index / 180);
            if (1..17).contains(&x) && (1..9).contains(&y) && (1..9).contains(&z) {
                scene.labels[index] = labels[usize::from(x > 8)];
            }
        }
        scene
    }

    fn count(scene: &Scene, tissue: Tissue) -> usize {
        scene.labels.iter().filter(|&&label| scene.tissues[usize::from(label)] == tissue).count()
    }

    #[test]
    fn bones_keep_a_rind_and_their_marrow_belongs_to_them() {
        let mut scene = pair(Tissue::Bone, &mut generator(1, Use::Phantom, 0));
        let is_bone = |scene: &Scene, label: u8| scene.tissues.get(usize::from(label)) == Some(&Tissue::Bone);
        scene.core(is_bone, 2, Tissue::Marrow);
        // Two voxels of cortex on every side, also where the bones touch.
        assert_eq!(count(&scene, Tissue::Marrow), 2 * 4 * 4 * 4);
        for structure in &scene.structures {
            let voxels = scene.labels.iter().filter(|label| structure.labels.contains(label)).count();
            assert_eq!((structure.labels.len(), voxels), (2, 8 * 8 * 8), "{}", structure.name);
        }
    }

    #[test]
    fn fat_lies_between_muscles_but_not_within_one_structure() {
        let (mut fat, mut within) = (0, 0);
        for seed in 0..8 {
            let random = &mut generator(seed, Use::Phantom, 0);
            let noise = Noise::new(random);
            let mut scene = pair(Tissue::Muscle, random);
            scene.septa(&noise, random);
            let parted = count(&scene, Tissue::Fat) + count(&scene, Tissue::Septum);
            assert_eq!(parted + count(&scene, Tissue::Muscle), 2 * 8 * 8 * 8);
            // Nowhere but in the layer where they touch.
            assert!(parted <= 8 * 8, "{parted}");
            fat += parted;

            let mut scene = pair(Tissue::Muscle, random);
            scene.union("both", vec![1, 2]);
            scene.septa(&noise, random);
            within += count(&scene, Tissue::Fat) + count(&scene, Tissue::Septum);
        }
        assert!(fat > 50 && within == 0, "{fat}, {within}");
    }
}
