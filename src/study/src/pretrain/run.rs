//! The run: scenes, samples, steps, checkpoints, and the model at the end.

use super::sample::{self, Drawn};
use super::stage::Stage;
use super::{atlas, init, vocabulary};
use crate::error::{Error, Result};
use crate::partial::{Folder, difference};
use crate::phantom::PhantomModality;
use crate::schedule::Schedule;
use adaptmedseg_engine::{
    Engine, EngineOptions, Learns, ModelSource, TextEmbedding, Trainer, TrainerConfig, TrainerState, TrainingSample,
};
use adaptmedseg_model::adapter::AdapterContext;
use adaptmedseg_model::anatomy::Atlas;
use adaptmedseg_model::checkpoint::{Companions, ModelFolder, Precision, write_model};
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::train::{LossKind, OptimiserConfig};
use adaptmedseg_model::{NamedTensors, RawTensor};
use adaptmedseg_segment::CancelToken;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

/// The model of the last checkpoint, in the folder of the unfinished run.
const MODEL: &str = "model";
/// Scenes that are at hand at a time.
const SCENES: u64 = 96;
/// Samples that are drawn before one scene is replaced by a new one.
const SAMPLES_PER_SCENE: u64 = 40;
/// The held-out scenes are far beyond those of any run.
const HELD_OUT: u64 = 1 << 40;
/// How much of the weights' running average stays after a step: about 500 steps count.
const AVERAGE: f64 = 0.998;
/// Share of windows without nearness and likeness, and without regions.
const CUE_DROPOUT: f64 = 0.2;
/// Held-out samples; a short run is not measured on many more than it learns from.
const VALIDATION_SAMPLES: u64 = 60;
const FEWEST_SAMPLES: u64 = 6;
/// Most scenes of an atlas: every window is compared with the shapes of all.
const MOST_BODIES: u64 = 10_000;
/// Steps whose samples are drawn ahead, while a device is at work.
const AHEAD: usize = 2;

/// How to train from scratch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainOptions {
    /// Optimiser steps.
    pub steps: u64,
    /// Windows per step.
    pub batch: usize,
    /// Highest learning rate; it falls to a hundredth along a cosine.
    pub learning_rate: f64,
    /// Steps over which it rises at first.
    pub warmup_steps: u64,
    /// Everything random comes from it.
    pub seed: u64,
    /// What phantoms look like; none: like CT, like MR, and like nothing that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modality: Option<PhantomModality>,
    /// Steps between checkpoints, each with a validation and a model to look at.
    pub checkpoint_every: u64,
    /// Share of the weights it goes on from in those that are written, below 1: the mean of both often does better on what
    /// was never seen than either (Wortsman et al., arXiv 2109.01903).
    pub keep: f64,
    /// Draw a new atlas, even if the model it goes on from has one.
    pub new_atlas: bool,
    /// Bodies that a new atlas has shapes of.
    pub atlas_bodies: u64,
}

impl Default for PretrainOptions {
    fn default() -> Self {
        Self {
            steps: 5500,
            batch: 4,
            learning_rate: 8e-4,
            warmup_steps: 300,
            seed: 1,
            modality: None,
            checkpoint_every: 500,
            keep: 0.0,
            new_atlas: false,
            atlas_bodies: 240,
        }
    }
}

impl PretrainOptions {
    fn validate(&self) -> Result<()> {
        let wrong =
            |what: &str| Err(Error::argument(format!("pretraining: {what}"), "see `adaptmedseg pretrain --help`"));
        if self.steps == 0 || self.batch == 0 || self.checkpoint_every == 0 {
            return wrong("steps, batch and checkpoint-every must be at least 1");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return wrong("the learning rate must be above 0");
        }
        if !(0.0..1.0).contains(&self.keep) {
            return wrong("keep must be from 0 to below 1");
        }
        if !(1..=MOST_BODIES).contains(&self.atlas_bodies) {
            return wrong(&format!("the bodies of an atlas must be 1 to {MOST_BODIES}"));
        }
        Ok(())
    }
}

