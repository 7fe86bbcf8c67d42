//! The focused zoom-in: one window is laid around the structure, at the resolution at which it fits.
//!
//! SegVol slides windows of full resolution over the region that the zoom-out found. A small network with a dense prompt
//! path does better when it sees the whole structure at once, always at about the same size. A box says where that is;
//! whole bodies of an atlas, fitted to the scan, say where what a text names is, and what most likely holds points; other points
//! are followed outwards until the mask no longer runs out of the window, and three or more also say how large the structure
//! is; a text without such an atlas is first looked for in the whole volume; and without a box each further look is laid around
//! what the one before found. What was found before, or in an earlier run with fewer prompts, goes in as the mask prompt.

use crate::cache::Key;
use crate::error::Result;
use crate::guided::found_and_pointed;
use crate::guided_filter::guided_filter;
use crate::hooks::{Hooks, Stage};
use crate::outcome::Report;
use crate::prepare::{BACKGROUND_LOGIT, Prepared, TrainingVolume};
use crate::resample::{Taps, separable, weights};
use crate::run::Placed;
use crate::session::Session;
use crate::windows::Dhw;
use adaptmedseg_engine::WindowPrompts;
use adaptmedseg_model::anatomy::{Atlas, BoxPlace, Fits};
use std::ops::Range;

/// Share of the window's edge that the structure's box is to take; the training's focused frames have the same.
const SHARE: f32 = 2.0 / 3.0;
/// A voxel is not spread over more window voxels than this.
const MAGNIFICATION: f32 = 2.0;
/// How much wider each further look around points is.
const WIDEN: f32 = 1.6;
/// Logits of more than this are as sure as can be: lest a single one outweighs all its neighbours.
const CERTAIN: f32 = 8.0;
/// Voxels whose borders are moved at a time.
const SLAB: usize = 1 << 21;
/// Share of the voxels of a window's face that a mask may touch before it counts as running out of the window.
const TOUCHING: f32 = 0.01;

/// How likely points must be in what an atlas has for it to be followed.
const HELD: f32 = 0.6;

/// A window over the crop: place of its first voxel and step to the next along (d, h, w), in voxels of the crop.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Frame {
    start: [f32; 3],
    step: [f32; 3],
    count: Dhw,
}

impl Frame {
    fn around(centre: [f32; 3], extent: [f32; 3], count: Dhw) -> Self {
        let step: [f32; 3] = std::array::from_fn(|axis| extent[axis] / count[axis] as f32);
        let start = std::array::from_fn(|axis| centre[axis] - extent[axis] / 2.0 + step[axis] / 2.0);
        Self { start, step, count }
    }

    /// The frame that a box, inclusive corners, nearly fills.
    fn focused([low, high]: [Dhw; 2], count: Dhw) -> Self {
        let extent = std::array::from_fn(|axis| {
            let edge = (high[axis] - low[axis] + 1) as f32;
            (edge / SHARE).max(count[axis] as f32 / MAGNIFICATION)
        });
        let centre = std::array::from_fn(|axis| (low[axis] + high[axis]) as f32 / 2.0);
        Self::around(centre, extent, count)
    }

    /// The frame over everything.
    fn whole(size: Dhw, count: Dhw) -> Self {
        let extent = size.map(|size| size as f32);
        Self::around(extent.map(|extent| (extent - 1.0) / 2.0), extent, count)
    }

    /// Whether it reaches beyond the crop on every side.
    fn holds(&self, size: Dhw) -> bool {
        (0..3).all(|axis| {
            let half = self.step[axis] / 2.0;
            self.start[axis] - half <= 0.0
                && self.start[axis] + (self.count[axis] as f32 - 0.5) * self.step[axis] >= size[axis] as f32 - 1.0
        })
    }

    /// First and last voxel of the crop in it.
    fn corners(&self, size: Dhw) -> [Dhw; 2] {
        let half = self.step.map(|step| step / 2.0);
        let end = |axis: usize| self.start[axis] + (self.count[axis] as f32 - 0.5) * self.step[axis];
        let clamp = |place: f32, axis: usize| place.round().clamp(0.0, size[axis] as f32 - 1.0) as usize;
        [
            std::array::from_fn(|axis| clamp(self.start[axis] - half[axis], axis)),
            std::array::from_fn(|axis| clamp(end(axis), axis)),
        ]
    }

