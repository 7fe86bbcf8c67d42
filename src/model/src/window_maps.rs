//! Maps of a window: volumes made of its intensities alone, row-major (D, H, W).

/// Bins of the histogram that a window is equalised by.
const FINE_BINS: usize = 2048;

/// Each value replaced by the share of the window's values below it, from 0 to 1 (histogram equalisation).
///
/// A scan's range is set by its brightest and darkest voxels, metal and air, between which the organs may share a few per
/// cent; their share of the window's voxels is what counts. The result is the same for any rising change of intensities.
pub fn equalised(window: &[f32]) -> Vec<f32> {
    let (low, high) =
        window.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    if low >= high {
        return vec![0.5; window.len()];
    }
    let scale = FINE_BINS as f32 / (high - low);
    let bin = |value: f32| (((value - low) * scale) as usize).min(FINE_BINS - 1);
    let mut counts = vec![0u32; FINE_BINS];
    window.iter().for_each(|&value| counts[bin(value)] += 1);
    let mut below = 0;
    let ranks: Vec<f32> = counts
        .iter()
        .map(|&count| {
            let rank = (below as f32 + count as f32 / 2.0) / window.len() as f32;
            below += count;
            rank
        })
        .collect();
    window.iter().map(|&value| ranks[bin(value)]).collect()
}

/// Each voxel averaged with its six neighbours.
pub(crate) fn smoothed(window: &[f32], size: [usize; 3]) -> Vec<f32> {
    let mean = |index: usize, neighbours: [Option<usize>; 6]| {
        let values = neighbours.iter().flatten().map(|&neighbour| window[neighbour]);
        let (sum, count) = values.fold((window[index], 1.0), |(sum, count), value| (sum + value, count + 1.0));
        sum / count
    };
    with_neighbours(size, mean)
}

/// How little a map changes around each voxel: minus the length of its gradient.
pub(crate) fn flatness(map: &[f32], size: [usize; 3]) -> Vec<f32> {
    let flat = |index: usize, neighbours: [Option<usize>; 6]| {
        let along = neighbours.chunks_exact(2).map(|pair| {
            let [before, after] = [pair[0], pair[1]].map(|neighbour| neighbour.unwrap_or(index));
            // Half of it between two neighbours, all of it at the window's faces.
            let steps = usize::from(before != index) + usize::from(after != index);
            (map[after] - map[before]) / steps.max(1) as f32
        });
        -along.map(|change| change * change).sum::<f32>().sqrt()
    };
    with_neighbours(size, flat)
}

/// The largest of each voxel and its six neighbours.
pub(crate) fn grown(map: Vec<f32>, size: [usize; 3]) -> Vec<f32> {
    with_neighbours(size, |index, neighbours| {
        neighbours.iter().flatten().map(|&neighbour| map[neighbour]).fold(map[index], f32::max)
    })
}

/// A value for each voxel, from its index and those of its neighbours, before and after along each axis.
fn with_neighbours([depth, height, width]: [usize; 3], value: impl Fn(usize, [Option<usize>; 6]) -> f32) -> Vec<f32> {
    let strides = [height * width, width, 1];
    let mut out = Vec::with_capacity(depth * height * width);
    for d in 0..depth {
        for h in 0..height {
            for w in 0..width {
                let (index, at) = (out.len(), [d, h, w]);
                let neighbours = std::array::from_fn(|side| {
                    let (axis, after) = (side / 2, side % 2 == 1);
                    let there = if after { at[axis] + 1 < [depth, height, width][axis] } else { at[axis] > 0 };
                    there.then(|| if after { index + strides[axis] } else { index - strides[axis] })
                });
                out.push(value(index, neighbours));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equalised_values_are_shares_of_the_window() {
        // Two organs a hundredth of the range apart, with metal beside them.
        let window: Vec<f32> = (0..100)
            .map(|index| {
                if index == 99 {
                    1.0
                } else if index < 50 {
                    0.10
                } else {
                    0.11
                }
            })
            .collect();
        let equal = equalised(&window);
        assert!((equal[0] - 0.25).abs() < 1e-6 && (equal[60] - 0.745).abs() < 1e-6 && (equal[99] - 0.995).abs() < 1e-6);
        assert_eq!(equalised(&[3.0; 4]), [0.5; 4]);
    }

    #[test]
    fn neighbours_are_averaged_compared_and_taken_the_largest_of() {
        let size = [1, 3, 4];
        let map: Vec<f32> = (0..12).map(|index| (index % 4) as f32).collect();
        let close = |map: Vec<f32>, wanted: [f32; 4]| {
            assert!(map.iter().zip(wanted.iter().cycle()).all(|(a, b)| (a - b).abs() < 1e-6), "{map:?}");
        };
        close(grown(map.clone(), size), [1.0, 2.0, 3.0, 3.0]);
        // A ramp is as steep at its ends.
        close(flatness(&map, size), [-1.0; 4]);
        let smooth = smoothed(&map, size);
        // The middle row has both rows beside it, of the same values.
        assert_eq!(smooth[4..8], [1.0 / 4.0, 5.0 / 5.0, 10.0 / 5.0, 11.0 / 4.0]);
    }
}
