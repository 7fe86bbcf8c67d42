//! A volume of labels that shapes are painted into.

use super::noise::{Noise, on_grid};
use rand::Rng;

/// What a region is made of: decides how it looks in a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tissue {
    Air,
    Lung,
    Fat,
    Muscle,
    Organ,
    Vessel,
    Bone,
    Fluid,
    Bowel,
    GreyMatter,
    WhiteMatter,
    Lesion,
    Cartilage,
    /// Of no anatomy: looks like anything.
    Abstract,
}

/// A structure that can be asked for: the union of some regions.
#[derive(Clone, Debug)]
pub(crate) struct Structure {
    pub(crate) name: String,
    pub(crate) labels: Vec<u8>,
}

/// Labels on a grid, x fastest, with what they are.
pub(crate) struct Scene {
    /// (x, y, z).
    pub(crate) size: [usize; 3],
    /// Millimetres.
    pub(crate) spacing: [f32; 3],
    pub(crate) labels: Vec<u8>,
    /// Of each label.
    pub(crate) tissues: Vec<Tissue>,
    pub(crate) structures: Vec<Structure>,
    /// Place of each voxel in the undeformed body, millimetres from the middle of the volume.
    places: Vec<[f32; 3]>,
    warp: Warp,
}

/// A smooth displacement.
struct Warp {
    noise: [Noise; 3],
    amplitude: f32,
    scale: f32,
}

impl Warp {
    fn at(&self, p: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|axis| self.amplitude * self.noise[axis].scaled(p, self.scale))
    }
}

/// An ellipsoid with a rough surface.
pub(crate) struct Ellipsoid {
    pub(crate) centre: [f32; 3],
    pub(crate) radii: [f32; 3],
    /// Turns about z, then about x, radians.
    pub(crate) turns: [f32; 2],
    /// Height of the bumps, as a part of the radius, and their distance in millimetres.
    pub(crate) bumps: (f32, f32),
}

impl Ellipsoid {
    pub(crate) fn new(centre: [f32; 3], radii: [f32; 3]) -> Self {
        Self { centre, radii, turns: [0.0; 2], bumps: (0.0, 30.0) }
    }

    pub(crate) fn turned(self, z: f32, x: f32) -> Self {
        Self { turns: [z, x], ..self }
    }

    pub(crate) fn bumpy(self, height: f32, distance: f32) -> Self {
        Self { bumps: (height, distance), ..self }
    }

    /// Distance from the middle, 1 at the surface.
    #[inline]
    pub(crate) fn radius(&self, p: [f32; 3]) -> f32 {
        let [x, y, z]: [f32; 3] = std::array::from_fn(|axis| p[axis] - self.centre[axis]);
        let (sin, cos) = self.turns[0].sin_cos();
        let (x, y) = (cos * x + sin * y, cos * y - sin * x);
        let (sin, cos) = self.turns[1].sin_cos();
        let (y, z) = (cos * y + sin * z, cos * z - sin * y);
        ((x / self.radii[0]).powi(2) + (y / self.radii[1]).powi(2) + (z / self.radii[2]).powi(2)).sqrt()
    }

    fn reach(&self) -> f32 {
        self.radii.iter().copied().fold(0.0, f32::max) * (1.0 + self.bumps.0)
    }
}

impl Scene {
    /// An empty scene: everything is region 0.
    pub(crate) fn new(
        size: [usize; 3],
        spacing: [f32; 3],
        background: Tissue,
        (amplitude, scale): (f32, f32),
        random: &mut impl Rng,
    ) -> Self {
        let warp = Warp { noise: std::array::from_fn(|_| Noise::new(random)), amplitude, scale };
        let voxels = size.iter().product();
        let along: [Vec<f32>; 3] = std::array::from_fn(|axis| {
            (0..size[axis]).map(|index| (index as f32 - (size[axis] as f32 - 1.0) / 2.0) * spacing[axis]).collect()
        });
        let [nx, ny, _] = size;
        let mut places: Vec<[f32; 3]> = (0..voxels)
            .map(|index| [along[0][index % nx], along[1][index / nx % ny], along[2][index / (nx * ny)]])
            .collect();
        for (axis, noise) in warp.noise.iter().enumerate() {
            on_grid(noise, &along, scale, |index, value| places[index][axis] += amplitude * value);
        }
        Self { size, spacing, labels: vec![0; voxels], tissues: vec![background], structures: Vec::new(), places, warp }
    }

    /// A new region of no name; the last is given out again when there are too many.
    pub(crate) fn region(&mut self, tissue: Tissue) -> u8 {
        if self.tissues.len() < usize::from(u8::MAX) {
            self.tissues.push(tissue);
        }
        (self.tissues.len() - 1) as u8
    }

    /// A new region that is a structure by itself.
    pub(crate) fn structure(&mut self, name: impl Into<String>, tissue: Tissue) -> u8 {
        let label = self.region(tissue);
        self.structures.push(Structure { name: name.into(), labels: vec![label] });
        label
    }

    /// A name for several regions together.
    pub(crate) fn union(&mut self, name: impl Into<String>, labels: Vec<u8>) {
        self.structures.push(Structure { name: name.into(), labels });
    }

    /// Adds a region to every structure that has another.
    pub(crate) fn belongs_to(&mut self, part: u8, whole: u8) {
        for structure in &mut self.structures {
            if structure.labels.contains(&whole) {
                structure.labels.push(part);
            }
        }
    }

    /// Voxel indices from and to which a range of millimetres reaches along each axis.
    fn range(&self, low: [f32; 3], high: [f32; 3]) -> [[usize; 2]; 3] {
        std::array::from_fn(|axis| {
            let middle = (self.size[axis] as f32 - 1.0) / 2.0;
            let first = (low[axis] / self.spacing[axis] + middle).ceil().max(0.0) as usize;
            let end = (high[axis] / self.spacing[axis] + middle).floor() + 1.0;
            [first.min(self.size[axis]), end.clamp(0.0, self.size[axis] as f32) as usize]
        })
    }

