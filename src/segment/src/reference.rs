//! The original's zoom-in, its oddities included: what golden numbers are compared with, and `reference` mode runs.
//!
//! Everything is (d, h, w) on the normalised, cropped image.

use crate::error::{Error, Result};
use crate::hooks::{Hooks, Stage};
use crate::windows::{self, Array, Dhw, Padding, Stitch};
use adaptmedseg_engine::{Adapted, Engine, TextEmbedding, WindowPrompts};

/// Extra positive points drawn in each window, besides the first (quirk 48).
const EXTRA_POINTS: usize = 4;

/// Points with labels, coordinates (d, h, w) in voxels of the window.
pub type LabelledPoints = Vec<([f32; 3], i8)>;

/// Draws the points of a window from the voxels of the point map that lie in it (quirk 45).
///
/// Its arguments are the number of the window and those voxels; it returns nothing else than what is fed to the network.
pub type DrawPoints<'a> = dyn FnMut(usize, &[Dhw]) -> LabelledPoints + 'a;

/// What guides the zoom-in besides text: the zoom-out prompt as a map on the region.
#[derive(Clone, Debug)]
pub enum PromptMap {
    /// Text alone.
    None,
    /// Voxels of the box.
    Box(Vec<bool>),
    /// Voxels of the positive points.
    Points(Vec<bool>),
}

/// The input of [`zoom_in`]: a region of the image with everything known about it.
pub struct Zoom<'a> {
    /// Voxels of the region.
    pub image: &'a [f32],
    /// Its size.
    pub size: Dhw,
    /// The zoom-out mask on the region.
    pub coarse: &'a [bool],
    /// The zoom-out prompt on the region.
    pub prompt: &'a PromptMap,
    /// The text, if there is one.
    pub text: Option<&'a TextEmbedding>,
    /// Overlap of neighbouring windows.
    pub overlap: f64,
    /// The adapter, if there is one.
    pub adapted: Option<Adapted<'a>>,
}

/// What [`zoom_in`] returns.
#[derive(Clone, Debug)]
pub struct Zoomed {
    /// Logits of the region.
    pub logits: Vec<f32>,
    /// First voxel of each window in the padded region.
    pub starts: Vec<Dhw>,
    /// Box given to each window, if any; all -1 where nothing was found in it (quirk 15).
    pub boxes: Vec<Option<[f32; 6]>>,
    /// Mean logit of each window.
    pub means: Vec<f64>,
}

/// Slides windows over a region and averages their logits (reference: SegVol's `sliding_window_inference`).
///
/// # Errors
/// A failure of the engine; cancellation.
pub fn zoom_in(engine: &dyn Engine, zoom: &Zoom, draw: &mut DrawPoints, hooks: &Hooks) -> Result<Zoomed> {
    let window = engine.config().image_encoder.image_size;
    let (starts, before) = window_starts(zoom.size, window, zoom.overlap);
    let mut zoomed = Zoomed { logits: Vec::new(), starts: starts.clone(), boxes: Vec::new(), means: Vec::new() };
    let mut stitch = Stitch::new(zoom.size);
    let image = Array { data: zoom.image, size: zoom.size };
    for (index, &start) in starts.iter().enumerate() {
        hooks.step(Stage::ZoomIn, index, starts.len())?;
        // In voxels of the unpadded region; may be negative.
        let place: [isize; 3] = std::array::from_fn(|axis| start[axis] as isize - before[axis] as isize);
        let prompts = window_prompts(zoom, index, start, place, window, starts.len() == 1, draw);
        let embedding = engine.encode_image(&image.cut(place, window), zoom.adapted.map(|adapted| adapted.adapter))?;
        let logits = engine.decode(&embedding, &prompts, zoom.adapted)?.logits;
        zoomed.means.push(logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / logits.len() as f64);
        zoomed.boxes.push(prompts.bounding_box);
        stitch.add(&logits, place, window);
    }
    hooks.step(Stage::ZoomIn, starts.len(), starts.len())?;
    zoomed.logits = vec![0.0; zoom.size.iter().product()];
    stitch.finish(&mut zoomed.logits);
    Ok(zoomed)
}

