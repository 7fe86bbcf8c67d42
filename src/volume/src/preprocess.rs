//! What SegVol does to a volume before the network sees it (quirks 31-35 of the reference).
//!
//! Arrays are in storage order, x fastest: read slowest axis first, that is the network's (D, H, W).

use crate::error::{Error, Result};
use crate::volume::Volume;

/// Percentiles to which the foreground is clipped, unless a model says otherwise.
pub const CLIP_PERCENTILES: [f64; 2] = [0.05, 99.95];

/// The numbers by which [`foreground_normalise`] changed an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForegroundStats {
    /// Mean of all voxels: strictly above it is foreground.
    pub threshold: f32,
    /// Lower percentile of the foreground.
    pub lower: f32,
    /// Upper percentile of the foreground.
    pub upper: f32,
    /// Mean of the foreground.
    pub mean: f32,
    /// Population standard deviation of the foreground.
    pub std: f32,
}

/// Clips to percentiles of the foreground and standardises by its mean and deviation (reference: `ForegroundNorm`).
///
/// # Errors
/// A constant image; one of two values, such as a mask.
pub fn foreground_normalise(data: &mut [f32], percentiles: [f64; 2]) -> Result<ForegroundStats> {
    let threshold = mean(data.iter().copied(), data.len()) as f32;
    let mut foreground: Vec<f32> = data.iter().copied().filter(|&value| value > threshold).collect();
    if foreground.is_empty() {
        let value = data.first().copied().unwrap_or_default();
        return Err(Error::InvalidVoxels {
            message: format!("constant image: every voxel is {value}, there is nothing to segment"),
        });
    }
    let mean_value = mean(foreground.iter().copied(), foreground.len());
    let variance = mean(
        foreground.iter().map(|&value| {
            let centred = f64::from(value) - mean_value;
            centred * centred
        }),
        foreground.len(),
    );
    let lower = percentile(&mut foreground, percentiles[0]);
    let upper = percentile(&mut foreground, percentiles[1]);
    if lower >= upper {
        return Err(Error::InvalidVoxels {
            message: format!(
                "the image has no contrast: all that is brighter than its mean ({threshold}) has the value {lower}"
            ),
        });
    }
    let stats = ForegroundStats { threshold, lower, upper, mean: mean_value as f32, std: variance.sqrt() as f32 };
    let divisor = stats.std.max(1e-8);
    for value in data {
        *value = (value.clamp(lower, upper) - stats.mean) / divisor;
    }
    Ok(stats)
}

fn mean<T: Into<f64>>(values: impl Iterator<Item = T>, count: usize) -> f64 {
    values.map(Into::into).sum::<f64>() / count as f64
}

/// Percentile with linear interpolation between neighbours, in numpy's float32 arithmetic.
fn percentile(values: &mut [f32], percent: f64) -> f32 {
    let position = percent / 100.0 * (values.len() - 1) as f64;
    let (low, fraction) = (position.floor() as usize, (position - position.floor()) as f32);
    let (_, &mut below, above) = values.select_nth_unstable_by(low, f32::total_cmp);
    match above.iter().copied().min_by(f32::total_cmp) {
        Some(next) if fraction > 0.0 => {
            // numpy's lerp measures from the nearer end.
            let step = next - below;
            if fraction >= 0.5 { next - step * (1.0 - fraction) } else { below + step * fraction }
        }
        _ => below,
    }
}

/// Clips to percentiles of all voxels. An image of so few values that both percentiles are one is left as it is.
///
/// # Errors
/// An empty image.
pub fn clip_to_percentiles(data: &mut [f32], percentiles: [f64; 2]) -> Result<()> {
    if data.is_empty() {
        return Err(Error::InvalidVoxels { message: "the image has no voxels".into() });
    }
    let mut sorted = data.to_vec();
    let (low, high) = (percentile(&mut sorted, percentiles[0]), percentile(&mut sorted, percentiles[1]));
    if low < high {
        data.iter_mut().for_each(|value| *value = value.clamp(low, high));
    }
    Ok(())
}

/// Scales to `[0, 1]` and returns the old smallest and largest value.
///
/// # Errors
/// A constant image; one whose range is beyond float32.
pub fn min_max_normalise(data: &mut [f32]) -> Result<(f32, f32)> {
    let (low, high) = data.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
    if low >= high {
        return Err(Error::InvalidVoxels { message: format!("constant image: every voxel is {low}") });
    }
    let range = high - low;
    if !range.is_finite() {
        return Err(Error::InvalidVoxels {
            message: format!("voxels from {low} to {high}: too far apart for float32"),
        });
    }
    for value in data {
        *value = (*value - low) / range;
    }
    Ok((low, high))
}

/// A box of voxels in storage order (x, y, z), its end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First voxel.
    pub start: [usize; 3],
    /// One past the last voxel.
    pub end: [usize; 3],
}

impl Region {
    /// Voxels along each axis.
    pub fn size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.end[axis] - self.start[axis])
    }

    /// Number of voxels.
    pub fn voxel_count(&self) -> usize {
        self.size().iter().product()
    }
}

