//! A model looking at one image: prompts, encoded windows, the mask, undo.

use crate::adapter::LoadedAdapter;
use crate::cache::{Cache, LIMIT_BYTES};
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::memory::{MemoryEstimate, available_bytes};
use crate::model::Model;
use crate::outcome::Outcome;
use crate::prepare::{BACKGROUND_LOGIT, Prepared};
use crate::prompt::{BoxPrompt, Modality, Mode, Point, PromptSet, Space};
use crate::reference::LabelledPoints;
use adaptmedseg_engine::{Adapted, TextEmbedding};
use adaptmedseg_model::adapter::AdapterContext;
use adaptmedseg_volume::preprocess::bounding_region;
use adaptmedseg_volume::{Geometry, NonFinite, Volume, sanitise};
use std::sync::Arc;

/// Prompts, and the mask they gave.
#[derive(Clone, Default)]
struct Step {
    prompts: PromptSet,
    outcome: Option<Arc<Outcome>>,
}

/// A model looking at one image. It belongs to one thread at a time.
pub struct Session {
    pub(crate) model: Model,
    pub(crate) image: Arc<Volume<f32>>,
    non_finite: NonFinite,
    pub(crate) mode: Mode,
    pub(crate) modality: Modality,
    adapter: Option<LoadedAdapter>,
    /// What context priors are told; its modality is the caller's own word for it, where there is one.
    context: AdapterContext,
    pub(crate) prompts: PromptSet,
    /// States after each segmentation, the empty one first.
    history: Vec<Step>,
    /// The state shown now.
    current: usize,
    /// Logits on the crop, of the last mask computed.
    logits: Option<(Arc<Outcome>, Vec<f32>)>,
    pub(crate) prepared: Option<Arc<Prepared>>,
    pub(crate) cache: Cache,
    pub(crate) text: Option<(String, TextEmbedding)>,
    pub(crate) draws: Option<Vec<LabelledPoints>>,
}

