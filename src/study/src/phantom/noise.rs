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
    pub(crate) fn at(&self, [x, y, z]: [f32; 3]) -> f32 {
        let [x, y, z] = [self.joint(0, x), self.joint(1, y), self.joint(2, z)];
        x.mix(self.plane(x.first, &y, &z), self.plane(x.second, &y, &z))
    }

    /// The field at many x and one y and z, handed to `take` with the index of each x.
    fn row(&self, x: &[Joint], y: &Joint, z: &Joint, mut take: impl FnMut(usize, f32)) {
        // Between two lattice points the field along x is the mixture of two numbers.
        let mut ends = None;
        for (index, x) in x.iter().enumerate() {
            let (low, high) = match ends {
                Some((first, low, high)) if first == x.first => (low, high),
                _ => (self.plane(x.first, y, z), self.plane(x.second, y, z)),
            };
            ends = Some((x.first, low, high));
            take(index, x.mix(low, high));
        }
    }

    fn plane(&self, x: usize, y: &Joint, z: &Joint) -> f32 {
        let line = |y: usize| {
            let row = &self.lattice[(x * EDGE + y) * EDGE..][..EDGE];
            z.mix(row[z.first], row[z.second])
        };
        y.mix(line(y.first), line(y.second))
    }

    /// Where a place on an axis lies between lattice points.
    #[inline]
    fn joint(&self, axis: usize, at: f32) -> Joint {
        let x = at + self.offset[axis];
        // Not `floor`, which is a call where the processor is not known to have an instruction for it.
        let cut = x as i32;
        let below = cut - i32::from((cut as f32) > x);
        let fraction = x - below as f32;
        let first = below.rem_euclid(EDGE as i32) as usize;
        Joint { first, second: (first + 1) % EDGE, share: fraction * fraction * (3.0 - 2.0 * fraction) }
    }

    /// The field with features of about `scale` millimetres, at `p` in millimetres.
    #[inline]
    pub(crate) fn scaled(&self, p: [f32; 3], scale: f32) -> f32 {
        self.at(p.map(|x| x / scale))
    }
}

/// The lattice points beside a place on an axis, and the share that the second has.
struct Joint {
    first: usize,
    second: usize,
    share: f32,
}

impl Joint {
    #[inline]
    fn mix(&self, first: f32, second: f32) -> f32 {
        first + (second - first) * self.share
    }
}

/// A field with features of about `scale` millimetres at the places of a grid, millimetres along (x, y, z): the same numbers
/// as [`Noise::scaled`] gives for each, x fastest.
pub(super) fn on_grid(noise: &Noise, places: &[Vec<f32>; 3], scale: f32, mut take: impl FnMut(usize, f32)) {
    let [x, y, z]: [Vec<Joint>; 3] =
        std::array::from_fn(|axis| places[axis].iter().map(|at| noise.joint(axis, at / scale)).collect());
    for (slice, z) in z.iter().enumerate() {
        for (row, y) in y.iter().enumerate() {
            let first = (slice * places[1].len() + row) * x.len();
            noise.row(&x, y, z, |index, value| take(first + index, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Use, generator};

    #[test]
    fn a_grid_has_the_numbers_of_its_places() {
        let noise = Noise::new(&mut generator(3, Use::Step, 0));
        let places: [Vec<f32>; 3] = std::array::from_fn(|axis| {
            (0..9 + axis).map(|index| (index as f32 - 4.3) * 11.7 * (axis as f32 + 1.0)).collect()
        });
        let [nx, ny, nz] = [0, 1, 2].map(|axis| places[axis].len());
        let mut out = vec![f32::NAN; nx * ny * nz];
        on_grid(&noise, &places, 24.0, |index, value| out[index] = value);
        for (index, &value) in out.iter().enumerate() {
            let place = [places[0][index % nx], places[1][index / nx % ny], places[2][index / (nx * ny)]];
            assert_eq!(value, noise.scaled(place, 24.0), "{place:?}");
            assert!((-1.0..=1.0).contains(&value));
        }
    }
}
