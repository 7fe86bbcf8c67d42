//! A simulated change of modality: every tissue gets another intensity and keeps its texture. It is meant for phantoms,
//! whose structures fill the body; elsewhere much is in no structure and is divided by its intensity.

use super::Parameters;
use super::range::Range;
use adaptmedseg_volume::Volume;
use rand::Rng;
use std::collections::BTreeMap;

/// How far the mean of a region goes from the old intensity to the new one.
pub(super) const WEIGHT: [f64; 5] = [0.2, 0.4, 0.6, 0.8, 1.0];
/// Classes of intensity of what is in no structure.
const CLASSES: u32 = 4;

/// Moves the mean of each region of `regions` towards one drawn from the robust range. Voxels of region 0 are divided
/// into four classes of equal width within the range; the darkest, which is air, stays.
pub(super) fn apply(
    image: &mut Volume<f32>,
    regions: &[u32],
    strength: f64,
    random: &mut impl Rng,
    parameters: &mut Parameters,
) {
    let range = Range::robust(image);
    let class = |value: f32| (range.share(value).clamp(0.0, 0.999) * CLASSES as f32) as u32;
    let tissue = |region: u32, value: f32| if region == 0 { class(value) } else { CLASSES + region };
    let mut sums: BTreeMap<u32, (f64, u64)> = BTreeMap::new();
    for (&region, &value) in regions.iter().zip(&image.data) {
        let sum = sums.entry(tissue(region, value)).or_default();
        *sum = (sum.0 + f64::from(value), sum.1 + 1);
    }
    let shifts: BTreeMap<u32, f32> = sums
        .into_iter()
        .map(|(tissue, (sum, count))| {
            let wanted = f64::from(range.low) + random.random::<f64>() * f64::from(range.width());
            let by = if tissue == 0 { 0.0 } else { strength * (wanted - sum / count as f64) };
            (tissue, by as f32)
        })
        .collect();
    for (&region, value) in regions.iter().zip(&mut image.data) {
        *value += shifts[&tissue(region, *value)];
    }
    parameters.insert("weight", vec![strength]);
    parameters.insert("tissues", vec![shifts.len() as f64]);
}
