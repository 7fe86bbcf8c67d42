//! One segmentation: zoom out, zoom in, put together.

use crate::cache::Key;
use crate::error::Result;
use crate::guided::Guide;
use crate::hooks::{Hooks, Stage};
use crate::outcome::{Outcome, Report};
use crate::prepare::{Located, Prepared, reversed};
use crate::prompt::Mode;
use crate::reference::{self, PromptMap, SeededDraw, Zoom};
use crate::session::Session;
use crate::windows::{Array, Stitch};
use adaptmedseg_engine::{Decoded, ImageEmbedding, TextEmbedding, WindowPrompts};
use adaptmedseg_model::config::ZoomIn;
use adaptmedseg_volume::Region;
use adaptmedseg_volume::preprocess::{crop_slice, paste_slice, resize_nearest};
use std::sync::Arc;
use std::time::Instant;

/// Prompts where the image is known: on the crop and on the zoom-out grid.
pub(crate) struct Placed {
    pub(crate) points: Vec<(Located, bool)>,
    pub(crate) bounding_box: Option<[Located; 2]>,
    pub(crate) text: Option<TextEmbedding>,
}

impl Placed {
    /// The prompts of the zoom-out.
    fn zoomed_out(&self) -> WindowPrompts {
        let place = |located: &Located| located.zoom.map(|index| index as f32);
        WindowPrompts {
            points: self.points.iter().map(|(point, positive)| (place(point), i8::from(*positive))).collect(),
            bounding_box: self.bounding_box.as_ref().map(|[low, high]| {
                let ([a, b, c], [d, e, f]) = (place(low), place(high));
                [a, b, c, d, e, f]
            }),
            text: self.text.clone(),
            ..Default::default()
        }
    }
}

/// Adds the time since `start` to a stage.
fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *seconds += start.elapsed().as_secs_f64();
    result
}

impl Session {
    /// Segments; returns the outcome and the logits on the crop.
    pub(crate) fn run(&mut self, hooks: &Hooks) -> Result<(Outcome, Vec<f32>)> {
        let start = Instant::now();
        let mut report =
            Report { mode: self.mode, modality: self.modality, prompts: self.prompts.clone(), ..Default::default() };
        if self.non_finite().total() > 0 {
            report.notes.push(format!("{} voxels that were not finite were replaced", self.non_finite().total()));
        }
        hooks.step(Stage::Preprocess, 0, 1)?;
        let prepared = self.prepare(&mut report)?;
        let placed = self.place(&prepared, &mut report)?;

        let logits = match (self.mode, self.model.config().inference.zoom_in) {
            (Mode::Default, ZoomIn::Focus) => self.focus(&prepared, &placed, &mut report, hooks)?,
            (Mode::Default, ZoomIn::Sliding) => {
                let mut logits = self.zoom_out(&prepared, &placed, &mut report, hooks)?;
                self.zoom_in(&prepared, placed, &mut logits, &mut report, hooks)?;
                logits
            }
            (Mode::Reference, _) => {
                let mut logits = self.zoom_out(&prepared, &placed, &mut report, hooks)?;
                self.zoom_in_as_reference(&prepared, &placed, &mut logits, &mut report, hooks)?;
                logits
            }
        };

        hooks.step(Stage::Finish, 0, 1)?;
        let mask: Vec<bool> = timed(&mut report.seconds.stitch, || {
            let crop: Vec<bool> = logits.iter().map(|&logit| logit > 0.0).collect();
            prepared.restore(&crop, false)
        });
        report.seconds.total = start.elapsed().as_secs_f64();
        let outcome = Outcome::new(self.geometry().clone(), &mask, report);
        // The last look at the token: from here on the run has happened.
        hooks.step(Stage::Finish, 1, 1)?;
        Ok((outcome, logits))
    }

