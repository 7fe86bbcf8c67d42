//! Resampling along axes: means of what is larger than a voxel, linear interpolation of what is not.

use crate::windows::Dhw;

/// What of an axis a value is made of: indices and weights.
pub(crate) type Taps = Vec<(usize, f32)>;

/// The weights of the voxels under one of width `step` at `place`; linear interpolation where it is no wider than they.
pub(crate) fn weights(place: f32, step: f32, size: usize) -> Taps {
    let inside = |index: f32| index >= 0.0 && index < size as f32;
    if step <= 1.0 {
        let low = place.floor();
        let share = place - low;
        let both = [(low, 1.0 - share), (low + 1.0, share)];
        return both.into_iter().filter(|&(at, w)| inside(at) && w > 0.0).map(|(at, w)| (at as usize, w)).collect();
    }
    let (from, to) = (place - step / 2.0, place + step / 2.0);
    let (first, last) = ((from + 0.5).floor(), (to + 0.5).floor());
    let mut taps = Taps::new();
    let mut index = first;
    while index <= last {
        let covered = (index + 0.5).min(to) - (index - 0.5).max(from);
        if covered > 0.0 && inside(index) {
            taps.push((index as usize, covered / step));
        }
        index += 1.0;
    }
    taps
}

/// Applies the weights of each axis (d, h, w) in turn, the innermost first.
pub(crate) fn separable(mut data: Vec<f32>, mut size: Dhw, taps: &[Vec<Taps>; 3]) -> Vec<f32> {
    for axis in (0..3).rev() {
        let stride: usize = size[axis + 1..].iter().product();
        let outer: usize = size[..axis].iter().product();
        let mut out = vec![0.0; outer * taps[axis].len() * stride];
        for (block, out) in data.chunks_exact(stride * size[axis]).zip(out.chunks_exact_mut(stride * taps[axis].len()))
        {
            for (taps, out) in taps[axis].iter().zip(out.chunks_exact_mut(stride)) {
                for &(index, weight) in taps {
                    for (out, value) in out.iter_mut().zip(&block[index * stride..][..stride]) {
                        *out += weight * value;
                    }
                }
            }
        }
        size[axis] = taps[axis].len();
        data = out;
    }
    data
}