    /// Moves the borders of what was restored to the edges of the image, where the window has been: so many voxels at a
    /// time, as the filter holds many copies of them.
    fn follow_edges(&self, logits: &mut [f32], image: &[f32], size: Dhw, slab: usize) {
        let [low, high] = self.corners(size);
        let [depth, height, width]: Dhw = std::array::from_fn(|axis| high[axis] + 1 - low[axis]);
        let row = |d: usize, h: usize| ((low[0] + d) * size[1] + low[1] + h) * size[2] + low[2];
        let rows = |planes: Range<usize>| planes.flat_map(move |d| (0..height).map(move |h| row(d, h)));
        let cut =
            |data: &[f32], planes| rows(planes).flat_map(|at| &data[at..at + width]).copied().collect::<Vec<f32>>();
        // As far as a voxel of the window reaches.
        let radius = self.step.map(|step| ((step / 2.0).round() as usize).max(1));
        // The filter takes the mean of a mean.
        let halo = 2 * radius[0];
        let (own, plane) = (cut(logits, 0..depth), height * width);
        let thickness = (slab / plane).max(1);
        for first in (0..depth).step_by(thickness) {
            let end = (first + thickness).min(depth);
            let planes = first.saturating_sub(halo)..(end + halo).min(depth);
            let bounded: Vec<f32> =
                own[planes.start * plane..planes.end * plane].iter().map(|x| x.clamp(-CERTAIN, CERTAIN)).collect();
            let block = [planes.len(), height, width];
            let filtered = guided_filter(&bounded, &cut(image, planes.clone()), block, radius);
            let mut values = own[first * plane..].iter().zip(&filtered[(first - planes.start) * plane..]);
            for at in rows(first..end) {
                for (logit, (&own, &filtered)) in logits[at..at + width].iter_mut().zip(&mut values) {
                    // What the window did not reach stays so.
                    *logit = if own == BACKGROUND_LOGIT { own } else { filtered };
                }
            }
        }
    }

    /// A place on the crop, in voxels of the window.
    fn place(&self, crop: Dhw) -> [f32; 3] {
        std::array::from_fn(|axis| (crop[axis] as f32 - self.start[axis]) / self.step[axis])
    }

    /// A box by the crop's voxels at its corners, inclusive, as one by the window's.
    fn place_box(&self, [low, high]: [Dhw; 2]) -> [f32; 6] {
        let half = self.step.map(|step| 0.5 / step);
        // The corners of the outer voxels' faces, as voxels of the window.
        let (low, high) = (self.place(low), self.place(high));
        std::array::from_fn(|index| {
            let axis = index % 3;
            if index < 3 { low[axis] - half[axis] + 0.5 } else { high[axis] + half[axis] - 0.5 }
        })
    }

    fn contains(&self, place: &[f32; 3]) -> bool {
        (0..3).all(|axis| (-0.5..=self.count[axis] as f32 - 0.5).contains(&place[axis]))
    }

    /// Mean of the crop's voxels under each of the window's; between voxels of the crop, interpolated. Zero outside.
    fn sample(&self, data: &[f32], size: Dhw) -> Vec<f32> {
        let taps = std::array::from_fn(|axis| {
            (0..self.count[axis])
                .map(|index| weights(self.start[axis] + index as f32 * self.step[axis], self.step[axis], size[axis]))
                .collect()
        });
        separable(data.to_vec(), size, &taps)
    }

    /// Window values on the crop, interpolated; `outside` where the window does not reach.
    fn restore(&self, data: &[f32], size: Dhw, outside: f32) -> Vec<f32> {
        let taps: [Vec<Taps>; 3] = std::array::from_fn(|axis| {
            let last = self.count[axis] as f32 - 1.0;
            (0..size[axis])
                .map(|index| {
                    let place = (index as f32 - self.start[axis]) / self.step[axis];
                    if (-0.5..=last + 0.5).contains(&place) {
                        weights(place.clamp(0.0, last), 1.0, self.count[axis])
                    } else {
                        Taps::new()
                    }
                })
                .collect()
        });
        let mut out = separable(data.to_vec(), self.count, &taps);
        let [_, height, width] = size;
        for (index, value) in out.iter_mut().enumerate() {
            let at = [index / (height * width), index / width % height, index % width];
            if (0..3).any(|axis| taps[axis][at[axis]].is_empty()) {
                *value = outside;
            }
        }
        out
    }

