//! From a volume to what the network looks at, and the way back to the volume's own grid.

use crate::error::{Error, Result};
use crate::prompt::{BoxPrompt, Mode, Point, Space};
use crate::windows::Dhw;
use adaptmedseg_model::anatomy::{Atlas, Fits, body_box};
use adaptmedseg_model::config::{Intensities, ModelConfig};
use adaptmedseg_volume::preprocess::{
    clip_to_percentiles, crop_slice, foreground_normalise, foreground_region, min_max_normalise, paste_slice,
    resize_nearest_exact,
};
use adaptmedseg_volume::{Geometry, Region, Reorientation, Volume, sanitise};
use std::sync::OnceLock;

/// Logit outside the foreground of the image, where the network never looks: as good as certainly not the structure.
pub(crate) const BACKGROUND_LOGIT: f32 = -100.0;

/// The normalised, cropped image, and how its voxels relate to those of the file.
pub(crate) struct Prepared {
    /// From storage order to the order the network is shown.
    plan: Reorientation,
    /// Grid of the file.
    stored: Geometry,
    /// Size after `plan`, (x, y, z).
    turned: [usize; 3],
    /// The foreground, in turned voxels.
    crop: Region,
    /// Foreground voxels in `[0, 1]`.
    pub image: Vec<f32>,
    /// Size of `image`.
    pub size: Dhw,
    /// Size of a voxel of `image` along (d, h, w), millimetres.
    pub spacing: [f64; 3],
    /// The zoom-out image: `image` resized to the window.
    pub zoom: Vec<f32>,
    /// Size of `zoom`: the network's window.
    pub window: Dhw,
    /// See [`body`](Self::body).
    body: OnceLock<[[f32; 3]; 2]>,
    /// Where the bodies of the model's atlas lie in it; fitted when first asked for.
    fits: OnceLock<Fits>,
}

impl Prepared {
    /// SegVol's pre-processing (quirks 31-34). In the default mode the volume is first turned to RAS, so that storage
    /// order cannot change the result; the reference keeps the file's order.
    pub(crate) fn new(image: &Volume<f32>, config: &ModelConfig, mode: Mode) -> Result<Self> {
        let plan = match mode {
            Mode::Reference => Reorientation::identity(),
            Mode::Default => orientation(&image.geometry, config.preprocessing.orientation())?,
        };
        let mut turned = plan.apply(image);
        let percentiles = config.preprocessing.clip_percentiles;
        match config.preprocessing.intensities {
            Intensities::Foreground => drop(foreground_normalise(&mut turned.data, percentiles)?),
            Intensities::Volume => clip_to_percentiles(&mut turned.data, percentiles)?,
        }
        min_max_normalise(&mut turned.data)?;
        let crop = foreground_region(&turned).expect("the largest voxel is above zero");
        let image_size = turned.geometry.size;
        let cropped = crop_slice(&turned.data, image_size, &crop);
        let window = config.image_encoder.image_size;
        let zoom = resize_nearest_exact(&cropped, crop.size(), reversed(window));
        Ok(Self {
            plan,
            stored: image.geometry.clone(),
            turned: image_size,
            crop,
            image: cropped,
            size: reversed(crop.size()),
            spacing: [turned.geometry.spacing[2], turned.geometry.spacing[1], turned.geometry.spacing[0]],
            zoom,
            window,
            body: OnceLock::new(),
            fits: OnceLock::new(),
        })
    }

    /// The box of the body, by its faces (d, h, w) in voxels of the crop. Looked for when first asked for.
    pub(crate) fn body(&self) -> [[f32; 3]; 2] {
        *self.body.get_or_init(|| body_box(&self.image, self.size))
    }

    /// How likely each voxel of the crop is in the structure that a text names, as the bodies of an atlas have it; without a
    /// text, in that which most likely holds some voxels. `None` where there is none. Computed by `threads` threads.
    pub(crate) fn expected(
        &self,
        atlas: &Atlas,
        text: Option<&str>,
        places: &[Dhw],
        threads: usize,
    ) -> Option<Vec<f32>> {
        let fits = self.fits(atlas, threads);
        match text {
            Some(text) => atlas.located(fits, text),
            None => atlas.holding(fits, places),
        }
    }