    /// The whole volume at low resolution: logits on the crop.
    fn zoom_out(
        &mut self,
        prepared: &Prepared,
        placed: &Placed,
        report: &mut Report,
        hooks: &Hooks,
    ) -> Result<Vec<f32>> {
        hooks.step(Stage::ZoomOut, 0, 2)?;
        let whole = self.encode(Key::Whole, &prepared.zoom, report)?;
        hooks.step(Stage::ZoomOut, 1, 2)?;
        let coarse = self.decode(&whole, &placed.zoomed_out(), report)?.logits;
        hooks.step(Stage::ZoomOut, 2, 2)?;
        Ok(resize_nearest(&coarse, reversed(prepared.window), reversed(prepared.size)))
    }

    fn prepare(&mut self, report: &mut Report) -> Result<Arc<Prepared>> {
        if let Some(prepared) = &self.prepared {
            return Ok(prepared.clone());
        }
        let prepared = timed(&mut report.seconds.preprocess, || {
            Prepared::new(&self.image, self.model.config(), self.mode).map(Arc::new)
        })?;
        self.prepared = Some(prepared.clone());
        Ok(prepared)
    }

    fn place(&mut self, prepared: &Prepared, report: &mut Report) -> Result<Placed> {
        let points = self.prompts.points.iter().map(|point| Ok((prepared.point(point)?, point.positive)));
        let points = points.collect::<Result<Vec<_>>>()?;
        let bounding_box = self.prompts.bounding_box.as_ref().map(|cube| prepared.corners(cube)).transpose()?;
        let text = match self.prompts.text.clone() {
            None => None,
            Some(name) => Some(self.encode_text(name, report)?),
        };
        Ok(Placed { points, bounding_box, text })
    }

    fn encode_text(&mut self, name: String, report: &mut Report) -> Result<TextEmbedding> {
        if let Some((_, embedding)) = self.text.as_ref().filter(|(known, _)| *known == name) {
            return Ok(embedding.clone());
        }
        let embedding = timed(&mut report.seconds.text, || self.model.engine().encode_text(&name))?;
        self.text = Some((name, embedding.clone()));
        Ok(embedding)
    }

    pub(crate) fn encode(&mut self, key: Key, window: &[f32], report: &mut Report) -> Result<ImageEmbedding> {
        if let Some(embedding) = self.cache.get(key) {
            report.windows_cached += 1;
            return Ok(embedding);
        }
        let embedding = timed(&mut report.seconds.encode, || {
            self.model.engine().encode_image(window, self.adapted().map(|adapted| adapted.adapter))
        })?;
        report.windows_encoded += 1;
        self.cache.put(key, embedding.clone());
        Ok(embedding)
    }

    pub(crate) fn decode(
        &self,
        image: &ImageEmbedding,
        prompts: &WindowPrompts,
        report: &mut Report,
    ) -> Result<Decoded> {
        Ok(timed(&mut report.seconds.decode, || self.model.engine().decode(image, prompts, self.adapted()))?)
    }

    fn zoom_in(
        &mut self,
        prepared: &Prepared,
        placed: Placed,
        logits: &mut [f32],
        report: &mut Report,
        hooks: &Hooks,
    ) -> Result<()> {
        let guide = Guide { points: placed.points, bounding_box: placed.bounding_box, text: placed.text };
        let coarse: Vec<bool> = logits.iter().map(|&logit| logit > 0.0).collect();
        let overlap = self.model.config().inference.overlap;
        let (region, tasks) = guide.plan(prepared, &coarse, overlap);
        drop(coarse);
        report.region = region.map(|region| prepared.stored_region(region));
        report.windows_total = tasks.len();
        if tasks.is_empty() {
            report.notes.push("the zoom-out found nothing to zoom into".into());
            return Ok(());
        }
        let image = Array { data: &prepared.image, size: prepared.size };
        let mut stitch = Stitch::new(prepared.size);
        for (index, task) in tasks.iter().enumerate() {
            hooks.step(Stage::ZoomIn, index, tasks.len())?;
            let window = image.cut(task.start, prepared.window);
            let embedding = self.encode(Key::Window(task.start), &window, report)?;
            let decoded = self.decode(&embedding, &task.prompts, report)?;
            timed(&mut report.seconds.stitch, || stitch.add(&decoded.logits, task.start, prepared.window));
        }
        hooks.step(Stage::ZoomIn, tasks.len(), tasks.len())?;
        timed(&mut report.seconds.stitch, || stitch.finish(logits));
        Ok(())
    }

