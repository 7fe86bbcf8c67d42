//! What a run learns from and what it holds out: volumes, windows, encoded windows that are kept.

use crate::error::{Error, Result};
use crate::options::FineTuneOptions;
use crate::pairs::{Split, TrainingPair};
use crate::prompts;
use crate::random::{Use, generator, shuffled};
use crate::run::FineTuneHooks;
use crate::sampling::{self, Place, Window};
use crate::validation::HeldOut;
use adaptmedseg_engine::{Engine, ImageEmbedding, TextEmbedding, TrainingSample, WindowPrompts};
use adaptmedseg_model::adapter::AdapterContext;
use adaptmedseg_model::anatomy::Fits;
use adaptmedseg_model::config::ZoomIn;
use adaptmedseg_segment::{Model, TrainingVolume};
use rand::Rng;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::OnceLock;

/// Held-out windows per volume, beside its zoom-out.
const HELD_OUT_PARTS: usize = 3;
/// Windows drawn in search of one with some of the structure in it.
const TRIES: usize = 50;

/// A volume that takes part, and what is known of it.
pub(crate) struct Case {
    volume: TrainingVolume,
    context: AdapterContext,
    text: Option<TextEmbedding>,
    name: String,
    /// Where the bodies of the model's atlas lie in the volume; fitted when first asked for.
    fits: OnceLock<Fits>,
}

impl Case {
    fn new(volume: TrainingVolume, context: AdapterContext, text: Option<TextEmbedding>, name: String) -> Self {
        Self { volume, context, text, name, fits: OnceLock::new() }
    }

    /// What the model's atlas expects in a box of a window, inclusive corners (d, h, w); `None` without an atlas, or where the
    /// window is no focused one.
    fn expected(&self, window: &Window, model: &Model, size: [usize; 3], corners: &[f32; 6]) -> Option<Vec<f32>> {
        let atlas = model.atlas()?;
        let fits = self.fits.get_or_init(|| self.volume.fits(atlas, model.description().threads));
        window.expected(&self.volume, (atlas, fits), size, corners)
    }
}

/// The volumes to learn from, the windows held out, and the hash of all of them.
pub(crate) fn prepare(
    model: &Model,
    pairs: &[TrainingPair],
    options: &FineTuneOptions,
    hooks: &FineTuneHooks,
) -> Result<(Vec<Case>, Vec<HeldOut>, String)> {
    if pairs.is_empty() {
        return Err(Error::argument("no training pairs", "give at least one image with a mask"));
    }
    let mut hash = Sha256::new();
    let mut cases = Vec::with_capacity(pairs.len());
    for pair in pairs {
        hooks.check()?;
        let volume = TrainingVolume::new(pair.image.as_ref().clone(), &pair.mask, model.config())?;
        if !volume.mask.contains(&1) {
            return Err(Error::argument(
                format!("{}: nothing of the structure lies in the image's foreground", pair.name),
                "check that image and mask belong together",
            ));
        }
        if volume.lost > 0 {
            log::warn!("{}: {} voxels of the structure lie outside the foreground", pair.name, volume.lost);
        }
        volume.image.iter().for_each(|value| hash.update(value.to_le_bytes()));
        hash.update(&volume.mask);
        let said = (&pair.label, &pair.task, &pair.modality, &pair.subject, &pair.split);
        hash.update(format!("{:?} {said:?}", volume.size));
        let text = match &pair.label {
            Some(label) if model.description().supports_text => Some(model.engine().encode_text(label)?),
            _ => None,
        };
        let context = AdapterContext { modality: pair.modality.clone(), task: pair.task.clone() };
        cases.push(Case::new(volume, context, text, pair.name.clone()));
    }
    let (training, validation) = split(cases, pairs, options)?;
    let size = model.config().image_encoder.image_size;
    let zoom_in = model.config().inference.zoom_in;
    let mut held_out = Vec::new();
    for (index, case) in validation.iter().enumerate() {
        let mut random = generator(options.seed, Use::Validation, index as u64);
        let places = sampling::grid(&case.volume, size, zoom_in);
        let chosen = places.iter().take(1).chain(
            places
                .iter()
                .skip(1)
                .step_by(((places.len().saturating_sub(1)) / HELD_OUT_PARTS).max(1))
                .take(HELD_OUT_PARTS),
        );
        for &place in chosen {
            let window = sampling::cut(&case.volume, place, size);
            if let Some(drawn) = prompts::draw(&window.target, size, case.text.as_ref(), 0.0, &mut random) {
                held_out.push(HeldOut {
                    combinations: drawn.iter().map(|(name, _)| *name).collect(),
                    sample: sample(case, window, drawn, None, size, model)?,
                });
            }
        }
    }
    if held_out.is_empty() {
        return Err(Error::argument(
            "nothing could be held out to tell when the adapter is good",
            "give a pair for validation, or a structure of at least two slices",
        ));
    }
    let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((training, held_out, hash))
}

