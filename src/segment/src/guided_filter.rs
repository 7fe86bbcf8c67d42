//! The guided filter (He, Sun and Tang, "Guided image filtering", IEEE PAMI 35, 2013): logits are smoothed, but not across
//! the edges of the image.
//!
//! A window of the focused zoom-in seldom has the image's resolution; what comes back from it is interpolated, and runs
//! over edges that the image shows. In each small neighbourhood the filter takes the logits for a linear function of the
//! image's intensity, and so moves the border of the mask to where the intensity changes.

use crate::windows::Dhw;

/// Variance of intensities, of a range from 0 to 1, below which a neighbourhood counts as flat.
const FLAT: f32 = 1e-3;

/// Filters `logits` by the intensities of `guide`, from 0 to 1. `radius` is that of a neighbourhood along (d, h, w).
///
/// # Panics
/// If an array is not of `size`.
pub(crate) fn guided_filter(logits: &[f32], guide: &[f32], size: Dhw, radius: Dhw) -> Vec<f32> {
    let voxels: usize = size.iter().product();
    assert!(logits.len() == voxels && guide.len() == voxels, "arrays are not of {size:?}");
    let mean = |data: Vec<f32>| box_mean(data, size, radius);
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f32>>();
    let (mean_guide, mean_logits) = (mean(guide.to_vec()), mean(logits.to_vec()));
    let mut slope = mean(product(guide, logits));
    let square = mean(product(guide, guide));
    for (index, slope) in slope.iter_mut().enumerate() {
        let of_guide = mean_guide[index];
        *slope = (*slope - of_guide * mean_logits[index]) / ((square[index] - of_guide * of_guide).max(0.0) + FLAT);
    }
    let offset = mean_logits.iter().zip(&mean_guide).zip(&slope).map(|((logit, guide), slope)| logit - slope * guide);
    let offset = mean(offset.collect());
    let slope = mean(slope);
    guide.iter().zip(slope).zip(offset).map(|((guide, slope), offset)| slope * guide + offset).collect()
}

/// Mean over a neighbourhood, axis by axis; beyond the volume its last voxels go on.
fn box_mean(mut data: Vec<f32>, size: Dhw, radius: Dhw) -> Vec<f32> {
    let mut line = Vec::new();
    for axis in 0..3 {
        let (count, radius) = (size[axis], radius[axis]);
        let stride: usize = size[axis + 1..].iter().product();
        let share = 1.0 / (2 * radius + 1) as f32;
        for start in (0..data.len()).filter(|index| (index / stride).is_multiple_of(count)) {
            line.clear();
            line.extend((0..count).map(|at| data[start + at * stride]));
            let value = |at: isize| line[at.clamp(0, count as isize - 1) as usize];
            for at in 0..count {
                let neighbours = at as isize - radius as isize..=(at + radius) as isize;
                data[start + at * stride] = share * neighbours.map(value).sum::<f32>();
            }
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Dhw = [4, 4, 12];

    fn by_column(of: impl Fn(usize) -> f32) -> Vec<f32> {
        (0..4 * 4 * 12).map(|index| of(index % 12)).collect()
    }

    #[test]
    fn a_flat_image_leaves_the_mean() {
        let logits = by_column(|w| if w < 6 { 3.0 } else { -3.0 });
        let found = guided_filter(&logits, &by_column(|_| 0.4), SIZE, [1; 3]);
        // Twice the mean of three.
        let wanted = [3.0, 3.0, 3.0, 3.0, 3.0 - 2.0 / 3.0, 1.0, -1.0];
        wanted.iter().zip(&found).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} {b}"));
    }

    #[test]
    fn an_edge_of_the_image_is_not_smoothed_over() {
        let (image, logits) = (by_column(|w| f32::from(w < 6)), by_column(|w| if w < 6 { 4.0 } else { -4.0 }));
        let found = guided_filter(&logits, &image, SIZE, [1; 3]);
        let plain = guided_filter(&logits, &by_column(|_| 0.5), SIZE, [1; 3]);
        assert!(found[5] > 3.9 && found[6] < -3.9, "{:?}", &found[..12]);
        assert!(plain[5] < 3.0 && plain[6] > -3.0, "{:?}", &plain[..12]);
    }

    #[test]
    fn sizes_of_one_and_wide_neighbourhoods_are_no_trouble() {
        let found = guided_filter(&[1.0, -1.0], &[0.2, 0.9], [1, 1, 2], [3, 1, 5]);
        assert!(found.iter().all(|value| value.is_finite()));
    }
}