/// What a caller may hang into a run.
#[derive(Clone, Copy, Default)]
pub struct PretrainHooks<'a> {
    /// Called after every step.
    pub progress: Option<&'a dyn Fn(&PretrainProgress)>,
    /// Looked at before every step.
    pub cancel: Option<&'a CancelToken>,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub struct PretrainProgress {
    /// Steps taken.
    pub step: u64,
    /// Steps there are.
    pub total: u64,
    /// Loss of the last step.
    pub loss: f64,
    /// Seconds left, if it goes on as it went.
    pub seconds_left: f64,
    /// The validation, where there was one at this step.
    pub validation: Option<PretrainValidation>,
}

/// What held-out phantoms say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainValidation {
    /// Steps taken.
    pub step: u64,
    /// Mean loss.
    pub loss: f64,
    /// Mean Dice of the masks, for each kind of prompt.
    pub dice: BTreeMap<String, f64>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainReport {
    /// How it was trained.
    pub options: PretrainOptions,
    /// Seconds, over all parts of the run.
    pub seconds: f64,
    /// The last validation.
    pub validation: PretrainValidation,
}

/// `last.json` of an unfinished run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Last {
    options: PretrainOptions,
    config: ModelConfig,
    step: u64,
    seconds: f64,
}

/// Trains a model from scratch on phantoms drawn as it goes, and writes its folder, in half precision, to `out`.
///
/// While the run goes on, `out.partial` holds a state to resume from, `metrics.jsonl`, and in `model` the model of the last
/// checkpoint. `from`, where given, is a model to go on from, of the same architecture, with its atlas. Numbers do not depend on the number
/// of threads or on whether the run was interrupted; from device to device they differ as rounding does.
///
/// # Errors
/// Options that cannot be; a name that is taken; a run that cannot be resumed; a cancellation, which leaves a state to
/// resume from.
pub fn pretrain(
    config: &ModelConfig,
    options: &PretrainOptions,
    from: Option<&ModelFolder>,
    compute: &EngineOptions,
    out: &Path,
    resume: bool,
    hooks: &PretrainHooks,
) -> Result<PretrainReport> {
    options.validate()?;
    config.validate()?;
    if options.keep > 0.0 && from.is_none() {
        return Err(Error::argument("pretraining: keep without a model to go on from", "give the model"));
    }
    if out.exists() {
        return Err(Error::argument(format!("{} exists", out.display()), "choose another name, or move it away"));
    }
    let tokenizer = vocabulary::tokenizer();
    let tensors = match from {
        Some(folder) if folder.config() == config => ModelSource::of(folder).tensors,
        Some(folder) => {
            return Err(Error::argument(
                format!("{} has another architecture", folder.path().display()),
                "start from a model of this one",
            ));
        }
        None => {
            let weights = init::weights(config, options.seed).into_iter();
            weights.map(|(name, (shape, data))| (name, RawTensor::from_f32(shape, &data))).collect()
        }
    };
    let source = ModelSource { config: config.clone(), tokenizer: Some(tokenizer.clone().into_bytes()), tensors };
    let engine = adaptmedseg_engine::open(&source, compute)?;
    let trainer = TrainerConfig {
        loss: LossKind::Volume,
        optimiser: OptimiserConfig { beta2: 0.99, weight_decay: 0.02, clip_norm: Some(1.0), ..Default::default() },
        gradient_checkpointing: false,
        parallel_samples: true,
        average: Some(AVERAGE),
        modality_loss_weight: 0.0,
        cue_dropout: Some(CUE_DROPOUT),
    };
    let trainer = engine.trainer(Learns::Weights(vec![String::new()]), trainer)?;
    let former = if options.keep > 0.0 { Some(trainer.weights()?) } else { None };
    // The host's own pool of threads is left alone.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(compute.thread_count()).build();
    let pool =
        pool.map_err(|error| Error::argument(format!("no threads to draw samples with: {error}"), "use fewer"))?;
    let (folder, step, seconds) = open(out, config, options, resume)?;
    let begun = if step > 0 { Some(ModelFolder::open(folder.path().join(MODEL))?) } else { None };
    let known = begun
        .as_ref()
        .or(from.filter(|_| !options.new_atlas))
        .and_then(ModelFolder::atlas)
        .filter(|atlas| !atlas.is_empty());
    let atlas = known.map_or_else(|| atlas::atlas(options.seed, options.atlas_bodies, &pool), Clone::clone);
    let mut run = Run {
        config,
        options,
        engine: engine.as_ref(),
        trainer,
        former,
        tokenizer: &tokenizer,
        folder,
        texts: HashMap::new(),
        held_out: Vec::new(),
        pool: &pool,
        atlas: &atlas,
        step,
        seconds,
    };
    if step > 0 {
        let tensors = run.folder.read_state(step)?;
        run.trainer.restore(&TrainerState { steps: step, tensors })?;
    }
    run.go(out, hooks)
}