    /// What an atlas expects in a box of the window, inclusive corners (d, h, w).
    fn expected(&self, atlas: &Atlas, window: &[f32], corners: &[f32; 6], scan: &Scan<'_>) -> Vec<f32> {
        let face = |first: usize, by: f32| -> [f32; 3] {
            std::array::from_fn(|axis| self.start[axis] + (corners[first + axis] + by) * self.step[axis])
        };
        let faces = [face(0, -0.5), face(3, 0.5)];
        let place = BoxPlace::new(faces, scan.spacing, scan.body, scan.depth);
        let candidates = atlas.candidates(scan.fits, faces, scan.text);
        atlas.prior(window, self.count, corners, &place, 0..atlas.len(), &candidates)
    }

    fn key(&self) -> Key {
        Key::Frame([self.start, self.step].map(|numbers| numbers.map(f32::to_bits)))
    }
}

/// What an atlas has to know of the crop: the size of its voxels in millimetres, the box of the body in it, its depth, where the
/// atlas's bodies lie in it, and the text of the prompts, where these bodies know it.
struct Scan<'a> {
    spacing: [f32; 3],
    body: [[f32; 3]; 2],
    depth: usize,
    fits: &'a Fits,
    text: Option<&'a str>,
}

/// A window of the image, and what an atlas expects in it.
struct View {
    frame: Frame,
    image: Vec<f32>,
    prior: Option<Vec<f32>>,
}

/// The positive points, in voxels of the crop.
fn positives(placed: &Placed) -> Vec<Dhw> {
    placed.points.iter().filter(|(_, positive)| *positive).map(|(point, _)| point.crop).collect()
}

/// A mask of logits from a window that was laid before it was known where the structure is: half as sure as a mask from one
/// that fits, which is hardly left any more.
fn as_found(logits: &[f32]) -> Vec<f32> {
    logits.iter().map(|&logit| if logit > 0.0 { 0.75 } else { 0.25 }).collect()
}

/// The box to look at next: midway between that of what was found and that of the structure if the points lie anywhere in it,
/// which is (n + 1) / (n - 1) times as large as theirs. Fewer than three points do not tell.
fn midway(found: [Dhw; 2], points: &[Dhw], size: Dhw) -> [Dhw; 2] {
    if points.len() < 3 {
        return found;
    }
    let count = points.len() as f32;
    let mut corners = found;
    for axis in 0..3 {
        let (low, high) =
            points.iter().fold((usize::MAX, 0), |(low, high), point| (low.min(point[axis]), high.max(point[axis])));
        let centre = (low + high) as f32 / 2.0;
        let half = (high - low) as f32 / 2.0 * (count + 1.0) / (count - 1.0);
        let middle = |found: usize, expected: f32| ((found as f32 + expected) / 2.0).round().max(0.0) as usize;
        corners[0][axis] = middle(found[0][axis], centre - half).min(low);
        corners[1][axis] = middle(found[1][axis], centre + half).max(high).min(size[axis] - 1);
    }
    corners
}

/// Whether what is set in a window runs out of it, over a face that lies inside the crop.
fn runs_out(logits: &[f32], frame: &Frame, size: Dhw) -> bool {
    let [depth, height, width] = frame.count;
    (0..3).any(|axis| {
        let last = frame.count[axis] - 1;
        let ends = [
            (0, frame.start[axis] > 0.5),
            (last, frame.start[axis] + last as f32 * frame.step[axis] < size[axis] as f32 - 1.5),
        ];
        ends.into_iter().filter(|(_, inside)| *inside).any(|(face, _)| {
            let on_face =
                |index: usize| [index / (height * width), index / width % height, index % width][axis] == face;
            let touching = logits.iter().enumerate().filter(|&(index, &logit)| logit > 0.0 && on_face(index)).count();
            touching as f32 > TOUCHING * (depth * height * width / frame.count[axis]) as f32
        })
    })
}

impl TrainingVolume {
    /// What the focused zoom-in sees around a box, inclusive corners (d, h, w): a window of image and mask, the mask with
    /// fractions where it was interpolated.
    pub fn focused(&self, corners: [Dhw; 2], window: Dhw) -> [Vec<f32>; 2] {
        let frame = Frame::focused(corners, window);
        let mask: Vec<f32> = self.mask.iter().map(|&value| f32::from(value)).collect();
        [&self.image, &mask].map(|data| frame.sample(data, self.size))
    }

    /// Where the bodies of an atlas lie in it; fitted by `threads` threads.
    pub fn fits(&self, atlas: &Atlas, threads: usize) -> Fits {
        atlas.fits(&self.image, self.size, self.spacing, self.body, threads)
    }

