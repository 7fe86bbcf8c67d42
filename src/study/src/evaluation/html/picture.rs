//! A mask beside its truth, in the axial slice that has most of the truth.

use super::super::ask::Again;
use adaptmedseg_volume::Volume;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest side of a picture, in pixels.
const SIDE: usize = 220;
/// Millimetres around the structure that are shown.
const MARGIN: f64 = 25.0;
const TRUTH: [u8; 3] = [64, 220, 120];
const FOUND: [u8; 3] = [255, 140, 40];

/// A slice, seen from the feet as in radiology: the patient's right is at the left, the front above.
struct Slice {
    /// First column and row of the part that is shown, and how many there are.
    start: [usize; 2],
    count: [usize; 2],
    /// Its number.
    k: usize,
}

/// A PNG as a `data:` address; `None` where there is nothing to see.
pub(super) fn address(again: &Again) -> Option<String> {
    let geometry = &again.image.geometry;
    let plan = geometry.reorientation_to_ras();
    let turned = |data: &[u8]| plan.apply_to_slice(data, geometry.size);
    let image = plan.apply(&again.image);
    let (truth, found) = (turned(&again.truth), turned(&again.found));
    let slice = slice(&image, &truth, &found)?;
    let (width, height, pixels) = draw(&image, &truth, &found, &slice);
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

fn slice(image: &Volume<f32>, truth: &[u8], found: &[u8]) -> Option<Slice> {
    let [nx, ny, nz] = image.geometry.size;
    let area = |k: usize| truth[k * nx * ny..(k + 1) * nx * ny].iter().filter(|&&voxel| voxel > 0).count();
    let k = (0..nz).max_by_key(|&k| area(k)).filter(|&k| area(k) > 0)?;
    let set = |&index: &usize| truth[k * nx * ny + index] > 0 || found[k * nx * ny + index] > 0;
    let (mut low, mut high) = ([usize::MAX; 2], [0; 2]);
    for index in (0..nx * ny).filter(set) {
        for (axis, at) in [index % nx, index / nx].into_iter().enumerate() {
            low[axis] = low[axis].min(at);
            high[axis] = high[axis].max(at);
        }
    }
    let mut slice = Slice { start: [0; 2], count: [0; 2], k };
    for axis in 0..2 {
        let margin = (MARGIN / image.geometry.spacing[axis]).ceil() as usize;
        slice.start[axis] = low[axis].saturating_sub(margin);
        slice.count[axis] = (high[axis] + margin + 1).min(image.geometry.size[axis]) - slice.start[axis];
    }
    Some(slice)
}

/// Width, height and colours.
fn draw(image: &Volume<f32>, truth: &[u8], found: &[u8], slice: &Slice) -> (usize, usize, Vec<u8>) {
    let [nx, ny, _] = image.geometry.size;
    let extent: [f64; 2] = std::array::from_fn(|axis| slice.count[axis] as f64 * image.geometry.spacing[axis]);
    let scale = SIDE as f64 / extent[0].max(extent[1]);
    let [width, height] = extent.map(|extent| ((extent * scale).round() as usize).max(1));
    let plane = slice.k * nx * ny;
    let [low, high] = window(&image.data[plane..plane + nx * ny]);
    // From a pixel to its voxel: columns and rows run against the axes.
    let voxel = |x: usize, y: usize| {
        let along = |at: usize, pixels: usize, axis: usize| {
            slice.start[axis] + slice.count[axis] - 1 - (at * slice.count[axis] / pixels).min(slice.count[axis] - 1)
        };
        plane + along(x, width, 0) + nx * along(y, height, 1)
    };
    let mut pixels = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let here = voxel(x, y);
            let edge = |mask: &[u8]| {
                let other = |x: usize, y: usize| mask[voxel(x.min(width - 1), y.min(height - 1))] > 0;
                other(x + 1, y) != other(x, y) || other(x, y + 1) != other(x, y)
            };
            let grey = ((image.data[here] - low) / (high - low) * 255.0).clamp(0.0, 255.0) as u8;
            pixels.extend(match (edge(found), edge(truth)) {
                (true, _) => FOUND,
                (_, true) => TRUTH,
                _ => [grey; 3],
            });
        }
    }
    (width, height, pixels)
}

/// Intensities drawn black and white: from the first to the last but one hundredth of the slice.
fn window(values: &[f32]) -> [f32; 2] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let at = |share: f64| sorted[(share * (sorted.len() - 1) as f64) as usize];
    [at(0.01), at(0.99).max(at(0.01) + f32::EPSILON)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use adaptmedseg_volume::Geometry;
    use std::sync::Arc;

    #[test]
    fn the_slice_with_most_of_the_truth_is_drawn() {
        let size = [20, 16, 4];
        let mut truth = vec![0u8; 20 * 16 * 4];
        truth[2 * 320 + 5 * 20 + 3..][..6].fill(1);
        let image = Volume::new(Geometry::with_size(size), (0..1280).map(|value| value as f32).collect());
        let image = Arc::new(image.expect("a volume"));
        let again = Again { image, found: vec![0; truth.len()], truth };
        let address = address(&again).expect("there is something");
        let png = STANDARD.decode(address.strip_prefix("data:image/png;base64,").expect("a PNG")).expect("base64");
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        reader.next_frame(&mut pixels).expect("a frame");
        assert_eq!(reader.info().width.max(reader.info().height) as usize, SIDE);
        let coloured = |colour: [u8; 3]| pixels.chunks_exact(3).filter(|pixel| *pixel == colour).count();
        assert!(coloured(TRUTH) > 20 && coloured(FOUND) == 0);
        let nothing = Again { truth: vec![0; 1280], ..again };
        assert!(super::address(&nothing).is_none());
    }
}