/// The folder of the unfinished run, and how far it had come.
fn open(out: &Path, config: &ModelConfig, options: &PretrainOptions, resume: bool) -> Result<(Folder, u64, f64)> {
    if !resume {
        if crate::partial::folder_of(out).exists() {
            return Err(Error::argument(
                format!("an unfinished run of {} is there", out.display()),
                "resume it, or move it away",
            ));
        }
        return Ok((Folder::create(out)?, 0, 0.0));
    }
    let folder = Folder::existing(out)?;
    let Some(last) = folder.read_last::<Last>()? else { return Ok((folder, 0, 0.0)) };
    // More steps may be asked for than at first only by starting from the model: the learning rate's course would change.
    let differs = difference("options", &last.options, options)
        .or_else(|| (last.config != *config).then(|| "the architecture is another".to_owned()));
    if let Some(differs) = differs {
        return Err(Error::argument(
            format!("{} cannot be resumed: {differs}", out.display()),
            "give what it was started with, or start anew",
        ));
    }
    folder.cut_metrics(|value| value["step"].as_u64().is_some_and(|step| step <= last.step))?;
    Ok((folder, last.step, last.seconds))
}

/// Where the samples of a run come from.
struct Source<'a> {
    options: &'a PretrainOptions,
    atlas: &'a Atlas,
    /// The window's.
    size: [usize; 3],
    pool: &'a rayon::ThreadPool,
    /// The scenes at hand, by their numbers, each made when it is first drawn from.
    scenes: VecDeque<(u64, OnceLock<Stage>)>,
}

impl Source<'_> {
    /// The samples of a step.
    fn draw(&mut self, step: u64) -> Vec<Drawn> {
        let &PretrainOptions { seed, modality, batch, .. } = self.options;
        let (size, batch) = (self.size, batch as u64);
        let first = step * batch;
        // Which scenes are at hand depends on the step alone.
        let oldest = first / SAMPLES_PER_SCENE;
        while self.scenes.front().is_some_and(|(index, _)| *index < oldest) {
            self.scenes.pop_front();
        }
        let next = self.scenes.back().map_or(oldest, |(index, _)| index + 1);
        let new = next..oldest + SCENES;
        self.scenes.extend(new.map(|index| (index, OnceLock::new())));
        let (scenes, atlas) = (&self.scenes, self.atlas);
        let draw = |number: u64| {
            // Attempts that miss the structure are numbered beyond all samples.
            let attempt = |attempt: u64| {
                let number = number + (attempt << 41);
                let scene = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % SCENES;
                let (index, stage) = &scenes[scene as usize];
                let stage = stage.get_or_init(|| Stage::fitted(seed, *index, atlas));
                sample::draw(stage, atlas, size, modality, seed, number)
            };
            (0..).find_map(attempt).expect("the attempts do not end")
        };
        self.pool.install(|| (first..first + batch).into_par_iter().map(draw).collect())
    }
}

