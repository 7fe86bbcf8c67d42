//! The robust range of intensities.

use adaptmedseg_volume::Volume;

/// Percentiles that bound it: a handful of hot voxels does not stretch it.
const SHARES: [f64; 2] = [0.005, 0.995];

/// From the 0.5th to the 99.5th percentile; from smallest to largest where those are the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Range {
    pub(crate) fn robust(image: &Volume<f32>) -> Self {
        let mut values = image.data.clone();
        let last = values.len() - 1;
        let mut at = |share: f64| *values.select_nth_unstable_by((share * last as f64) as usize, f32::total_cmp).1;
        let [low, high] = SHARES.map(&mut at);
        if low < high { Self { low, high } } else { Self::whole(image) }
    }

    /// From the smallest to the largest value.
    pub(crate) fn whole(image: &Volume<f32>) -> Self {
        let values = || image.data.iter().copied();
        Self { low: values().fold(f32::INFINITY, f32::min), high: values().fold(f32::NEG_INFINITY, f32::max) }
    }

    pub(crate) fn width(self) -> f32 {
        self.high - self.low
    }

    /// Where a value lies, from 0 to 1; beyond them outside the range.
    pub(crate) fn share(self, value: f32) -> f32 {
        (value - self.low) / self.width().max(f32::MIN_POSITIVE)
    }
}
