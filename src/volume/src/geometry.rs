//! Where voxels lie in the world: LPS millimetres, as in ITK and DICOM.

use crate::error::{Error, Result};
use crate::volume::Volume;

/// A 3 x 3 matrix, row by row.
type Matrix = [[f64; 3]; 3];

/// The grid of a 3-D image. Axes are in storage order, i fastest; the world is LPS in millimetres.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Voxels along i, j, k.
    pub size: [usize; 3],
    /// Millimetres between voxel centres along i, j, k.
    pub spacing: [f64; 3],
    /// LPS position of the centre of voxel (0, 0, 0).
    pub origin: [f64; 3],
    /// `direction[row][axis]`: column `axis` is the unit LPS vector along that storage axis.
    pub direction: [[f64; 3]; 3],
}

impl Geometry {
    /// A grid from its parts.
    ///
    /// # Errors
    /// A size of zero, a spacing that is not a positive number, a direction that is singular or not finite.
    pub fn new(size: [usize; 3], spacing: [f64; 3], origin: [f64; 3], direction: [[f64; 3]; 3]) -> Result<Self> {
        if size.contains(&0) {
            return Err(Error::geometry(format!("image of {} voxels: no axis may be empty", text(&size, " x "))));
        }
        if size.iter().try_fold(1usize, |total, &size| total.checked_mul(size)).is_none() {
            return Err(Error::geometry(format!("image of {} voxels: too large to address", text(&size, " x "))));
        }
        if !spacing.iter().all(|&step| step.is_finite() && step > 0.0) {
            return Err(Error::geometry(format!(
                "voxel spacing ({}) mm: each must be above zero",
                text(&spacing, ", ")
            )));
        }
        if !origin.iter().all(|place| place.is_finite()) {
            return Err(Error::geometry(format!("origin ({}) is not finite", text(&origin, ", "))));
        }
        // The columns are unit vectors, so the determinant is the volume they span: 1 for a rotation.
        let volume = determinant(&direction);
        if !volume.is_finite() || volume.abs() < 1e-6 {
            return Err(Error::geometry(format!(
                "direction matrix [{}] is singular: two axes of the image point the same way",
                direction.map(|row| text(&row, ", ")).join("; ")
            )));
        }
        Ok(Self { size, spacing, origin, direction })
    }

    /// A grid of 1 mm voxels, axes along L, P and S, origin at zero.
    ///
    /// # Panics
    /// If a size is zero.
    pub fn with_size(size: [usize; 3]) -> Self {
        let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Self::new(size, [1.0; 3], [0.0; 3], identity).expect("a size above zero")
    }

    /// Number of voxels.
    pub fn voxel_count(&self) -> usize {
        self.size.iter().product()
    }

    /// Volume of one voxel in cubic millimetres.
    pub fn voxel_volume_mm3(&self) -> f64 {
        (self.spacing.iter().product::<f64>() * determinant(&self.direction)).abs()
    }

    fn step(&self) -> Matrix {
        std::array::from_fn(|row| std::array::from_fn(|axis| self.direction[row][axis] * self.spacing[axis]))
    }

    /// LPS position in millimetres of a continuous voxel index, voxel centres at whole numbers.
    pub fn ijk_to_lps(&self, ijk: [f64; 3]) -> [f64; 3] {
        let moved = apply(&self.step(), ijk);
        std::array::from_fn(|row| self.origin[row] + moved[row])
    }

    /// Continuous voxel index of an LPS position in millimetres.
    pub fn lps_to_ijk(&self, lps: [f64; 3]) -> [f64; 3] {
        let moved = std::array::from_fn(|row| lps[row] - self.origin[row]);
        apply(&inverse(&self.step()), moved)
    }

    /// Whether a continuous voxel index lies in a voxel of the image, whose edges are half a voxel from its centre.
    pub fn contains(&self, ijk: [f64; 3]) -> bool {
        (0..3).all(|axis| ijk[axis] >= -0.5 && ijk[axis] <= self.size[axis] as f64 - 0.5)
    }

