//! Where the body lies in an image.

/// Samples of an image along its longest axis that the body is looked for in.
const SAMPLES: usize = 96;
/// Bins of the image's histogram.
const BINS: usize = 64;
/// The part of Otsu's threshold that a voxel of the body is above: dark tissue counts too.
const SHARE: f32 = 0.6;

/// The box of the body in an image, by its faces (d, h, w) in voxels: the largest connected part above a share of Otsu's
/// threshold. `image` is row-major (D, H, W), from 0 to 1.
pub fn body_box(image: &[f32], size: [usize; 3]) -> [[f32; 3]; 2] {
    let step = size.map(|size| size.div_ceil(SAMPLES));
    let count: [usize; 3] = std::array::from_fn(|axis| size[axis].div_ceil(step[axis]));
    let place = |index: usize| [index / (count[1] * count[2]), index / count[2] % count[1], index % count[2]];
    let samples: Vec<f32> = (0..count.iter().product())
        .map(|index| {
            let [d, h, w] = place(index);
            image[(d * step[0] * size[1] + h * step[1]) * size[2] + w * step[2]]
        })
        .collect();
    let threshold = SHARE * otsu(&samples);
    let strides = [count[1] * count[2], count[2], 1];
    let mut free: Vec<bool> = samples.iter().map(|&value| value > threshold).collect();
    let (mut largest, mut found) = (0, [[0; 3], count.map(|count| count - 1)]);
    let mut open = Vec::new();
    for start in 0..free.len() {
        if !std::mem::take(&mut free[start]) {
            continue;
        }
        open.push(start);
        let (mut voxels, mut low, mut high) = (0, count, [0; 3]);
        while let Some(index) = open.pop() {
            voxels += 1;
            let at = place(index);
            for axis in 0..3 {
                (low[axis], high[axis]) = (low[axis].min(at[axis]), high[axis].max(at[axis]));
                let before = (at[axis] > 0).then(|| index - strides[axis]);
                let after = (at[axis] + 1 < count[axis]).then(|| index + strides[axis]);
                for next in before.into_iter().chain(after) {
                    if std::mem::take(&mut free[next]) {
                        open.push(next);
                    }
                }
            }
        }
        if voxels > largest {
            (largest, found) = (voxels, [low, high]);
        }
    }
    let [low, high] = found;
    [
        std::array::from_fn(|axis| (low[axis] * step[axis]) as f32 - 0.5),
        std::array::from_fn(|axis| ((high[axis] + 1) * step[axis]).min(size[axis]) as f32 - 0.5),
    ]
}

/// The threshold that parts values from 0 to 1 into two classes with the least variance within them (Otsu, 1979).
fn otsu(values: &[f32]) -> f32 {
    let mut histogram = [0.0f64; BINS];
    values.iter().for_each(|&value| histogram[((value * BINS as f32) as usize).min(BINS - 1)] += 1.0);
    let moment = |bins: &[f64], first: usize| -> (f64, f64) {
        bins.iter().enumerate().fold((0.0, 0.0), |(count, sum), (bin, n)| (count + n, sum + n * (first + bin) as f64))
    };
    let between = |cut: usize| {
        let ((below, below_sum), (above, above_sum)) = (moment(&histogram[..cut], 0), moment(&histogram[cut..], cut));
        if below == 0.0 || above == 0.0 { 0.0 } else { below * above * (below_sum / below - above_sum / above).powi(2) }
    };
    let best = (1..BINS).max_by(|&a, &b| between(a).total_cmp(&between(b)).then(b.cmp(&a))).unwrap_or(1);
    best as f32 / BINS as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_largest_bright_part() {
        let size = [10, 40, 200];
        let image: Vec<f32> = (0..10 * 40 * 200)
            .map(|index| {
                let (h, w) = (index / 200 % 40, index % 200);
                let body = (10..30).contains(&h) && (50..150).contains(&w);
                let table = h == 36;
                if body { if (80..120).contains(&w) { 0.4 } else { 0.9 } } else { if table { 0.8 } else { 0.02 } }
            })
            .collect();
        // Every third column is looked at.
        assert_eq!(body_box(&image, size), [[-0.5, 9.5, 50.5], [9.5, 29.5, 149.5]]);
    }
}