    /// What an atlas, and its bodies as they fit, expect in a box of such a window, `image`, inclusive corners (d, h, w) in its
    /// voxels; `corners` and `window` as for [`focused`](Self::focused).
    pub fn expected(
        &self,
        atlas: &Atlas,
        fits: &Fits,
        corners: [Dhw; 2],
        window: Dhw,
        image: &[f32],
        bounding_box: &[f32; 6],
    ) -> Vec<f32> {
        let frame = Frame::focused(corners, window);
        let scan = Scan { spacing: self.spacing, body: self.body, depth: self.size[0], fits, text: None };
        frame.expected(atlas, image, bounding_box, &scan)
    }
}

impl Session {
    /// Logits on the crop.
    pub(crate) fn focus(
        &mut self,
        prepared: &Prepared,
        placed: &Placed,
        report: &mut Report,
        hooks: &Hooks,
    ) -> Result<Vec<f32>> {
        let (size, count) = (prepared.size, prepared.window);
        let earlier = self.earlier_mask().map(|mask| prepared.to_crop_mask(&mask));
        let positive = placed.points.iter().any(|(_, positive)| *positive);
        hooks.step(Stage::ZoomOut, 0, 1)?;
        let (mut corners, before) = if let Some([low, high]) = &placed.bounding_box {
            ([low.crop, high.crop], earlier)
        } else if let Some((mask, found)) =
            earlier.and_then(|mask| found_and_pointed(&mask, size, &placed.points).map(|found| (mask, found)))
        {
            (found, Some(mask))
        } else {
            let found = if let Some(found) = self.known(prepared, placed, report) {
                found
            } else if positive {
                self.look_around(prepared, placed, report, hooks)?
            } else if self.model.atlas().is_some_and(|atlas| !atlas.structures().is_empty()) {
                // What is not where bodies have it the network would only guess.
                vec![BACKGROUND_LOGIT; prepared.image.len()]
            } else {
                let view = self.view(prepared, Frame::whole(size, count), None);
                self.look(placed, &view, None, report)
                    .map(|logits| view.frame.restore(&logits, size, BACKGROUND_LOGIT))?
            };
            let Some(around) = found_and_pointed(&found, size, &placed.points) else {
                report.notes.push("the zoom-out found nothing to zoom into".into());
                return Ok(found);
            };
            (midway(around, &positives(placed), size), Some(as_found(&found)))
        };
        hooks.step(Stage::ZoomOut, 1, 1)?;
        report.windows_total = 1;
        let passes = self.model.config().inference.passes;
        let mut view = self.view(prepared, Frame::focused(corners, count), Some(corners));
        let mut mask = before.map(|mask| view.frame.sample(&mask, size));
        let mut logits = Vec::new();
        for pass in 0..passes {
            hooks.step(Stage::ZoomIn, pass, passes)?;
            if pass > 0 && placed.bounding_box.is_some() {
                mask = Some(logits.iter().map(|&logit| f32::from(logit > 0.0)).collect());
            } else if pass > 0 {
                let found = view.frame.restore(&logits, size, BACKGROUND_LOGIT);
                corners = found_and_pointed(&found, size, &placed.points).unwrap_or(corners);
                view = self.view(prepared, Frame::focused(corners, count), Some(corners));
                mask = Some(view.frame.sample(&as_found(&found), size));
            }
            logits = self.look(placed, &view, mask.take(), report)?;
        }
        let frame = view.frame;
        report.region = Some(prepared.stored_region(frame.corners(size)));
        hooks.step(Stage::ZoomIn, passes, passes)?;
        let mut logits = frame.restore(&logits, size, BACKGROUND_LOGIT);
        frame.follow_edges(&mut logits, &prepared.image, size, SLAB);
        Ok(logits)
    }

    /// Where the bodies of the model's atlas have what is asked for, as logits on the crop: what the text names, or without one
    /// what most likely holds the points. `None` where they know no such thing, or have it elsewhere than the points.
    fn known(&self, prepared: &Prepared, placed: &Placed, report: &mut Report) -> Option<Vec<f32>> {
        let atlas = self.model.atlas()?;
        let (text, places) = (self.prompts.text.as_deref(), positives(placed));
        let likely = prepared.expected(atlas, text, &places, self.model.description().threads);
        if let (None, Some(text)) = (&likely, text) {
            report.notes.push(if atlas.knows(text) {
                format!("by the model's atlas the scan does not show a {text:?}")
            } else {
                let names = Vec::from_iter(atlas.structures()).join(", ");
                format!("the model's atlas knows no {text:?}; it knows {names}")
            });
        }
        let likely = likely?;
        let [_, height, width] = prepared.size;
        if places.iter().any(|[d, h, w]| likely[(d * height + h) * width + w] < HELD) {
            return None;
        }
        // Where it is at least half as likely as anywhere.
        let most = likely.iter().copied().fold(0.0, f32::max);
        Some(likely.into_iter().map(|likely| likely - most / 2.0).collect())
    }

