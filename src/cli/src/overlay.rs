//! `adaptmedseg overlay`: slices of an image with a mask over them, as a picture.

use crate::args::OverlayArgs;
use crate::failure::{Failure, Result};
use crate::outputs::{Kind, Outputs};
use adaptmedseg_segment::volume::{self, Geometry, ReadOptions, Volume};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// Longest side of one slice in the picture, in pixels.
const TILE: f64 = 256.0;
/// Pixels between slices.
const GAP: usize = 4;
/// Colours of the labels of a mask, in turn, and how much of them shows inside their outlines.
const COLOURS: [[f64; 3]; 12] = [
    [255.0, 96.0, 32.0],
    [80.0, 200.0, 255.0],
    [120.0, 230.0, 90.0],
    [255.0, 215.0, 60.0],
    [215.0, 130.0, 255.0],
    [255.0, 120.0, 160.0],
    [60.0, 220.0, 190.0],
    [190.0, 160.0, 110.0],
    [140.0, 150.0, 255.0],
    [230.0, 255.0, 140.0],
    [255.0, 170.0, 120.0],
    [170.0, 220.0, 230.0],
];
const OPACITY: f64 = 0.3;
/// Two grids are the same if their corners lie within this share of the smallest voxel side. Headers in single
/// precision are apart by less.
const GRID_TOLERANCE: f64 = 0.01;

/// Reads image and mask, draws, writes.
pub(crate) fn run(args: &OverlayArgs) -> Result<()> {
    let mut outputs = Outputs::new(args.overwrite);
    outputs.plan(&args.out, Kind::Picture, &[&args.image, &args.mask])?;
    let image = volume::read(&args.image, &ReadOptions { channel: args.channel, ..ReadOptions::default() })?;
    let mask = volume::read_labels(&args.mask, &ReadOptions::default())?;
    check_same_grid(&args.mask, &mask.geometry, &image.geometry)?;
    let mask = Volume { geometry: mask.geometry, data: mask.data.iter().map(|&label| u8::from(label != 0)).collect() };
    let window = args.window.map(|window| window.0);
    draw(&image, &mask, usize::from(args.slices), window).write(&outputs.draft(&args.out), &args.out)?;
    outputs.commit()
}

/// Refuses a mask that does not lie on the image's grid.
pub(crate) fn check_same_grid(path: &Path, mask: &Geometry, image: &Geometry) -> Result<()> {
    let side = image.spacing.into_iter().fold(f64::INFINITY, f64::min);
    if mask.is_close(image, GRID_TOLERANCE * side) {
        return Ok(());
    }
    let size = |geometry: &Geometry| geometry.size.map(|size| size.to_string()).join(" x ");
    let problem = if mask.size == image.size {
        "lies elsewhere: spacing, origin or direction differ".to_owned()
    } else {
        format!("has {} voxels, the image {}", size(mask), size(image))
    };
    Err(Failure::bad_data(
        format!("{}: the mask is not on the image's grid: it {problem}", path.display()),
        "use a mask that was made on this image",
    ))
}

/// An 8-bit colour picture.
pub(crate) struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    fn black(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![0; width * height * 3] }
    }

    fn set(&mut self, x: usize, y: usize, colour: [f64; 3]) {
        let at = 3 * (x + self.width * y);
        self.rgb[at..at + 3].copy_from_slice(&colour.map(|value| value.round().clamp(0.0, 255.0) as u8));
    }

    fn paste(&mut self, tile: &Self, x: usize, y: usize) {
        for row in 0..tile.height {
            let (from, to) = (3 * row * tile.width, 3 * (x + self.width * (y + row)));
            self.rgb[to..to + 3 * tile.width].copy_from_slice(&tile.rgb[from..from + 3 * tile.width]);
        }
    }

    /// Pictures below one another.
    pub(crate) fn stacked(pictures: &[Self]) -> Self {
        let width = pictures.iter().map(|picture| picture.width).max().unwrap_or(1);
        let mut all = Self::black(width, pictures.iter().map(|picture| picture.height).sum());
        let mut y = 0;
        for picture in pictures {
            all.paste(picture, 0, y);
            y += picture.height;
        }
        all
    }

    /// Writes a PNG; `name` is the file's name in messages.
    pub(crate) fn write(&self, path: &Path, name: &Path) -> Result<()> {
        let side = |pixels: usize| u32::try_from(pixels).expect("a picture of at most 16 tiles");
        let file = File::create(path).map_err(|error| Failure::file(name, &error))?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.rgb)?;
            writer.finish()
        });
        written.map_err(|error| Failure::io(format!("{}: {error}", name.display()), None))
    }
}