fn window_prompts(
    zoom: &Zoom,
    index: usize,
    start: Dhw,
    place: [isize; 3],
    window: Dhw,
    single: bool,
    draw: &mut DrawPoints,
) -> WindowPrompts {
    let mut prompts = WindowPrompts { text: zoom.text.cloned(), ..Default::default() };
    // The coarse mask is padded like the image, the prompt map is not (quirk 42): its window is cut at the padded
    // region's coordinates.
    let coarse = || {
        let cut = Array { data: zoom.coarse, size: zoom.size }.cut(place, window);
        corners(windows::bounding_box(&cut, window, |&set| set))
    };
    let unpadded = |map: &[bool]| Array { data: map, size: zoom.size }.cut(start.map(|index| index as isize), window);
    match zoom.prompt {
        PromptMap::None => {}
        PromptMap::Box(map) if single => {
            prompts.bounding_box = Some(corners(windows::bounding_box(&unpadded(map), window, |&set| set)));
        }
        PromptMap::Box(_) => prompts.bounding_box = Some(coarse()),
        PromptMap::Points(map) => {
            let cut = unpadded(map);
            let [_, h, w] = window;
            let places: Vec<Dhw> = (0..cut.len())
                .filter(|&voxel| cut[voxel])
                .map(|voxel| [voxel / (h * w), voxel / w % h, voxel % w])
                .collect();
            prompts.points = draw(index, &places);
            prompts.bounding_box = Some(coarse());
        }
    }
    prompts
}

fn corners(found: Option<[Dhw; 2]>) -> [f32; 6] {
    found.map_or([-1.0; 6], |[low, high]| {
        let [a, b, c] = low.map(|index| index as f32);
        let [d, e, f] = high.map(|index| index as f32);
        [a, b, c, d, e, f]
    })
}

/// The region to zoom into: the box of the coarse mask, grown by half of what it lacks to a window (quirk 40).
/// Inclusive lower and upper corner; the upper one may be the size itself, one past the last voxel.
pub fn region_of_interest(coarse: &[bool], size: Dhw, window: Dhw) -> Option<[Dhw; 2]> {
    let [low, high] = windows::bounding_box(coarse, size, |&set| set)?;
    let grow: Dhw = std::array::from_fn(|axis| window[axis].saturating_sub(high[axis] - low[axis] + 1) / 2);
    Some([
        std::array::from_fn(|axis| low[axis].saturating_sub(grow[axis])),
        std::array::from_fn(|axis| (high[axis] + grow[axis]).min(size[axis])),
    ])
}

/// First voxels of the windows over a region of `size`, in the region padded to at least one window; and the zeros put
/// before the region along each axis (quirks 42 and 43).
pub fn window_starts(size: Dhw, window: Dhw, overlap: f64) -> (Vec<Dhw>, Dhw) {
    let padding = Padding::new(size, window);
    (windows::starts(padding.size, window, overlap), padding.before)
}

/// The original's draw: one positive at random, then up to four more from a permutation, duplicates possible; without
/// any positive one ignored point. Seeded, so that a run can be repeated; the original's own generator is not copied.
pub(crate) struct SeededDraw(u64);

impl SeededDraw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub(crate) fn draw(&mut self, places: &[Dhw]) -> LabelledPoints {
        let at = |place: Dhw| (place.map(|index| index as f32), 1);
        if places.is_empty() {
            return vec![([-1.0; 3], -1)];
        }
        let mut points = vec![at(places[self.below(places.len())])];
        let mut rest: Vec<Dhw> = places.to_vec();
        for _ in 0..EXTRA_POINTS.min(places.len()) {
            points.push(at(rest.swap_remove(self.below(rest.len()))));
        }
        points
    }
}

/// Boxes and points together are accepted in the zoom-out, refused in the zoom-in (quirk 46).
pub(crate) fn refuse_box_with_points(points: bool, bounding_box: bool) -> Result<()> {
    if points && bounding_box {
        return Err(Error::argument(
            "reference mode takes points or a box, not both: the original cannot zoom in with both",
            "use the default mode",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_region_grows_by_half_and_clamps_at_the_size() {
        let size = [4, 10, 20];
        let mut coarse = vec![false; 800];
        coarse[2 * 200 + 5 * 20 + 19] = true;
        // Depth lacks 1 of 2: half of it is 0. Height lacks 4: 2 on each side. Width lacks 7: 3, but the end clamps.
        assert_eq!(region_of_interest(&coarse, size, [2, 5, 8]), Some([[2, 3, 16], [2, 7, 20]]));
        assert_eq!(region_of_interest(&vec![false; 800], size, [2, 5, 8]), None);
    }

    #[test]
    fn draws_repeat_with_their_seed_and_never_leave_the_map() {
        let places = [[1, 2, 3], [4, 5, 6]];
        let (a, b) = (SeededDraw::new(1).draw(&places), SeededDraw::new(1).draw(&places));
        assert_eq!(a, b);
        assert_eq!(a.len(), 3);
        assert!(a.iter().all(|(place, label)| *label == 1 && (place[0] == 1.0 || place[0] == 4.0)));
        assert_eq!(SeededDraw::new(1).draw(&[]), [([-1.0; 3], -1)]);
    }
}
