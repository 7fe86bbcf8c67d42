//! Smooth random fields.

use rand::Rng;

/// Lattice points along each axis; the field repeats after them.
const EDGE: usize = 16;

/// Value noise: independent numbers from -1 to 1 on a lattice, smoothly joined (Perlin's fade curve).
#[derive(Clone)]
pub(crate) struct Noise {
    lattice: Vec<f32>,
    offset: [f32; 3],
}

impl Noise {
    pub(crate) fn new(random: &mut impl Rng) -> Self {
        Self {
            lattice: (0..EDGE * EDGE * EDGE).map(|_| random.random_range(-1.0..1.0)).collect(),
            offset: std::array::from_fn(|_| random.random_range(0.0..EDGE as f32)),
        }
    }

    /// The field at `p`, measured in distances between lattice points.
    #[inline]
    pub(crate) fn at(&self, p: [f32; 3]) -> f32 {
        let mut cell = [[0; 2]; 3];
        let mut t = [0.0; 3];
        for axis in 0..3 {
            let x = p[axis] + self.offset[axis];
            let floor = x.floor();
            let first = (floor as i32).rem_euclid(EDGE as i32) as usize;
            cell[axis] = [first, (first + 1) % EDGE];
            let fraction = x - floor;
            t[axis] = fraction * fraction * (3.0 - 2.0 * fraction);
        }
        let at = |i: usize, j: usize, k: usize| self.lattice[(cell[0][i] * EDGE + cell[1][j]) * EDGE + cell[2][k]];
        let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let line = |i: usize, j: usize| mix(at(i, j, 0), at(i, j, 1), t[2]);
        let plane = |i: usize| mix(line(i, 0), line(i, 1), t[1]);
        mix(plane(0), plane(1), t[0])
    }

    /// The field with features of about `scale` millimetres, at `p` in millimetres.
    #[inline]
    pub(crate) fn scaled(&self, p: [f32; 3], scale: f32) -> f32 {
        self.at(p.map(|x| x / scale))
    }
}