/// One way to cut a volume that lies in RAS order: the axis looked along, and the axes across and down the picture,
/// both against their direction. So right is left in axial and coronal slices, front is left in sagittal ones.
struct Plane {
    normal: usize,
    across: usize,
    down: usize,
}

/// Axial, coronal, sagittal.
const PLANES: [Plane; 3] = [
    Plane { normal: 2, across: 0, down: 1 },
    Plane { normal: 1, across: 0, down: 2 },
    Plane { normal: 0, across: 1, down: 2 },
];

/// Draws a row of slices for each plane, spread over the mask, or over the whole image where the mask is empty. Each
/// label of the mask has a colour.
pub(crate) fn draw(image: &Volume<f32>, mask: &Volume<u8>, slices: usize, window: Option<[f64; 2]>) -> Picture {
    let turn = image.geometry.reorientation_to_ras();
    let (image, mask) = (turn.apply(image), turn.apply(mask));
    let window = window.unwrap_or_else(|| percentiles(&image.data));
    let rows: Vec<Vec<Picture>> = PLANES
        .iter()
        .map(|plane| {
            let (first, last) = extent(&mask, plane.normal);
            let place = |index: usize| first + (2 * index + 1) * (last - first + 1) / (2 * slices);
            (0..slices).map(|index| slice(&image, &mask, plane, place(index).min(last), window)).collect()
        })
        .collect();
    let width = rows.iter().map(|row| row.iter().map(|tile| tile.width + GAP).sum::<usize>()).max().unwrap_or(0);
    let height = rows.iter().map(|row| row[0].height + GAP).sum::<usize>();
    let mut picture = Picture::black(width + GAP, height + GAP);
    let mut y = GAP;
    for row in &rows {
        let step = width / slices;
        for (index, tile) in row.iter().enumerate() {
            // Each slice in the middle of its column.
            picture.paste(tile, GAP + index * step + (step - GAP).saturating_sub(tile.width) / 2, y);
        }
        y += row[0].height + GAP;
    }
    picture
}

/// The first and last slice along an axis that the mask touches, or those of the image.
fn extent(mask: &Volume<u8>, axis: usize) -> (usize, usize) {
    let [nx, ny, _] = mask.geometry.size;
    let places = mask.data.iter().enumerate().filter(|&(_, &value)| value != 0);
    let along = places.map(|(index, _)| [index % nx, index / nx % ny, index / (nx * ny)][axis]);
    let whole = (0, mask.geometry.size[axis] - 1);
    along
        .fold(None, |range: Option<(usize, usize)>, at| {
            Some(range.map_or((at, at), |(first, last)| (first.min(at), last.max(at))))
        })
        .unwrap_or(whole)
}

/// Percentiles 1 and 99 of a sample of the finite voxels.
fn percentiles(data: &[f32]) -> [f64; 2] {
    let step = (data.len() / 100_000).max(1);
    let mut sample: Vec<f32> = data.iter().step_by(step).copied().filter(|value| value.is_finite()).collect();
    sample.sort_by(f32::total_cmp);
    let at = |share: f64| sample.get((share * (sample.len() as f64 - 1.0)).round() as usize).copied().map(f64::from);
    let (low, high) = (at(0.01).unwrap_or(0.0), at(0.99).unwrap_or(1.0));
    if low < high { [low, high] } else { [low, low + 1.0] }
}