struct Run<'a> {
    config: &'a ModelConfig,
    options: &'a PretrainOptions,
    engine: &'a dyn Engine,
    trainer: Box<dyn Trainer>,
    /// The weights it began with, where they are part of those that are written.
    former: Option<NamedTensors>,
    tokenizer: &'a str,
    folder: Folder,
    /// The text encoder does not learn: each name is encoded once.
    texts: HashMap<String, TextEmbedding>,
    held_out: Vec<(TrainingSample, &'static str)>,
    pool: &'a rayon::ThreadPool,
    atlas: &'a Atlas,
    step: u64,
    seconds: f64,
}

impl Run<'_> {
    fn go(self, out: &Path, hooks: &PretrainHooks) -> Result<PretrainReport> {
        let mut source = Source {
            options: self.options,
            atlas: self.atlas,
            size: self.config.image_encoder.image_size,
            pool: self.pool,
            scenes: VecDeque::new(),
        };
        std::thread::scope(|scope| {
            let (send, drawn) = sync_channel(AHEAD);
            let steps = self.step..self.options.steps;
            scope.spawn(move || {
                // Until nobody wants them any more.
                let _ = steps.map(|step| source.draw(step)).try_for_each(|drawn| send.send(drawn));
            });
            self.learn(drawn, out, hooks)
        })
    }

    /// The steps, with the samples of each as they come.
    fn learn(mut self, drawn: Receiver<Vec<Drawn>>, out: &Path, hooks: &PretrainHooks) -> Result<PretrainReport> {
        let (mut began, begun_at) = (Instant::now(), self.step);
        let mut elapsed = 0.0;
        let total = self.options.steps;
        let schedule = Schedule {
            peak: self.options.learning_rate,
            floor: self.options.learning_rate / 100.0,
            warmup: self.options.warmup_steps,
            total,
        };
        let mut validation = None;
        while self.step < total {
            if hooks.cancel.is_some_and(CancelToken::is_cancelled) {
                self.checkpoint()?;
                return Err(Error::from(adaptmedseg_segment::Error::Cancelled));
            }
            let drawn = drawn.recv().expect("they are drawn up to the last step");
            let samples = drawn.into_iter().map(|drawn| self.sample(drawn)).collect::<Result<Vec<_>>>()?;
            let rate = schedule.rate(self.step);
            let report = self.trainer.step(&samples, rate)?;
            self.step += 1;
            let now = began.elapsed().as_secs_f64();
            (began, elapsed) = (Instant::now(), elapsed + now);
            self.seconds += now;
            self.folder.log(&json!({
                "step": self.step, "loss": report.loss, "dice_loss": report.dice, "bce": report.bce,
                "gradient_norm": report.gradient_norm, "learning_rate": rate,
            }))?;
            validation = None;
            if self.step.is_multiple_of(self.options.checkpoint_every) || self.step == total {
                let found = self.validate()?;
                self.folder.log(&json!({"step": self.step, "validation": found}))?;
                self.checkpoint()?;
                validation = Some(found);
            }
            if let Some(progress) = hooks.progress {
                progress(&PretrainProgress {
                    step: self.step,
                    total,
                    loss: report.loss,
                    seconds_left: elapsed / (self.step - begun_at) as f64 * (total - self.step) as f64,
                    validation: validation.clone(),
                });
            }
        }
        let validation = match validation {
            Some(validation) => validation,
            None => self.validate()?,
        };
        let report = PretrainReport { options: self.options.clone(), seconds: self.seconds, validation };
        let card = card(&report);
        self.write(out, &card)?;
        self.folder.report(out, "pretrain.json", &report)?;
        self.folder.remove()?;
        Ok(report)
    }

    fn sample(&mut self, drawn: Drawn) -> Result<TrainingSample> {
        let Drawn { view, mut prompts, text, .. } = drawn;
        if let Some(name) = text {
            let embedding = match self.texts.get(&name) {
                Some(embedding) => embedding.clone(),
                None => self.texts.entry(name.clone()).or_insert(self.engine.encode_text(&name)?).clone(),
            };
            prompts.text = Some(embedding);
        }
        let context = AdapterContext::default();
        Ok(TrainingSample { image: view.image, target: view.target, prompts: vec![prompts], context, embedding: None })
    }

    fn validate(&mut self) -> Result<PretrainValidation> {
        if self.held_out.is_empty() {
            let &PretrainOptions { seed, modality, steps, batch, .. } = self.options;
            let size = self.config.image_encoder.image_size;
            let samples = steps.saturating_mul(batch as u64).clamp(FEWEST_SAMPLES, VALIDATION_SAMPLES);
            let draw = |index| {
                let stage = Stage::fitted(seed, HELD_OUT + index / 3, self.atlas);
                sample::draw(&stage, self.atlas, size, modality, seed, HELD_OUT + index)
            };
            let drawn: Vec<Drawn> = self.pool.install(|| (0..samples).into_par_iter().filter_map(draw).collect());
            for drawn in drawn {
                let kind = drawn.kind;
                let sample = self.sample(drawn)?;
                self.held_out.push((sample, kind));
            }
        }
        let mut loss = 0.0;
        let mut dice: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (sample, kind) in &self.held_out {
            let found = self.trainer.evaluate(sample)?;
            loss += found.loss / self.held_out.len() as f64;
            let (mut both, mut either) = (0.0, 0.0);
            for (logit, target) in found.logits[0].iter().zip(&sample.target) {
                let (found, wanted) = (f64::from(u8::from(*logit > 0.0)), f64::from(u8::from(*target > 0.5)));
                both += found * wanted;
                either += found + wanted;
            }
            dice.entry((*kind).to_owned()).or_default().push(2.0 * both / f64::max(either, 1.0));
        }
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        Ok(PretrainValidation {
            step: self.step,
            loss,
            dice: dice.into_iter().map(|(kind, values)| (kind, mean(values))).collect(),
        })
    }

    fn checkpoint(&mut self) -> Result<()> {
        // The model first: a run that is resumed takes its atlas from there.
        self.write(&self.folder.path().join(MODEL), "An unfinished model.\n")?;
        let state = self.trainer.state()?;
        let last =
            Last { options: self.options.clone(), config: self.config.clone(), step: self.step, seconds: self.seconds };
        self.folder.checkpoint(self.step, &state.tensors, &last)
    }

    fn write(&self, to: &Path, card: &str) -> Result<()> {
        let companions = Companions { tokenizer: Some(self.tokenizer.as_bytes()), atlas: Some(self.atlas), card };
        let mut weights = self.trainer.weights()?;
        if let Some(former) = &self.former {
            let keep = self.options.keep as f32;
            for ((_, weights), (_, former)) in weights.values_mut().zip(former.values()) {
                weights.iter_mut().zip(former).for_each(|(weight, former)| *weight += keep * (former - *weight));
            }
        }
        Ok(write_model(to, true, self.config, &weights, companions, Precision::Half)?)
    }
}

/// `MODEL_CARD.md` of a model that has just been trained: what is known without a test on real scans.
fn card(report: &PretrainReport) -> String {
    let PretrainOptions { steps, batch, learning_rate, seed, modality, keep, .. } = report.options;
    let look =
        modality.map_or_else(|| "with random contrast".to_owned(), |modality| format!("like {}", modality.name()));
    let mut text = format!(
        "# Model card\n\nTrained from scratch by `adaptmedseg pretrain` on generated phantoms {look}: {steps} steps of \
         {batch} windows, learning rate {learning_rate}, seed {seed}, {:.0} s. A demonstration, not for clinical use.\n\n\
         Dice on held-out phantoms:\n\n| prompt | Dice |\n|---|---|\n",
        report.seconds
    );
    for (kind, dice) in &report.validation.dice {
        text.push_str(&format!("| {kind} | {dice:.3} |\n"));
    }
    if keep > 0.0 {
        text.push_str(&format!(
            "\nThat was measured on what was learned alone; {keep} of the weights are those that it went on from.\n"
        ));
    }
    text
}