    /// Follows points outwards: logits on the crop of the first window that the mask does not run out of.
    fn look_around(
        &mut self,
        prepared: &Prepared,
        placed: &Placed,
        report: &mut Report,
        hooks: &Hooks,
    ) -> Result<Vec<f32>> {
        let (size, count) = (prepared.size, prepared.window);
        let places = positives(placed);
        let low: Dhw = std::array::from_fn(|axis| places.iter().map(|place| place[axis]).min().unwrap_or(0));
        let high: Dhw = std::array::from_fn(|axis| places.iter().map(|place| place[axis]).max().unwrap_or(0));
        let centre = std::array::from_fn(|axis| (low[axis] + high[axis]) as f32 / 2.0);
        let finest = prepared.spacing.iter().copied().fold(f64::INFINITY, f64::min);
        let mut cell = finest as f32;
        loop {
            // Window voxels are cubes: nothing is known of the structure's shape yet.
            let extent: [f32; 3] =
                std::array::from_fn(|axis| count[axis] as f32 * cell / prepared.spacing[axis] as f32);
            let frame = Frame::around(centre, extent, count);
            let wide_enough = (0..3).all(|axis| (high[axis] - low[axis]) as f32 <= 0.8 * extent[axis]);
            if wide_enough {
                hooks.step(Stage::ZoomOut, 0, 1)?;
                let view = self.view(prepared, frame, None);
                let logits = self.look(placed, &view, None, report)?;
                if frame.holds(size) || !runs_out(&logits, &frame, size) {
                    return Ok(frame.restore(&logits, size, BACKGROUND_LOGIT));
                }
            }
            cell *= WIDEN;
        }
    }

    /// What is seen through a frame; `corners` are the first and last voxel of the crop that the structure takes, where they
    /// were prompted or found.
    fn view(&self, prepared: &Prepared, frame: Frame, corners: Option<[Dhw; 2]>) -> View {
        let image = frame.sample(&prepared.image, prepared.size);
        let prior = self.model.atlas().zip(corners).map(|(atlas, corners)| {
            let scan = Scan {
                spacing: prepared.spacing.map(|spacing| spacing as f32),
                body: prepared.body(),
                depth: prepared.size[0],
                fits: prepared.fits(atlas, self.model.description().threads),
                text: self.prompts.text.as_deref().filter(|text| atlas.knows(text)),
            };
            frame.expected(atlas, &image, &frame.place_box(corners), &scan)
        });
        View { frame, image, prior }
    }

    /// Whether the text says what a box is drawn around, and the atlas knows it: then it chooses among the atlas's
    /// structures, and the network, to which a word beside a box is worth less than nothing, is not told; unless an
    /// adapter has learned words.
    fn names_the_box(&self) -> bool {
        let known = |text| self.model.atlas().is_some_and(|atlas| atlas.knows(text));
        self.prompts.bounding_box.is_some()
            && self.adapter().is_none()
            && self.prompts.text.as_deref().is_some_and(known)
    }