/// One slice with its voxels in proportion: the image between voxel centres interpolated, the mask not.
fn slice(image: &Volume<f32>, mask: &Volume<u8>, plane: &Plane, at: usize, [low, high]: [f64; 2]) -> Picture {
    let geometry = &image.geometry;
    let extent = |axis: usize| geometry.size[axis] as f64 * geometry.spacing[axis];
    // One scale for all planes, so that they can be compared.
    let scale = TILE / (0..3).map(extent).fold(0.0, f64::max);
    let pixels = |axis: usize| ((extent(axis) * scale).round() as usize).max(1);
    let (width, height) = (pixels(plane.across), pixels(plane.down));
    // The centre of a pixel as a voxel index, against the direction of the axis.
    let place = |pixel: usize, pixels: usize, axis: usize| {
        let size = geometry.size[axis] as f64;
        size - 0.5 - (pixel as f64 + 0.5) / pixels as f64 * size
    };
    let voxel = |across: usize, down: usize| {
        let mut ijk = [0; 3];
        ijk[plane.normal] = at;
        ijk[plane.across] = across;
        ijk[plane.down] = down;
        ijk
    };
    let label = |x: usize, y: usize| {
        let nearest = |place: f64, axis: usize| (place.round().max(0.0) as usize).min(geometry.size[axis] - 1);
        let (a, d) = (place(x, width, plane.across), place(y, height, plane.down));
        *mask.at(voxel(nearest(a, plane.across), nearest(d, plane.down)))
    };
    let mut picture = Picture::black(width, height);
    for y in 0..height {
        for x in 0..width {
            let (a, d) = (place(x, width, plane.across), place(y, height, plane.down));
            let value =
                bilinear(|a, d| f64::from(*image.at(voxel(a, d))), [a, d], [plane.across, plane.down], geometry);
            let grey = if value.is_finite() { 255.0 * ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
            let own = label(x, y);
            if own == 0 {
                picture.set(x, y, [grey; 3]);
                continue;
            }
            let edge = x == 0
                || y == 0
                || x + 1 == width
                || y + 1 == height
                || [label(x - 1, y), label(x + 1, y), label(x, y - 1), label(x, y + 1)].iter().any(|&near| near != own);
            let share = if edge { 1.0 } else { OPACITY };
            let colour = COLOURS[usize::from(own - 1) % COLOURS.len()];
            picture.set(x, y, colour.map(|colour| grey + share * (colour - grey)));
        }
    }
    picture
}

/// The value between four voxels of a slice; at the rim, that of the nearest.
fn bilinear(value: impl Fn(usize, usize) -> f64, place: [f64; 2], axes: [usize; 2], geometry: &Geometry) -> f64 {
    let last = axes.map(|axis| geometry.size[axis] - 1);
    let place: [f64; 2] = std::array::from_fn(|n| place[n].clamp(0.0, last[n] as f64));
    let low = place.map(|place| place as usize);
    let high: [usize; 2] = std::array::from_fn(|n| (low[n] + 1).min(last[n]));
    let share: [f64; 2] = std::array::from_fn(|n| place[n] - low[n] as f64);
    let row = |d: usize| value(low[0], d) * (1.0 - share[0]) + value(high[0], d) * share[0];
    row(low[1]) * (1.0 - share[1]) + row(high[1]) * share[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(size: [usize; 3], spacing: [f64; 3]) -> (Volume<f32>, Volume<u8>) {
        // Axes towards right, anterior, superior.
        let direction = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
        let geometry = Geometry::new(size, spacing, [0.0; 3], direction).expect("a grid");
        let count = geometry.voxel_count();
        (Volume { geometry: geometry.clone(), data: vec![0.0; count] }, Volume { geometry, data: vec![0; count] })
    }

    #[test]
    fn slices_keep_the_proportions_of_the_voxels() {
        let (image, mask) = volume([40, 20, 10], [1.0, 1.0, 4.0]);
        let axial = slice(&image, &mask, &PLANES[0], 5, [0.0, 1.0]);
        assert_eq!((axial.width, axial.height), (256, 128));
        let coronal = slice(&image, &mask, &PLANES[1], 5, [0.0, 1.0]);
        assert_eq!((coronal.width, coronal.height), (256, 256));
    }

    #[test]
    fn the_mask_is_drawn_where_it_is_right_of_the_patient_at_the_left() {
        let (image, mut mask) = volume([32, 32, 8], [1.0; 3]);
        // Right, anterior: high indices of both axes.
        let inside = |ijk: [usize; 3]| ijk[0] >= 24 && ijk[1] >= 24;
        for (index, value) in mask.data.iter_mut().enumerate() {
            *value = u8::from(inside([index % 32, index / 32 % 32, index / 1024]));
        }
        let tile = slice(&image, &mask, &PLANES[0], 4, [0.0, 1.0]);
        let red = |x: usize, y: usize| tile.rgb[3 * (x + tile.width * y)];
        assert!(red(8, 8) > 0, "top left is right and front");
        assert_eq!([red(200, 8), red(8, 200), red(200, 200)], [0; 3]);
    }

    #[test]
    fn slices_are_spread_over_the_mask() {
        let (_, mut mask) = volume([4, 4, 16], [1.0; 3]);
        assert_eq!(extent(&mask, 2), (0, 15));
        mask.data[16 * 3] = 1;
        mask.data[16 * 9] = 1;
        assert_eq!(extent(&mask, 2), (3, 9));
    }

    #[test]
    fn a_mask_of_another_grid_is_refused() {
        let (a, b) = (volume([4; 3], [1.0; 3]).1, volume([4; 3], [1.1; 3]).1);
        let failure = check_same_grid(Path::new("m.nii"), &b.geometry, &a.geometry).expect_err("another spacing");
        assert!(failure.to_string().contains("m.nii"), "{failure}");
        check_same_grid(Path::new("m.nii"), &a.geometry, &a.geometry).expect("the same");
    }
}
