//! Windows over a volume: where they lie, what is cut out of them, how they are put together again.

use adaptmedseg_volume::Region;

/// Sizes and positions here are (d, h, w): slowest axis first.
pub(crate) type Dhw = [usize; 3];

/// Starts of the windows over one axis of `size`, at steps of `overlap` (quirk 43): the step is the window itself where
/// the axis equals it, and the last window is shifted back inside.
pub(crate) fn axis_starts(size: usize, window: usize, overlap: f64) -> Vec<usize> {
    let step = interval(size, window, overlap);
    let last = size - window;
    let count = if step == 0 { 1 } else { last.div_ceil(step) + 1 };
    (0..count).map(|index| (index * step).min(last)).collect()
}

/// The step between windows along one axis.
pub(crate) fn interval(size: usize, window: usize, overlap: f64) -> usize {
    if size == window { window } else { ((window as f64 * (1.0 - overlap)) as usize).max(1) }
}

/// Starts of all windows over a volume no smaller than a window, row-major, w fastest.
pub(crate) fn starts(size: Dhw, window: Dhw, overlap: f64) -> Vec<Dhw> {
    let [d, h, w]: [Vec<usize>; 3] = std::array::from_fn(|axis| axis_starts(size[axis], window[axis], overlap));
    let mut all = Vec::with_capacity(d.len() * h.len() * w.len());
    for &d in &d {
        for &h in &h {
            all.extend(w.iter().map(|&w| [d, h, w]));
        }
    }
    all
}

/// Zeros put around a volume that is smaller than a window: half before, the rest after (quirk 42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Padding {
    pub before: Dhw,
    pub size: Dhw,
}

impl Padding {
    pub(crate) fn new(size: Dhw, window: Dhw) -> Self {
        let missing: Dhw = std::array::from_fn(|axis| window[axis].saturating_sub(size[axis]));
        Self { before: missing.map(|count| count / 2), size: std::array::from_fn(|axis| size[axis] + missing[axis]) }
    }
}

/// A view of part of a volume, (d, h, w), w fastest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array<'a, T> {
    pub data: &'a [T],
    pub size: Dhw,
}

impl<T: Copy + Default> Array<'_, T> {
    /// The `window` whose first voxel is at `start`, which may lie outside: there it is `T::default()`.
    pub(crate) fn cut(&self, start: [isize; 3], window: Dhw) -> Vec<T> {
        let [nd, nh, nw] = self.size.map(|size| size as isize);
        let mut out = vec![T::default(); window.iter().product()];
        // The part of a row that lies inside.
        let first = (-start[2]).clamp(0, window[2] as isize);
        let last = (nw - start[2]).clamp(first, window[2] as isize);
        let mut rows = out.chunks_exact_mut(window[2]);
        for d in 0..window[0] as isize {
            for h in 0..window[1] as isize {
                let row = rows.next().expect("as many rows as the window has");
                let (sd, sh) = (start[0] + d, start[1] + h);
                if sd < 0 || sd >= nd || sh < 0 || sh >= nh {
                    continue;
                }
                let from = ((sd * nh + sh) * nw + start[2] + first) as usize;
                row[first as usize..last as usize].copy_from_slice(&self.data[from..from + (last - first) as usize]);
            }
        }
        out
    }
}

/// Averages overlapping windows with equal weights (quirk 43).
pub(crate) struct Stitch {
    size: Dhw,
    sum: Vec<f32>,
    count: Vec<u16>,
}

impl Stitch {
    pub(crate) fn new(size: Dhw) -> Self {
        let voxels = size.iter().product();
        Self { size, sum: vec![0.0; voxels], count: vec![0; voxels] }
    }

    /// Adds a window of logits whose first voxel is at `start`; what lies outside is dropped.
    pub(crate) fn add(&mut self, logits: &[f32], start: [isize; 3], window: Dhw) {
        let [nd, nh, nw] = self.size.map(|size| size as isize);
        let first = (-start[2]).clamp(0, window[2] as isize);
        let last = (nw - start[2]).clamp(first, window[2] as isize);
        let mut rows = logits.chunks_exact(window[2]);
        for d in 0..window[0] as isize {
            for h in 0..window[1] as isize {
                let row = &rows.next().expect("a whole window")[first as usize..last as usize];
                let (sd, sh) = (start[0] + d, start[1] + h);
                if sd < 0 || sd >= nd || sh < 0 || sh >= nh {
                    continue;
                }
                let to = ((sd * nh + sh) * nw + start[2] + first) as usize;
                let place = to..to + row.len();
                self.sum[place.clone()].iter_mut().zip(row).for_each(|(sum, &logit)| *sum += logit);
                self.count[place].iter_mut().for_each(|count| *count += 1);
            }
        }
    }

    /// Writes the average into `target` wherever a window was.
    pub(crate) fn finish(self, target: &mut [f32]) {
        for ((target, sum), count) in target.iter_mut().zip(self.sum).zip(self.count) {
            if count > 0 {
                *target = sum / f32::from(count);
            }
        }
    }
}

/// The box of voxels of a (d, h, w) array for which `inside` is true: lower and upper corner, both inclusive.
pub(crate) fn bounding_box<T>(data: &[T], size: Dhw, inside: impl Fn(&T) -> bool) -> Option<[Dhw; 2]> {
    let [d, h, w] = size;
    let Region { start, end } = adaptmedseg_volume::preprocess::bounding_region(data, [w, h, d], inside)?;
    Some([[start[2], start[1], start[0]], [end[2] - 1, end[1] - 1, end[0] - 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_an_axis_and_end_inside() {
        assert_eq!(axis_starts(64, 64, 0.5), [0]);
        assert_eq!(axis_starts(65, 64, 0.5), [0, 1]);
        assert_eq!(axis_starts(84, 16, 0.5), [0, 8, 16, 24, 32, 40, 48, 56, 64, 68]);
        assert_eq!(starts([16, 65, 64], [16, 64, 64], 0.5), [[0, 0, 0], [0, 1, 0]]);
    }

    #[test]
    fn what_is_cut_outside_is_zero_and_what_is_stitched_outside_is_dropped() {
        let data: Vec<f32> = (1..=8).map(|value| value as f32).collect();
        let array = Array { data: &data, size: [2, 2, 2] };
        let cut = array.cut([-1, 0, 1], [2, 2, 2]);
        assert_eq!(cut, [0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 4.0, 0.0]);
        let mut stitch = Stitch::new([2, 2, 2]);
        stitch.add(&cut, [-1, 0, 1], [2, 2, 2]);
        stitch.add(&[10.0; 8], [0, 0, 0], [2, 2, 2]);
        let mut target = vec![-1.0; 8];
        stitch.finish(&mut target);
        assert_eq!(target, [10.0, 6.0, 10.0, 7.0, 10.0, 10.0, 10.0, 10.0]);
    }

    #[test]
    fn voxels_no_window_reached_keep_their_value() {
        let mut stitch = Stitch::new([1, 1, 3]);
        stitch.add(&[5.0], [0, 0, 1], [1, 1, 1]);
        let mut target = vec![1.0, 2.0, 3.0];
        stitch.finish(&mut target);
        assert_eq!(target, [1.0, 5.0, 3.0]);
    }
}