/// Which volumes are learned from, and which are held out.
fn split(cases: Vec<Case>, pairs: &[TrainingPair], options: &FineTuneOptions) -> Result<(Vec<Case>, Vec<Case>)> {
    let marked = pairs.iter().any(|pair| pair.split == Some(Split::Validation));
    let subject = |index: usize| match &pairs[index].subject {
        Some(subject) => subject.clone(),
        None => format!("{index}"),
    };
    let mut subjects: Vec<String> = (0..pairs.len()).map(subject).collect();
    subjects.sort();
    subjects.dedup();
    let held: Vec<String> = if marked || subjects.len() < 2 {
        Vec::new()
    } else {
        let count = ((subjects.len() as f64 * options.validation_share).round() as usize).clamp(1, subjects.len() - 1);
        let order = shuffled(subjects.len(), &mut generator(options.seed, Use::Split, 0));
        order[..count].iter().map(|&index| subjects[index].clone()).collect()
    };
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for (index, case) in cases.into_iter().enumerate() {
        let aside = if marked { pairs[index].split == Some(Split::Validation) } else { held.contains(&subject(index)) };
        if aside {
            validation.push(case);
        } else {
            training.push(case);
        }
    }
    if training.is_empty() {
        return Err(Error::argument("every pair is marked for validation", "leave some to learn from"));
    }
    if validation.is_empty() {
        // A single subject: part of each volume is held out.
        for case in &mut training {
            if let Some([first, second]) = sampling::halves(&case.volume) {
                case.volume = first;
                validation.push(Case::new(second, case.context.clone(), case.text.clone(), case.name.clone()));
            }
        }
    }
    Ok((training, validation))
}

fn sample(
    case: &Case,
    window: Window,
    drawn: Vec<(&'static str, WindowPrompts)>,
    embedding: Option<ImageEmbedding>,
    size: [usize; 3],
    model: &Model,
) -> Result<TrainingSample> {
    let mut prompts: Vec<WindowPrompts> = drawn.into_iter().map(|(_, prompts)| prompts).collect();
    // All of them have the same box, or none.
    let corners = prompts.iter().find_map(|prompts| prompts.bounding_box);
    if let Some(corners) = corners
        && let Some(prior) = case.expected(&window, model, size, &corners)
    {
        let boxed = prompts.iter_mut().filter(|prompts| prompts.bounding_box.is_some());
        boxed.for_each(|prompts| prompts.prior = Some(prior.clone()));
    }
    let context = case.context.clone();
    Ok(TrainingSample { image: window.image, target: window.target, prompts, context, embedding })
}

/// Where the windows of a step come from.
pub(crate) struct Samples {
    pub(crate) cases: Vec<Case>,
    /// Of each case the places of a fixed grid, where encoded windows are kept.
    grids: Vec<Vec<Place>>,
    cache: HashMap<(usize, Place), ImageEmbedding>,
    capacity: usize,
    zoom_in: ZoomIn,
    model: Model,
}

impl Samples {
    pub(crate) fn new(cases: Vec<Case>, options: &FineTuneOptions, model: &Model) -> Self {
        let bytes = model.engine().info().embedding_bytes.max(1);
        let capacity = (options.cache_megabytes * (1 << 20) / bytes) as usize;
        let zoom_in = model.config().inference.zoom_in;
        Self { cases, grids: Vec::new(), cache: HashMap::new(), capacity, zoom_in, model: model.clone() }
    }

    /// The samples of a step: each volume once per epoch, in an order of the epoch's own.
    pub(crate) fn draw(
        &mut self,
        engine: &dyn Engine,
        size: [usize; 3],
        step: u64,
        kept: bool,
        options: &FineTuneOptions,
    ) -> Result<Vec<TrainingSample>> {
        let mut random = generator(options.seed, Use::Step, step);
        (0..options.accumulation as u64)
            .map(|index| {
                let number = step * options.accumulation as u64 + index;
                let (epoch, at) = (number / self.cases.len() as u64, number % self.cases.len() as u64);
                let order = shuffled(self.cases.len(), &mut generator(options.seed, Use::Epoch, epoch));
                let case = order[at as usize];
                if kept {
                    self.kept(engine, size, case, &mut random, options)
                } else {
                    self.fresh(size, case, &mut random, options)
                }
            })
            .collect()
    }

    /// A window drawn anew.
    fn fresh(
        &self,
        size: [usize; 3],
        case: usize,
        random: &mut impl Rng,
        options: &FineTuneOptions,
    ) -> Result<TrainingSample> {
        let case = &self.cases[case];
        for _ in 0..TRIES {
            let mut window =
                sampling::cut(&case.volume, sampling::place(&case.volume, size, self.zoom_in, random), size);
            if options.augment {
                sampling::augment(&mut window, size, random);
            }
            let text = case.text.as_ref();
            if let Some(drawn) = prompts::draw(&window.target, size, text, options.box_jitter, random) {
                return sample(case, window, drawn, None, size, &self.model);
            }
        }
        Err(Error::argument(
            format!("{}: no window with some of the structure in it was found", case.name),
            "the structure may be too small for this model's window",
        ))
    }

    /// A window of the fixed grid, encoded once.
    fn kept(
        &mut self,
        engine: &dyn Engine,
        size: [usize; 3],
        index: usize,
        random: &mut impl Rng,
        options: &FineTuneOptions,
    ) -> Result<TrainingSample> {
        if self.grids.is_empty() {
            self.grids = self.cases.iter().map(|case| sampling::grid(&case.volume, size, self.zoom_in)).collect();
        }
        let (case, places) = (&self.cases[index], &self.grids[index]);
        for _ in 0..TRIES {
            let Some(&place) = places.get(random.random_range(0..places.len().max(1))) else { break };
            let window = sampling::cut(&case.volume, place, size);
            let text = case.text.as_ref();
            let Some(drawn) = prompts::draw(&window.target, size, text, options.box_jitter, random) else { continue };
            let embedding = match self.cache.get(&(index, place)) {
                Some(embedding) => embedding.clone(),
                None => {
                    let embedding = engine.encode_image(&window.image, None)?;
                    if self.cache.len() < self.capacity {
                        self.cache.insert((index, place), embedding.clone());
                    }
                    embedding
                }
            };
            return sample(case, window, drawn, Some(embedding), size, &self.model);
        }
        Err(Error::argument(
            format!("{}: no window with some of the structure in it was found", case.name),
            "the structure may be too small for this model's window",
        ))
    }
}