/// The smallest region that holds every voxel of an array of `size` for which `inside` is true.
pub fn bounding_region<T>(data: &[T], size: [usize; 3], inside: impl Fn(&T) -> bool) -> Option<Region> {
    let mut region: Option<Region> = None;
    for (row, voxels) in data.chunks_exact(size[0]).enumerate() {
        let Some(first) = voxels.iter().position(&inside) else { continue };
        let last = voxels.iter().rposition(&inside).expect("there is a first");
        let (y, z) = (row % size[1], row / size[1]);
        let grown = region.get_or_insert(Region { start: [first, y, z], end: [last + 1, y + 1, z + 1] });
        for (axis, (low, high)) in [(first, last + 1), (y, y + 1), (z, z + 1)].into_iter().enumerate() {
            grown.start[axis] = grown.start[axis].min(low);
            grown.end[axis] = grown.end[axis].max(high);
        }
    }
    region
}

/// The region of voxels above zero, which after normalisation means above the lower clip bound (quirk 33).
pub fn foreground_region(volume: &Volume<f32>) -> Option<Region> {
    bounding_region(&volume.data, volume.geometry.size, |&value| value > 0.0)
}

/// The voxels of a region of an array of `size`.
pub fn crop_slice<T: Copy>(data: &[T], size: [usize; 3], region: &Region) -> Vec<T> {
    let mut out = Vec::with_capacity(region.voxel_count());
    for z in region.start[2]..region.end[2] {
        for y in region.start[1]..region.end[1] {
            let row = size[0] * (y + size[1] * z);
            out.extend_from_slice(&data[row + region.start[0]..row + region.end[0]]);
        }
    }
    out
}

/// Writes voxels into a region of an array of `size`.
pub fn paste_slice<T: Copy>(target: &mut [T], size: [usize; 3], part: &[T], region: &Region) {
    let width = region.size()[0];
    let mut rows = part.chunks_exact(width);
    for z in region.start[2]..region.end[2] {
        for y in region.start[1]..region.end[1] {
            let row = size[0] * (y + size[1] * z);
            let voxels = rows.next().expect("as many rows as the region");
            target[row + region.start[0]..row + region.end[0]].copy_from_slice(voxels);
        }
    }
}

/// Source index of `nearest-exact` resampling: `floor((index + 0.5) * from / to)` in float32, as torch (quirk 34).
pub fn nearest_exact_index(index: usize, from: usize, to: usize) -> usize {
    let scale = from as f32 / to as f32;
    (((index as f32 + 0.5) * scale).floor() as usize).min(from - 1)
}

/// Source index of plain `nearest` resampling: `floor(index * from / to)` in float32, as torch (quirk 35).
pub fn nearest_index(index: usize, from: usize, to: usize) -> usize {
    let scale = from as f32 / to as f32;
    ((index as f32 * scale).floor() as usize).min(from - 1)
}

/// Resizes with [`nearest_exact_index`] along each axis.
pub fn resize_nearest_exact<T: Copy>(data: &[T], from: [usize; 3], to: [usize; 3]) -> Vec<T> {
    resize(data, from, to, nearest_exact_index)
}

/// Resizes with [`nearest_index`] along each axis.
pub fn resize_nearest<T: Copy>(data: &[T], from: [usize; 3], to: [usize; 3]) -> Vec<T> {
    resize(data, from, to, nearest_index)
}

fn resize<T: Copy>(
    data: &[T],
    from: [usize; 3],
    to: [usize; 3],
    index: impl Fn(usize, usize, usize) -> usize,
) -> Vec<T> {
    let [xs, ys, zs]: [Vec<usize>; 3] =
        std::array::from_fn(|axis| (0..to[axis]).map(|i| index(i, from[axis], to[axis])).collect());
    let mut out = Vec::with_capacity(to.iter().product());
    for &z in &zs {
        for &y in &ys {
            let row = &data[from[0] * (y + from[1] * z)..][..from[0]];
            out.extend(xs.iter().map(|&x| row[x]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_crop_and_paste_back() {
        let size = [3, 4, 2];
        let data: Vec<i32> = (0..24).collect();
        let region = bounding_region(&data, size, |&value| value == 4 || value == 19).expect("two voxels");
        assert_eq!(region, Region { start: [1, 1, 0], end: [2, 3, 2] });
        let part = crop_slice(&data, size, &region);
        assert_eq!(part, [4, 7, 16, 19]);
        let mut target = vec![0; 24];
        paste_slice(&mut target, size, &part, &region);
        assert_eq!((target[4], target[7], target[16], target[19], target.iter().sum::<i32>()), (4, 7, 16, 19, 46));
        assert_eq!(bounding_region(&data, size, |&value| value > 30), None);
    }

    #[test]
    fn a_range_beyond_float32_is_an_error_and_not_a_black_image() {
        assert!(min_max_normalise(&mut [f32::MIN, f32::MAX]).is_err());
    }

    #[test]
    fn a_constant_image_is_refused_by_name() {
        assert!(foreground_normalise(&mut [3.0; 8], CLIP_PERCENTILES).unwrap_err().to_string().contains("constant"));
        assert!(min_max_normalise(&mut [3.0; 8]).is_err());
        // A mask given in place of an image.
        let mut mask = [0.0, 1.0, 1.0, 0.0];
        assert!(foreground_normalise(&mut mask, CLIP_PERCENTILES).unwrap_err().to_string().contains("no contrast"));
    }

    #[test]
    fn the_two_nearest_rules_differ() {
        let exact: Vec<usize> = (0..3).map(|index| nearest_exact_index(index, 5, 3)).collect();
        let plain: Vec<usize> = (0..3).map(|index| nearest_index(index, 5, 3)).collect();
        assert_eq!((exact, plain), (vec![0, 2, 4], vec![0, 1, 3]));
    }
}