    fn fill(&mut self, label: u8, ranges: [[usize; 2]; 3], inside: impl Fn(&Self, usize) -> bool, over: &[u8]) {
        for z in ranges[2][0]..ranges[2][1] {
            for y in ranges[1][0]..ranges[1][1] {
                for x in ranges[0][0]..ranges[0][1] {
                    let index = x + self.size[0] * (y + self.size[1] * z);
                    if (over.is_empty() || over.contains(&self.labels[index])) && inside(self, index) {
                        self.labels[index] = label;
                    }
                }
            }
        }
    }

    /// Paints what `inside` says, between `low` and `high` millimetres of the undeformed body. Only regions `over` are
    /// painted over; none: all.
    pub(crate) fn paint(
        &mut self,
        label: u8,
        [low, high]: [[f32; 3]; 2],
        over: &[u8],
        inside: impl Fn([f32; 3]) -> bool,
    ) {
        let by = self.warp.amplitude;
        let ranges = self.range(low.map(|x| x - by), high.map(|x| x + by));
        self.fill(label, ranges, |scene, index| inside(scene.places[index]), over);
    }

    /// Paints an ellipsoid.
    pub(crate) fn ellipsoid(&mut self, label: u8, shape: &Ellipsoid, noise: &Noise, over: &[u8]) {
        self.ellipsoid_where(label, shape, noise, over, |_| true);
    }

    /// Paints the part of an ellipsoid for which `also` holds.
    pub(crate) fn ellipsoid_where(
        &mut self,
        label: u8,
        shape: &Ellipsoid,
        noise: &Noise,
        over: &[u8],
        also: impl Fn([f32; 3]) -> bool,
    ) {
        let reach = shape.reach();
        let bounds = [shape.centre.map(|x| x - reach), shape.centre.map(|x| x + reach)];
        let (height, distance) = shape.bumps;
        self.paint(label, bounds, over, |p| {
            let radius = shape.radius(p);
            let surface = if height > 0.0 && (radius - 1.0).abs() <= height {
                1.0 + height * noise.scaled(p, distance)
            } else {
                1.0
            };
            radius <= surface && also(p)
        });
    }

    /// Paints a tube along a smooth curve through `points`, each with its radius.
    pub(crate) fn tube(&mut self, label: u8, points: &[([f32; 3], f32)], over: &[u8]) {
        for (centre, radius) in beads(points) {
            // The body's deformation, undone at the bead's place to first order.
            let by = self.warp.at(centre);
            let centre: [f32; 3] = std::array::from_fn(|axis| centre[axis] - by[axis]);
            let ranges = self.range(centre.map(|x| x - radius), centre.map(|x| x + radius));
            let [sx, sy, sz] = self.spacing;
            let middle = self.size.map(|size| (size as f32 - 1.0) / 2.0);
            let [nx, ny, _] = self.size;
            self.fill(
                label,
                ranges,
                |_, index| {
                    let (x, y, z) = (index % nx, index / nx % ny, index / (nx * ny));
                    let dx = (x as f32 - middle[0]) * sx - centre[0];
                    let dy = (y as f32 - middle[1]) * sy - centre[1];
                    let dz = (z as f32 - middle[2]) * sz - centre[2];
                    dx * dx + dy * dy + dz * dz <= radius * radius
                },
                over,
            );
        }
    }

    /// Names of structures and the labels they are made of, of the labels that are `seen`; those without any are left out.
    pub(crate) fn named(&self, seen: &[bool; 256]) -> Vec<(String, Vec<u8>)> {
        let mut named: Vec<(String, Vec<u8>)> = Vec::new();
        for Structure { name, labels } in &self.structures {
            let labels: Vec<u8> = labels.iter().copied().filter(|&label| seen[usize::from(label)]).collect();
            // Some come in parts, as the seminal vesicles.
            match named.iter_mut().find(|(known, _)| known == name) {
                _ if labels.is_empty() => {}
                Some((_, parts)) => parts.extend(labels),
                None => named.push((name.clone(), labels)),
            }
        }
        named
    }

    /// Forgets what was only needed for painting.
    pub(crate) fn finished(mut self) -> Self {
        self.places = Vec::new();
        self
    }
}

/// Spheres along a Catmull-Rom curve, close enough together to make a tube.
pub(super) fn beads(points: &[([f32; 3], f32)]) -> Vec<([f32; 3], f32)> {
    let last = points.len() - 1;
    let mut out = vec![points[0]];
    for index in 0..last {
        let at = |offset: isize| points[(index as isize + offset).clamp(0, last as isize) as usize];
        let [(p0, _), (p1, r1), (p2, r2), (p3, _)] = [at(-1), at(0), at(1), at(2)];
        let length = (0..3).map(|axis| (p2[axis] - p1[axis]).powi(2)).sum::<f32>().sqrt();
        let steps = (length / (r1.min(r2) * 0.4).max(1.0)).ceil().max(1.0) as usize;
        for step in 1..=steps {
            let t = step as f32 / steps as f32;
            let curve = |axis: usize| {
                let (a, b, c, d) = (p0[axis], p1[axis], p2[axis], p3[axis]);
                0.5 * (2.0 * b
                    + (c - a) * t
                    + (2.0 * a - 5.0 * b + 4.0 * c - d) * t * t
                    + (3.0 * b - a - 3.0 * c + d) * t * t * t)
            };
            out.push(([curve(0), curve(1), curve(2)], r1 + (r2 - r1) * t));
        }
    }
    out
}
