//! What the painting of a body shares: places and sizes that vary, organs, tubes, lesions.

use super::noise::Noise;
use super::scene::{Ellipsoid, Scene, Tissue};
use super::shapes::between;
use rand::Rng;

/// What the painting of one body shares.
pub(super) struct Body<'a, R> {
    pub(super) scene: Scene,
    pub(super) random: &'a mut R,
    pub(super) noise: Noise,
    /// Place of the origin in the scene, millimetres from its middle.
    pub(super) origin: [f32; 3],
    /// Scale of everything.
    pub(super) scale: f32,
    /// Region inside the wall of the body that organs may take.
    pub(super) cavity: u8,
}

impl<R: Rng> Body<'_, R> {
    pub(super) fn place(&mut self, p: [f32; 3], jitter: f32) -> [f32; 3] {
        std::array::from_fn(|axis| {
            self.origin[axis] + self.scale * (p[axis] + jitter * between(self.random, -1.0, 1.0))
        })
    }

    pub(super) fn radii(&mut self, radii: [f32; 3], vary: f32) -> [f32; 3] {
        let all = between(self.random, 1.0 - vary, 1.0 + vary);
        radii.map(|r| self.scale * r * all * between(self.random, 1.0 - vary / 2.0, 1.0 + vary / 2.0))
    }

    /// An ellipsoid of varied size, place and surface.
    pub(super) fn shape(&mut self, centre: [f32; 3], radii: [f32; 3], vary: f32, bumps: f32) -> Ellipsoid {
        let centre = self.place(centre, 6.0);
        let radii = self.radii(radii, vary);
        let smallest = radii.iter().copied().fold(f32::INFINITY, f32::min);
        let (a, b) = (between(self.random, -0.3, 0.3), between(self.random, -0.3, 0.3));
        Ellipsoid::new(centre, radii).turned(a, b).bumpy(bumps, smallest.max(12.0) * between(self.random, 0.7, 1.4))
    }

    pub(super) fn organ(&mut self, name: &str, tissue: Tissue, centre: [f32; 3], radii: [f32; 3], bumps: f32) -> u8 {
        let label = self.scene.structure(name, tissue);
        let shape = self.shape(centre, radii, 0.2, bumps);
        self.scene.ellipsoid(label, &shape, &self.noise, &[self.cavity]);
        label
    }

    /// Another part of an organ.
    pub(super) fn also(&mut self, label: u8, centre: [f32; 3], radii: [f32; 3], bumps: f32) {
        let shape = self.shape(centre, radii, 0.15, bumps);
        self.scene.ellipsoid(label, &shape, &self.noise, &[self.cavity]);
    }

    /// A path of varied places; radii vary together.
    pub(super) fn path(&mut self, points: &[([f32; 3], f32)], jitter: f32) -> Vec<([f32; 3], f32)> {
        let all = self.scale * between(self.random, 0.8, 1.2);
        points.iter().map(|&(p, r)| (self.place(p, jitter), r * all * between(self.random, 0.9, 1.1))).collect()
    }

    pub(super) fn tube(
        &mut self,
        name: &str,
        tissue: Tissue,
        points: &[([f32; 3], f32)],
        jitter: f32,
        over: &[u8],
    ) -> u8 {
        let label = self.scene.structure(name, tissue);
        self.tube_of(label, points, jitter, over);
        label
    }

    pub(super) fn tube_of(&mut self, label: u8, points: &[([f32; 3], f32)], jitter: f32, over: &[u8]) {
        let path = self.path(points, jitter);
        self.scene.tube(label, &path, over);
    }

    /// Small round things inside an organ, part of it and structures of their own.
    pub(super) fn lesions(&mut self, organ: u8, name: &str, tissue: Tissue, radius: [f32; 2]) {
        let inside: Vec<usize> =
            (0..self.scene.labels.len()).filter(|&index| self.scene.labels[index] == organ).collect();
        if inside.is_empty() {
            return;
        }
        for _ in 0..self.random.random_range(1..4) {
            let index = inside[self.random.random_range(0..inside.len())];
            let [nx, ny, _] = self.scene.size;
            let voxel = [index % nx, index / nx % ny, index / (nx * ny)];
            let centre: [f32; 3] = std::array::from_fn(|axis| {
                (voxel[axis] as f32 - (self.scene.size[axis] as f32 - 1.0) / 2.0) * self.scene.spacing[axis]
            });
            let label = self.scene.structure(name, tissue);
            self.scene.belongs_to(label, organ);
            let radius = between(self.random, radius[0], radius[1]);
            let radii = std::array::from_fn(|_| radius * between(self.random, 0.7, 1.3));
            let shape = Ellipsoid::new(centre, radii).bumpy(between(self.random, 0.0, 0.3), radius);
            self.scene.ellipsoid(label, &shape, &self.noise, &[organ]);
        }
    }
}

/// Mirrors a path.
pub(super) fn mirrored(points: &[([f32; 3], f32)], side: f32) -> Vec<([f32; 3], f32)> {
    points.iter().map(|&([x, y, z], r)| ([side * x, y, z], r)).collect()
}

pub(super) const SIDES: [(&str, f32); 2] = [("right", 1.0), ("left", -1.0)];