    fn zoom_in_as_reference(
        &self,
        prepared: &Prepared,
        placed: &Placed,
        logits: &mut [f32],
        report: &mut Report,
        hooks: &Hooks,
    ) -> Result<()> {
        let mut draws = SeededDraw::new(0);
        let known = self.draws.as_ref();
        let mut draw = |window: usize, places: &[[usize; 3]]| {
            known.and_then(|known| known.get(window).cloned()).unwrap_or_else(|| draws.draw(places))
        };
        let map = self.prompt_map(prepared, placed)?;
        let coarse: Vec<bool> = logits.iter().map(|&logit| logit > 0.0).collect();
        let size = prepared.size;
        let Some([low, high]) = reference::region_of_interest(&coarse, size, prepared.window) else {
            report.notes.push("the zoom-out found nothing to zoom into".into());
            return Ok(());
        };
        // Quirk 40: the upper bound may be the size itself; the slice ends there.
        let last: [usize; 3] = std::array::from_fn(|axis| high[axis].min(size[axis] - 1));
        let region = Region { start: reversed(low), end: reversed(last).map(|index| index + 1) };
        report.region = Some(prepared.stored_region([low, last]));
        let whole = reversed(size);
        let cut = |map: &[bool]| crop_slice(map, whole, &region);
        let prompt = match &map {
            PromptMap::None => PromptMap::None,
            PromptMap::Box(map) => PromptMap::Box(cut(map)),
            PromptMap::Points(map) => PromptMap::Points(cut(map)),
        };
        let zoom = Zoom {
            image: &crop_slice(&prepared.image, whole, &region),
            size: reversed(region.size()),
            coarse: &cut(&coarse),
            prompt: &prompt,
            text: placed.text.as_ref(),
            overlap: self.model.config().inference.overlap,
            adapted: self.adapted(),
        };
        let mut seconds = 0.0;
        let zoomed = timed(&mut seconds, || reference::zoom_in(self.model.engine(), &zoom, &mut draw, hooks))?;
        // Encoding and decoding are not told apart here: the reference's loop has no use for a cache.
        report.seconds.encode += seconds;
        report.windows_total = zoomed.starts.len();
        report.windows_encoded += zoomed.starts.len();
        paste_slice(logits, whole, &zoomed.logits, &region);
        Ok(())
    }

    /// The zoom-out prompt as a map on the crop (quirks 35 and 44-46).
    fn prompt_map(&self, prepared: &Prepared, placed: &Placed) -> Result<PromptMap> {
        reference::refuse_box_with_points(!placed.points.is_empty(), placed.bounding_box.is_some())?;
        let [nd, nh, nw] = prepared.window;
        let mut map = vec![false; nd * nh * nw];
        let index = |place: [f64; 3]| place.map(|index| index as usize);
        let grown = |map: &[bool]| resize_nearest(map, reversed(prepared.window), reversed(prepared.size));
        if let Some([low, high]) = &placed.bounding_box {
            let ([d0, h0, w0], [d1, h1, w1]) = (index(low.zoom), index(high.zoom));
            for d in d0..=d1 {
                for h in h0..=h1 {
                    map[(d * nh + h) * nw..][w0..=w1].fill(true);
                }
            }
            return Ok(PromptMap::Box(grown(&map)));
        }
        if placed.points.is_empty() {
            return Ok(PromptMap::None);
        }
        for (point, _) in placed.points.iter().filter(|(_, positive)| *positive) {
            let [d, h, w] = index(point.zoom);
            map[(d * nh + h) * nw + w] = true;
        }
        Ok(PromptMap::Points(grown(&map)))
    }
}