    /// Where the bodies of an atlas lie; fitted by `threads` threads when first asked for.
    pub(crate) fn fits(&self, atlas: &Atlas, threads: usize) -> &Fits {
        let spacing = self.spacing.map(|spacing| spacing as f32);
        self.fits.get_or_init(|| atlas.fits(&self.image, self.size, spacing, self.body(), threads))
    }

    /// A stored voxel index as the voxel (d, h, w) of the crop, the nearest one if it is outside.
    fn to_crop(&self, ijk: [f64; 3]) -> Dhw {
        let turned = self.plan.map_point(self.stored.size, ijk);
        reversed(std::array::from_fn(|axis| {
            let last = (self.crop.size()[axis] - 1) as f64;
            (turned[axis] - self.crop.start[axis] as f64).round().clamp(0.0, last) as usize
        }))
    }

    fn crop_to_zoom(&self, place: Dhw) -> [f64; 3] {
        std::array::from_fn(|axis| {
            let (from, to) = (self.size[axis] as f64, self.window[axis] as f64);
            ((place[axis] as f64 + 0.5) * to / from).floor().clamp(0.0, to - 1.0)
        })
    }

    fn zoom_to_crop(&self, place: [f64; 3]) -> Dhw {
        std::array::from_fn(|axis| {
            let (from, to) = (self.window[axis] as f64, self.size[axis] as f64);
            ((place[axis] + 0.5) * to / from - 0.5).round().clamp(0.0, to - 1.0) as usize
        })
    }

    /// Where a point lies: on the crop, and on the zoom-out grid.
    pub(crate) fn point(&self, point: &Point) -> Result<Located> {
        let place = point.locate(&self.stored, self.window)?;
        Ok(self.located(place, point.space))
    }

    /// The first and last voxel of a box along each axis: on the crop, and on the zoom-out grid.
    pub(crate) fn corners(&self, cube: &BoxPrompt) -> Result<[Located; 2]> {
        let [a, b] = cube.locate(&self.stored, self.window)?.map(|corner| self.located(corner, cube.space));
        // A flipped axis swaps which corner is the lower one.
        Ok([
            Located {
                crop: std::array::from_fn(|axis| a.crop[axis].min(b.crop[axis])),
                zoom: std::array::from_fn(|axis| a.zoom[axis].min(b.zoom[axis])),
            },
            Located {
                crop: std::array::from_fn(|axis| a.crop[axis].max(b.crop[axis])),
                zoom: std::array::from_fn(|axis| a.zoom[axis].max(b.zoom[axis])),
            },
        ])
    }

    fn located(&self, place: [f64; 3], space: Space) -> Located {
        if space == Space::Model {
            return Located { crop: self.zoom_to_crop(place), zoom: place };
        }
        let crop = self.to_crop(place);
        Located { crop, zoom: self.crop_to_zoom(crop) }
    }

    /// Values on the crop as values on the file's grid, `outside` elsewhere.
    pub(crate) fn restore<T: Copy>(&self, crop: &[T], outside: T) -> Vec<T> {
        let mut whole = vec![outside; self.turned.iter().product()];
        paste_slice(&mut whole, self.turned, crop, &self.crop);
        if self.plan.is_identity() { whole } else { self.plan.inverse().apply_to_slice(&whole, self.turned) }
    }

    /// A mask on the file's grid as one on the crop, 1 inside.
    pub(crate) fn to_crop_mask(&self, mask: &[u8]) -> Vec<f32> {
        let turned = self.plan.apply_to_slice(mask, self.stored.size);
        let cropped = crop_slice(&turned, self.turned, &self.crop);
        cropped.into_iter().map(|value| f32::from(value != 0)).collect()
    }

    /// A region of the crop, inclusive (d, h, w) corners, as stored voxels: inclusive start, exclusive end.
    pub(crate) fn stored_region(&self, corners: [Dhw; 2]) -> [[usize; 3]; 2] {
        let back = self.plan.inverse();
        let [a, b] = corners.map(|[d, h, w]| {
            let xyz = [w, h, d];
            let turned: [f64; 3] = std::array::from_fn(|axis| (xyz[axis] + self.crop.start[axis]) as f64);
            back.map_point(self.turned, turned).map(|index| index as usize)
        });
        let low: [usize; 3] = std::array::from_fn(|axis| a[axis].min(b[axis]));
        let high: [usize; 3] = std::array::from_fn(|axis| a[axis].max(b[axis]) + 1);
        [low, high]
    }
}