    /// One look, with a previous mask of the window or without: its logits.
    fn look(
        &mut self,
        placed: &Placed,
        View { frame, image, prior }: &View,
        mask: Option<Vec<f32>>,
        report: &mut Report,
    ) -> Result<Vec<f32>> {
        let prompts = WindowPrompts {
            points: placed
                .points
                .iter()
                .map(|(point, positive)| (frame.place(point.crop), i8::from(*positive)))
                .filter(|(place, _)| frame.contains(place))
                .collect(),
            bounding_box: placed
                .bounding_box
                .as_ref()
                .map(|corners| frame.place_box(corners.map(|corner| corner.crop))),
            text: placed.text.clone().filter(|_| !self.names_the_box()),
            mask,
            prior: prior.clone(),
        };
        let embedding = self.encode(frame.key(), image, report)?;
        Ok(self.decode(&embedding, &prompts, report)?.logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_over_everything_at_its_own_size_changes_nothing() {
        let size = [3, 4, 5];
        let data: Vec<f32> = (0..60).map(|value| value as f32).collect();
        let frame = Frame::whole(size, size);
        assert_eq!(frame.sample(&data, size), data);
        assert_eq!(frame.restore(&data, size, -1.0), data);
        assert!(frame.holds(size));
    }

    #[test]
    fn what_is_larger_is_averaged_and_what_lies_outside_is_zero() {
        let size = [1, 1, 4];
        let frame = Frame::around([0.0, 0.0, 1.5], [1.0, 1.0, 4.0], [1, 1, 2]);
        assert_eq!(frame.sample(&[1.0, 3.0, 5.0, 7.0], size), [2.0, 6.0]);
        let frame = Frame::around([0.0, 0.0, 3.5], [1.0, 1.0, 4.0], [1, 1, 2]);
        assert_eq!(frame.sample(&[1.0, 3.0, 5.0, 7.0], size), [6.0, 0.0]);
        assert_eq!(frame.restore(&[1.0, 2.0], size, -9.0), [-9.0, -9.0, 1.0, 1.25]);
        assert!(!frame.holds(size));
    }

    #[test]
    fn a_box_takes_two_thirds_and_a_small_one_is_not_blown_up() {
        let frame = Frame::focused([[0, 10, 20], [31, 13, 51]], [48; 3]);
        assert_eq!(frame.step, [1.0, 0.5, 1.0]);
        let low = frame.place([0, 10, 20]);
        assert_eq!(low, [8.0, 20.5, 8.0]);
        // Four voxels of the crop are eight of the window.
        assert_eq!(frame.place_box([[0, 10, 20], [31, 13, 51]]), [8.0, 20.0, 8.0, 39.0, 27.0, 39.0]);
    }

    #[test]
    fn what_was_found_is_half_as_sure_as_a_mask() {
        assert_eq!(as_found(&[2.0, -2.0, 0.0, BACKGROUND_LOGIT]), [0.75, 0.25, 0.25, 0.25]);
    }

    #[test]
    fn points_widen_what_was_found_towards_what_they_would_span() {
        let (size, found) = ([40; 3], [[10, 10, 10], [13, 19, 30]]);
        let points = [[10, 14, 4], [12, 15, 20], [13, 16, 36]];
        // Three points span half of a structure: 8.5 to 14.5, 13 to 17, and -12 to 52.
        assert_eq!(midway(found, &points, size), [[9, 12, 0], [14, 18, 39]]);
        assert_eq!(midway(found, &points[..2], size), found);
        // What is looked at holds the points.
        assert_eq!(midway([[20; 3], [21; 3]], &[[2; 3], [2; 3], [3; 3]], size), [[2; 3], [12; 3]]);
    }

    #[test]
    fn edges_are_followed_the_same_a_few_planes_at_a_time() {
        let size = [23, 6, 7];
        let number = |index: usize, by: usize| (index * by % 101) as f32 / 101.0;
        let image: Vec<f32> = (0..23 * 6 * 7).map(|index| number(index, 37)).collect();
        // The window ends within the crop; a voxel of it is four deep.
        let frame = Frame::around([9.0, 2.5, 3.0], [16.0, 6.0, 7.0], [4, 6, 7]);
        let window: Vec<f32> = (0..4 * 6 * 7).map(|index| 20.0 * number(index, 53) - 10.0).collect();
        let before = frame.restore(&window, size, BACKGROUND_LOGIT);
        let follow = |slab: usize| {
            let mut logits = before.clone();
            frame.follow_edges(&mut logits, &image, size, slab);
            logits
        };
        let whole = follow(SLAB);
        assert_ne!(whole, before);
        assert!(whole.iter().zip(&before).all(|(a, b)| (*a == BACKGROUND_LOGIT) == (*b == BACKGROUND_LOGIT)));
        for planes in [1, 2, 5] {
            assert_eq!(follow(planes * 6 * 7), whole, "{planes} planes");
        }
    }

    #[test]
    fn a_mask_at_the_edge_of_the_image_does_not_run_out() {
        let size = [8, 8, 8];
        let set = vec![1.0; 64];
        assert!(!runs_out(&set, &Frame::around([3.5; 3], [8.0; 3], [4; 3]), size));
        assert!(runs_out(&set, &Frame::around([3.5; 3], [4.0; 3], [4; 3]), size));
        assert!(!runs_out(&[-1.0; 64], &Frame::around([3.5; 3], [4.0; 3], [4; 3]), size));
    }
}