    /// Whether two grids have the same size and every corner at the same place within `tolerance` mm.
    pub fn is_close(&self, other: &Self, tolerance: f64) -> bool {
        let corner = |index: usize| -> [f64; 3] {
            std::array::from_fn(|axis| if index >> axis & 1 == 1 { self.size[axis] as f64 - 1.0 } else { 0.0 })
        };
        self.size == other.size
            && (0..8).map(corner).all(|corner| {
                let (a, b) = (self.ijk_to_lps(corner), other.ijk_to_lps(corner));
                (0..3).all(|axis| (a[axis] - b[axis]).abs() <= tolerance)
            })
    }

    /// The letters of the directions in which the storage axes run, such as `RAS` or `LPI`.
    pub fn axis_codes(&self) -> String {
        let plan = self.reorientation_to_ras();
        let mut codes = ['?'; 3];
        for (world, &axis) in plan.axes.iter().enumerate() {
            let letters = [['R', 'L'], ['A', 'P'], ['S', 'I']][world];
            codes[axis] = letters[usize::from(plan.flip[world])];
        }
        codes.iter().collect()
    }

    /// The permutation and flips after which the storage axes run closest to right, anterior, superior.
    ///
    /// Of the six ways to pair storage axes with world axes, the one with the largest summed alignment is taken, so
    /// that an oblique image has an answer that does not depend on the order of its axes.
    pub fn reorientation_to_ras(&self) -> Reorientation {
        // LPS to RAS turns the first two rows round.
        let ras = |world: usize, axis: usize| {
            if world < 2 { -self.direction[world][axis] } else { self.direction[world][axis] }
        };
        let ways = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let alignment = |axes: &[usize; 3]| (0..3).map(|world| ras(world, axes[world]).abs()).sum::<f64>();
        let axes = ways.into_iter().max_by(|a, b| alignment(a).total_cmp(&alignment(b))).expect("six ways");
        Reorientation { axes, flip: std::array::from_fn(|world| ras(world, axes[world]) < 0.0) }
    }
}

fn text<T: ToString>(numbers: &[T; 3], between: &str) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(between)
}

fn apply(m: &Matrix, v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

fn determinant(m: &Matrix) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

fn inverse(m: &Matrix) -> Matrix {
    let det = determinant(m);
    let minor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    std::array::from_fn(|row| std::array::from_fn(|column| minor(column, row) / det))
}

/// A permutation and flips of the storage axes. It never resamples, so it can be undone exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorientation {
    /// New axis `a` comes from old axis `axes[a]`.
    pub axes: [usize; 3],
    /// New axis `a` runs against the old one.
    pub flip: [bool; 3],
}

impl Reorientation {
    /// The one that changes nothing.
    pub fn identity() -> Self {
        Self { axes: [0, 1, 2], flip: [false; 3] }
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        *self == Self::identity()
    }

    /// The way back.
    pub fn inverse(&self) -> Self {
        let mut back = Self::identity();
        for (new, &old) in self.axes.iter().enumerate() {
            back.axes[old] = new;
            back.flip[old] = self.flip[new];
        }
        back
    }

    /// Size after reorientation.
    pub fn map_size(&self, size: [usize; 3]) -> [usize; 3] {
        self.axes.map(|axis| size[axis])
    }