impl Session {
    /// Looks at an image. Nothing is computed yet.
    ///
    /// Voxels that are not finite are replaced by the rule of [`sanitise`] and counted in
    /// [`non_finite`](Self::non_finite).
    ///
    /// # Errors
    /// An image without a finite voxel, or with a single value.
    pub fn new(model: &Model, mut image: Arc<Volume<f32>>) -> Result<Self> {
        let mut non_finite = NonFinite::default();
        if image.data.iter().any(|value| !value.is_finite()) {
            non_finite = sanitise(Arc::make_mut(&mut image))?;
        }
        if image.data.windows(2).all(|pair| pair[0] == pair[1]) {
            let message = format!("constant image: every voxel is {}, there is nothing to segment", image.data[0]);
            return Err(adaptmedseg_volume::Error::InvalidVoxels { message }.into());
        }
        Ok(Self {
            model: model.clone(),
            image,
            non_finite,
            mode: Mode::default(),
            modality: Modality::default(),
            adapter: None,
            context: AdapterContext::default(),
            prompts: PromptSet::default(),
            history: vec![Step::default()],
            current: 0,
            logits: None,
            prepared: None,
            cache: Cache::new(model.engine().info().embedding_bytes),
            text: None,
            draws: None,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The grid of the image, and of every mask.
    pub fn geometry(&self) -> &Geometry {
        &self.image.geometry
    }

    /// Voxels that were not numbers and have been replaced.
    pub fn non_finite(&self) -> NonFinite {
        self.non_finite
    }

    /// Chooses how the volume is segmented. Encoded windows of the other mode are dropped.
    pub fn set_mode(&mut self, mode: Mode) {
        if mode != self.mode {
            self.mode = mode;
            self.prepared = None;
            self.cache.clear();
        }
    }

    /// How the volume is segmented.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Gives the points of each window in reference mode, which are else drawn at random: to repeat a run of the
    /// original whose draws are known.
    pub fn set_reference_draws(&mut self, draws: Option<Vec<LabelledPoints>>) {
        self.draws = draws;
    }

    /// Says where the scan comes from.
    pub fn set_modality(&mut self, modality: Modality) {
        self.modality = modality;
        self.context.modality = modality.prior_name().map(str::to_owned);
    }

    /// Says which modality's tokens the context prior of an adapter takes, where [`Modality`] is too coarse; none:
    /// unknown. [`set_modality`](Self::set_modality) chooses those of its own name.
    pub fn set_modality_prior(&mut self, modality: Option<&str>) {
        self.context.modality = modality.map(str::to_owned);
    }

    /// Where the scan comes from.
    pub fn modality(&self) -> Modality {
        self.modality
    }

    /// Uses an adapter, or none: then the model is the base, bit for bit. Encoded windows that depend on the choice are
    /// dropped.
    ///
    /// # Errors
    /// An adapter that was loaded for another model.
    pub fn set_adapter(&mut self, adapter: Option<&LoadedAdapter>) -> Result<()> {
        if adapter.is_some_and(|adapter| !adapter.belongs_to(&self.model)) {
            return Err(Error::argument(
                "the adapter was loaded for another model than the session's",
                "load it for the session's model",
            ));
        }
        let same = match (&self.adapter, adapter) {
            (Some(old), Some(new)) => old.is(new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            if self.adapter.iter().chain(adapter).any(LoadedAdapter::changes_encoder) {
                self.cache.clear();
            }
            self.adapter = adapter.cloned();
        }
        Ok(())
    }

    /// The adapter in use.
    pub fn adapter(&self) -> Option<&LoadedAdapter> {
        self.adapter.as_ref()
    }

    /// Says what is looked for, for the context prior of an adapter; none: unknown. It is never guessed from the text.
    ///
    /// # Errors
    /// A task that the adapter in use has no tokens for.
    pub fn set_task(&mut self, task: Option<&str>) -> Result<()> {
        let prior = self.adapter.as_ref().and_then(|adapter| adapter.config().prior.as_ref());
        if let (Some(task), Some(prior)) = (task, prior)
            && !prior.knows_task(task)
        {
            return Err(Error::argument(
                format!("the adapter knows no task {task:?}"),
                format!("it knows {}", prior.tasks.join(", ")),
            ));
        }
        self.context.task = task.map(str::to_owned);
        Ok(())
    }

    /// The task.
    pub fn task(&self) -> Option<&str> {
        self.context.task.as_deref()
    }

    /// The adapter in use with what its context prior is told.
    pub(crate) fn adapted(&self) -> Option<Adapted<'_>> {
        let adapter = self.adapter.as_ref()?;
        Some(Adapted { adapter: adapter.attached(), context: &self.context })
    }

    /// The prompts of the next [`segment`](Self::segment).
    pub fn prompts(&self) -> &PromptSet {
        &self.prompts
    }

    /// Names the structure, or forgets its name.
    ///
    /// # Errors
    /// A model without tokenizer; a name that is empty, has unknown words, or is too long.
    pub fn set_text(&mut self, text: Option<&str>) -> Result<()> {
        if let Some(text) = text {
            self.model.engine().check_text(text)?;
        }
        self.prompts.text = text.map(str::to_owned);
        Ok(())
    }

    /// Adds a point.
    ///
    /// # Errors
    /// A point outside the image.
    pub fn add_point(&mut self, point: Point) -> Result<()> {
        point.locate(self.geometry(), self.window())?;
        self.prompts.points.push(point);
        Ok(())
    }

    /// Forgets all points.
    pub fn clear_points(&mut self) {
        self.prompts.points.clear();
    }

    /// Sets the box, or forgets it.
    ///
    /// # Errors
    /// A box that is empty, inverted, or outside the image.
    pub fn set_box(&mut self, bounding_box: Option<BoxPrompt>) -> Result<()> {
        if let Some(bounding_box) = &bounding_box {
            bounding_box.locate(self.geometry(), self.window())?;
        }
        self.prompts.bounding_box = bounding_box;
        Ok(())
    }

    /// Sets the box to that of a previous mask: one byte per voxel of this image, i fastest, non-zero inside.
    ///
    /// # Errors
    /// A mask of another size, or an empty one.
    pub fn set_box_from_mask(&mut self, mask: &[u8]) -> Result<()> {
        let size = self.geometry().size;
        if mask.len() != self.geometry().voxel_count() {
            return Err(Error::argument(
                format!("the mask has {} voxels, the image {}", mask.len(), self.geometry().voxel_count()),
                "the mask must lie on the image's own grid",
            ));
        }
        let region = bounding_region(mask, size, |&value| value != 0)
            .ok_or_else(|| Error::argument("the mask is empty: it has no box", "give another mask, or a box"))?;
        let corners = [region.start.map(|index| index as f64 - 0.5), region.end.map(|index| index as f64 - 0.5)];
        self.set_box(Some(BoxPrompt { corners, space: Space::Ijk }))
    }

    /// Forgets all prompts.
    pub fn clear_prompts(&mut self) {
        self.prompts = PromptSet::default();
    }

    fn window(&self) -> [usize; 3] {
        self.model.config().image_encoder.image_size
    }

    /// Segments with the prompts there are.
    ///
    /// # Errors
    /// No prompt; too little memory; cancellation, which leaves everything as it was.
    pub fn segment(&mut self, hooks: &Hooks) -> Result<&Outcome> {
        if self.prompts.is_empty() {
            return Err(Error::argument("no prompt", "give a text, a point or a box"));
        }
        let estimate = self.estimate_memory();
        let needed = estimate.working + estimate.cache;
        if let Some(available) = available_bytes().filter(|&available| needed > available) {
            return Err(Error::OutOfMemory { needed: needed >> 20, available: available >> 20 });
        }
        let (outcome, logits) = self.run(hooks)?;
        let outcome = Arc::new(outcome);
        self.history.truncate(self.current + 1);
        self.history.push(Step { prompts: self.prompts.clone(), outcome: Some(outcome.clone()) });
        self.current += 1;
        self.logits = Some((outcome, logits));
        Ok(self.outcome().expect("just made"))
    }

    /// The mask of the run before, where this one only adds points to it: a correction. One byte per voxel.
    pub(crate) fn earlier_mask(&self) -> Option<Vec<u8>> {
        let Step { prompts, outcome } = &self.history[self.current];
        let (before, now) = (&prompts.points, &self.prompts.points);
        let adds = prompts.text == self.prompts.text
            && prompts.bounding_box == self.prompts.bounding_box
            && now.len() > before.len()
            && now[..before.len()] == before[..];
        let outcome = outcome.as_ref().filter(|outcome| adds && !prompts.is_empty() && outcome.voxels() > 0)?;
        Some(outcome.mask().data)
    }

    /// The current mask, if there is one.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.history[self.current].outcome.as_deref()
    }

    /// Goes back to the state after the segmentation before, prompts and mask together. False if there is none.
    pub fn undo(&mut self) -> bool {
        self.can_undo() && self.show(self.current - 1)
    }

    /// Takes back an [`undo`](Self::undo). False if there is none.
    pub fn redo(&mut self) -> bool {
        self.can_redo() && self.show(self.current + 1)
    }

    fn show(&mut self, step: usize) -> bool {
        self.current = step;
        self.prompts = self.history[step].prompts.clone();
        true
    }

    /// Whether there is a state to go back to.
    pub fn can_undo(&self) -> bool {
        self.current > 0
    }

    /// Whether there is an undo to take back.
    pub fn can_redo(&self) -> bool {
        self.current + 1 < self.history.len()
    }

    /// Memory a run will need. Exact sizes are known only once the image is cropped; this is the upper bound.
    pub fn estimate_memory(&self) -> MemoryEstimate {
        let info = self.model.engine().info();
        let voxels = self.geometry().voxel_count() as u64;
        // Turned copy, crop, coarse logits, sum (float32 each), count (16 bits), masks (three bytes).
        let working = info.working_bytes + voxels * (4 * 4 + 2 + 3);
        let window: usize = self.window().iter().product();
        let windows = 2 + 8 * voxels / window as u64;
        let cache = (windows * info.embedding_bytes).min(LIMIT_BYTES);
        let weights = self.model.description().weight_bytes;
        MemoryEstimate { weights, working, cache, total: weights + working + cache }
    }

    /// Logits on the image's grid. Outside the foreground, where the network does not look, they are -100.
    ///
    /// # Errors
    /// Nothing segmented, or the mask shown came back by undo: only the last run's logits are kept.
    pub fn logits(&self) -> Result<Volume<f32>> {
        let shown = self.history[self.current].outcome.as_ref();
        let missing = || Error::argument("there are no logits for this mask", "segment again");
        let (_, logits) = self
            .logits
            .as_ref()
            .filter(|(outcome, _)| shown.is_some_and(|shown| Arc::ptr_eq(shown, outcome)))
            .ok_or_else(missing)?;
        let prepared = self.prepared.as_ref().ok_or_else(missing)?;
        Ok(Volume { geometry: self.geometry().clone(), data: prepared.restore(logits, BACKGROUND_LOGIT) })
    }

    /// Probabilities on the image's grid, the sigmoid of [`logits`](Self::logits).
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn probabilities(&self) -> Result<Volume<f32>> {
        let mut volume = self.logits()?;
        for value in &mut volume.data {
            *value = 1.0 / (1.0 + (-*value).exp());
        }
        Ok(volume)
    }
}