/// What the network learns from: an image as inference prepares it in the default mode, and a mask gone the same way.
#[derive(Clone, Debug)]
pub struct TrainingVolume {
    /// Foreground voxels in `[0, 1]`, row-major (D, H, W), W fastest.
    pub image: Vec<f32>,
    /// 1 in the structure and 0 elsewhere, of the same size.
    pub mask: Vec<u8>,
    /// (D, H, W).
    pub size: [usize; 3],
    /// Size of a voxel along (d, h, w), millimetres.
    pub spacing: [f32; 3],
    /// The box of the body, by its faces (d, h, w) in voxels.
    pub body: [[f32; 3]; 2],
    /// Voxels of the structure outside the foreground, where the network never looks.
    pub lost: usize,
}

impl TrainingVolume {
    /// Prepares an image and its mask: one byte per voxel of the image, i fastest, other than 0 in the structure.
    ///
    /// # Errors
    /// A mask of another size; an image that no session would take.
    pub fn new(mut image: Volume<f32>, mask: &[u8], config: &ModelConfig) -> Result<Self> {
        if mask.len() != image.geometry.voxel_count() {
            return Err(Error::argument(
                format!("the mask has {} voxels, the image {}", mask.len(), image.geometry.voxel_count()),
                "the mask must lie on the image's own grid",
            ));
        }
        if image.data.iter().any(|value| !value.is_finite()) {
            sanitise(&mut image)?;
        }
        let prepared = Prepared::new(&image, config, Mode::Default)?;
        let mask: Vec<u8> = mask.iter().map(|&value| u8::from(value != 0)).collect();
        let turned = prepared.plan.apply_to_slice(&mask, image.geometry.size);
        let cropped = crop_slice(&turned, prepared.turned, &prepared.crop);
        let count = |mask: &[u8]| mask.iter().filter(|&&value| value != 0).count();
        let lost = count(&mask) - count(&cropped);
        let (body, spacing) = (prepared.body(), prepared.spacing.map(|spacing| spacing as f32));
        Ok(Self { image: prepared.image, mask: cropped, size: prepared.size, spacing, body, lost })
    }
}

/// A voxel of the crop, and its place on the zoom-out grid, (d, h, w).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Located {
    pub crop: Dhw,
    pub zoom: [f64; 3],
}

/// Between (x, y, z) and (d, h, w).
pub(crate) fn reversed([a, b, c]: [usize; 3]) -> [usize; 3] {
    [c, b, a]
}

/// How to bring an image to the orientation a model was trained in.
fn orientation(geometry: &Geometry, code: &str) -> Result<Reorientation> {
    let ras = geometry.reorientation_to_ras();
    let mut plan = Reorientation::identity();
    let mut seen = [false; 3];
    let unknown = || Error::Unsupported {
        message: format!("the model wants orientation {code:?}"),
        hint: Some("config.json: preprocessing.orientation is three letters such as RAS or LPS".into()),
    };
    let letters: Vec<char> = code.chars().collect();
    if letters.len() != 3 {
        return Err(unknown());
    }
    for (axis, letter) in letters.into_iter().enumerate() {
        let world = ["RL", "AP", "SI"].iter().position(|pair| pair.contains(letter)).ok_or_else(unknown)?;
        let against = matches!(letter, 'L' | 'P' | 'I');
        plan.axes[axis] = ras.axes[world];
        plan.flip[axis] = ras.flip[world] != against;
        seen[world] = true;
    }
    if seen == [true; 3] { Ok(plan) } else { Err(unknown()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orientation_is_reached_from_any_other() {
        let lps = Geometry::with_size([2, 3, 4]);
        for code in ["RAS", "LPS", "SAR", "IPL", "ASL"] {
            let plan = orientation(&lps, code).expect("a real code");
            assert_eq!(plan.geometry(&lps).axis_codes(), code);
        }
        for code in ["RA", "RRS", "XYZ", ""] {
            assert!(orientation(&lps, code).is_err(), "{code}");
        }
    }
}