    /// The new voxel index of an old one, which may be continuous; `size` is the old size.
    pub fn map_point(&self, size: [usize; 3], ijk: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|new| {
            let old = self.axes[new];
            if self.flip[new] { size[old] as f64 - 1.0 - ijk[old] } else { ijk[old] }
        })
    }

    /// The voxels in their new order; `size` is the old size.
    pub fn apply_to_slice<T: Copy>(&self, data: &[T], size: [usize; 3]) -> Vec<T> {
        if self.is_identity() {
            return data.to_vec();
        }
        let strides = [1, size[0] as isize, (size[0] * size[1]) as isize];
        let new = self.map_size(size);
        let step: [isize; 3] =
            std::array::from_fn(|a| if self.flip[a] { -strides[self.axes[a]] } else { strides[self.axes[a]] });
        let start: isize =
            (0..3).map(|a| if self.flip[a] { strides[self.axes[a]] * (new[a] as isize - 1) } else { 0 }).sum();
        let mut out = Vec::with_capacity(data.len());
        for k in 0..new[2] as isize {
            for j in 0..new[1] as isize {
                let row = start + k * step[2] + j * step[1];
                out.extend((0..new[0] as isize).map(|i| data[(row + i * step[0]) as usize]));
            }
        }
        out
    }

    /// The volume in its new order, every voxel at its old place in the world.
    pub fn apply<T: Copy>(&self, volume: &Volume<T>) -> Volume<T> {
        Volume {
            data: self.apply_to_slice(&volume.data, volume.geometry.size),
            geometry: self.geometry(&volume.geometry),
        }
    }

    /// The grid in its new order.
    pub fn geometry(&self, old: &Geometry) -> Geometry {
        let corner: [f64; 3] = {
            let mut ijk = [0.0; 3];
            for (new, &axis) in self.axes.iter().enumerate() {
                if self.flip[new] {
                    ijk[axis] = old.size[axis] as f64 - 1.0;
                }
            }
            ijk
        };
        Geometry {
            size: self.map_size(old.size),
            spacing: self.axes.map(|axis| old.spacing[axis]),
            origin: old.ijk_to_lps(corner),
            direction: std::array::from_fn(|row| {
                std::array::from_fn(|new| {
                    let value = old.direction[row][self.axes[new]];
                    if self.flip[new] { -value } else { value }
                })
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oblique() -> Geometry {
        let (s, c) = 0.4f64.sin_cos();
        let direction = [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([4, 5, 6], [0.7, 1.5, 3.0], [-10.0, 20.0, 5.0], direction).expect("a rotation")
    }

    #[test]
    fn world_and_index_are_inverse_of_each_other() {
        let (geometry, ijk) = (oblique(), [1.25, 3.5, -0.5]);
        let back = geometry.lps_to_ijk(geometry.ijk_to_lps(ijk));
        assert!((0..3).all(|axis| (back[axis] - ijk[axis]).abs() < 1e-12), "{back:?}");
    }

    #[test]
    fn reorientation_keeps_every_voxel_where_it_is_in_the_world() {
        let geometry = oblique();
        let count = geometry.voxel_count();
        let volume = Volume { data: (0..count as i32).collect(), geometry };
        for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for flips in 0..8 {
                let plan = Reorientation { axes, flip: std::array::from_fn(|axis| flips >> axis & 1 == 1) };
                let moved = plan.apply(&volume);
                let old = [1.0, 2.0, 4.0];
                let new = plan.map_point(volume.geometry.size, old);
                let [a, b] = [volume.geometry.ijk_to_lps(old), moved.geometry.ijk_to_lps(new)];
                assert!((0..3).all(|axis| (a[axis] - b[axis]).abs() < 1e-9), "{plan:?}: {a:?} {b:?}");
                assert_eq!(volume.at([1, 2, 4]), moved.at(new.map(|index| index as usize)));
                assert_eq!(plan.inverse().apply(&moved).data, volume.data, "{plan:?}");
                // However it is stored, it comes to the same in RAS.
                let ras = volume.geometry.reorientation_to_ras().apply(&volume);
                let again = moved.geometry.reorientation_to_ras().apply(&moved);
                assert_eq!(ras.data, again.data, "{plan:?}");
            }
        }
    }

    #[test]
    fn impossible_grids_are_refused_with_the_reason() {
        let ok = oblique();
        let message = |result: Result<Geometry>| result.unwrap_err().to_string();
        assert!(message(Geometry::new([0, 1, 1], ok.spacing, ok.origin, ok.direction)).contains("0 x 1 x 1"));
        assert!(message(Geometry::new(ok.size, [1.0, 0.0, 1.0], ok.origin, ok.direction)).contains("spacing"));
        assert!(message(Geometry::new(ok.size, [1.0, -2.0, 1.0], ok.origin, ok.direction)).contains("-2"));
        assert!(message(Geometry::new(ok.size, ok.spacing, ok.origin, [[1.0; 3]; 3])).contains("singular"));
    }

    #[test]
    fn axis_codes_name_where_the_axes_run() {
        assert_eq!(Geometry::with_size([1, 1, 1]).axis_codes(), "LPS");
        let mut ras = Geometry::with_size([1, 1, 1]);
        ras.direction = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
        assert_eq!(ras.axis_codes(), "RAS");
    }
}
