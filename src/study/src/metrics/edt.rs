//! The exact Euclidean distance transform on a grid of any spacing (Felzenszwalb and Huttenlocher, 2012): one pass of
//! lower envelopes of parabolas along each axis. Lines are independent, so threads cannot change the result.

use rayon::prelude::*;

/// Squared distance in square millimetres from every voxel to the nearest one that is set, i fastest; infinite where
/// nothing is set. `spacing` is in millimetres along i, j, k.
pub(crate) fn squared_distances(set: &[bool], [nx, ny, nz]: [usize; 3], spacing: [f64; 3]) -> Vec<f64> {
    let mut distances: Vec<f64> = set.iter().map(|&set| if set { 0.0 } else { f64::INFINITY }).collect();
    distances.par_chunks_mut(nx).for_each_init(|| Envelope::new(nx), |envelope, line| envelope.pass(line, spacing[0]));
    distances.par_chunks_mut(nx * ny).for_each_init(
        || (Envelope::new(ny), vec![0.0; ny]),
        |(envelope, line), plane| {
            for x in 0..nx {
                line.iter_mut().enumerate().for_each(|(y, value)| *value = plane[x + nx * y]);
                envelope.pass(line, spacing[1]);
                line.iter().enumerate().for_each(|(y, &value)| plane[x + nx * y] = value);
            }
        },
    );
    // Along k a line crosses all planes: rows of lines are taken out, and put back.
    let rows: Vec<Vec<f64>> = (0..ny)
        .into_par_iter()
        .map_init(|| Envelope::new(nz), |envelope, y| along_k(&distances, [nx, ny, nz], y, spacing[2], envelope))
        .collect();
    distances.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
        let (y, z) = (row % ny, row / ny);
        line.iter_mut().enumerate().for_each(|(x, value)| *value = rows[y][x * nz + z]);
    });
    distances
}

/// The lines along k at height `y`, one after the other.
fn along_k(distances: &[f64], [nx, ny, nz]: [usize; 3], y: usize, spacing: f64, envelope: &mut Envelope) -> Vec<f64> {
    let mut lines = vec![0.0; nx * nz];
    for (x, line) in lines.chunks_exact_mut(nz).enumerate() {
        line.iter_mut().enumerate().for_each(|(z, value)| *value = distances[x + nx * (y + ny * z)]);
        envelope.pass(line, spacing);
    }
    lines
}

/// The lower envelope of the parabolas of one line.
struct Envelope {
    /// Vertices of the parabolas, from left to right, with their heights.
    vertices: Vec<(f64, f64)>,
    /// Where each parabola begins to be the lowest.
    starts: Vec<f64>,
}

impl Envelope {
    fn new(length: usize) -> Self {
        Self { vertices: Vec::with_capacity(length), starts: Vec::with_capacity(length) }
    }

    /// Replaces each value by the smallest of `value(q) + (spacing (p - q))^2` over all places `q`.
    fn pass(&mut self, line: &mut [f64], spacing: f64) {
        self.vertices.clear();
        self.starts.clear();
        for (index, &height) in line.iter().enumerate() {
            if height.is_finite() {
                self.add(index as f64 * spacing, height);
            }
        }
        if self.vertices.is_empty() {
            return;
        }
        let mut current = 0;
        for (index, value) in line.iter_mut().enumerate() {
            let place = index as f64 * spacing;
            while current + 1 < self.starts.len() && self.starts[current + 1] <= place {
                current += 1;
            }
            let (vertex, height) = self.vertices[current];
            *value = (place - vertex) * (place - vertex) + height;
        }
    }

    fn add(&mut self, place: f64, height: f64) {
        while let Some(&(vertex, low)) = self.vertices.last() {
            let meet = ((height + place * place) - (low + vertex * vertex)) / (2.0 * (place - vertex));
            if meet > *self.starts.last().expect("as many starts as vertices") {
                self.vertices.push((place, height));
                self.starts.push(meet);
                return;
            }
            self.vertices.pop();
            self.starts.pop();
        }
        self.vertices.push((place, height));
        self.starts.push(f64::NEG_INFINITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Use, generator};
    use rand::Rng;

    #[test]
    fn every_distance_is_that_to_the_nearest_voxel() {
        let (size, spacing) = ([7, 6, 5], [0.7, 1.3, 2.9]);
        for index in 0..20 {
            let mut random = generator(5, Use::Step, index);
            let share = [0.5, 0.02][index as usize % 2];
            let set: Vec<bool> = (0..210).map(|_| random.random_bool(share)).collect();
            let place = |voxel: usize| [voxel % 7, voxel / 7 % 6, voxel / 42];
            let distance = |a: usize, b: usize| -> f64 {
                let (a, b) = (place(a), place(b));
                (0..3).map(|axis| ((a[axis] as f64 - b[axis] as f64) * spacing[axis]).powi(2)).sum()
            };
            for (voxel, got) in squared_distances(&set, size, spacing).into_iter().enumerate() {
                let there = (0..210).filter(|&other| set[other]);
                let expected = there.map(|other| distance(voxel, other)).fold(f64::INFINITY, f64::min);
                assert!(got == expected || (got - expected).abs() < 1e-9, "{voxel}: {got}, not {expected}");
            }
        }
    }
}
