//! The run: steps, validations, checkpoints, the best adapter.

use crate::data::{Samples, prepare};
use crate::error::{Error, Result};
use crate::options::FineTuneOptions;
use crate::pairs::TrainingPair;
use crate::partial::{Partial, Progress, folder_of};
use crate::schedule::Schedule;
use crate::validation::{HeldOut, validate};
use adaptmedseg_engine::{Engine, Trainer, TrainerConfig};
use adaptmedseg_model::adapter::{ADAPTER_CONFIG_FILE, Adapter, AdapterConfig};
use adaptmedseg_segment::{CancelToken, Model};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// How a run begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing of this name may be there.
    #[default]
    New,
    /// What is there of this name, finished or not, is replaced.
    Overwrite,
    /// An unfinished run of this name goes on.
    Resume,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub struct FineTuneProgress<'a> {
    /// Steps taken.
    pub step: u64,
    /// Steps there may be.
    pub total: u64,
    /// Loss of the last step; not a number before the first.
    pub loss: f64,
    /// The validation that was just made, if one was.
    pub validation: Option<&'a Validation>,
    /// Seconds to the end, as things go.
    pub seconds_left: f64,
}

/// What a caller may hang into a run.
#[derive(Clone, Copy, Default)]
pub struct FineTuneHooks<'a> {
    /// Called on the calling thread after every step and every validation.
    pub progress: Option<&'a (dyn Fn(&FineTuneProgress) + 'a)>,
    /// Looked at before every step and every held-out window.
    pub cancel: Option<&'a CancelToken>,
}

impl FineTuneHooks<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.is_some_and(CancelToken::is_cancelled) {
            return Err(adaptmedseg_segment::Error::Cancelled.into());
        }
        Ok(())
    }
}

/// How good an adapter was on what is held out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps it had learned.
    pub step: u64,
    /// Loss, as training computes it.
    pub loss: f64,
    /// Dice, averaged over the combinations of prompts.
    pub dice: f64,
    /// Dice of each combination.
    pub dice_by_prompt: BTreeMap<String, f64>,
}

/// How a run went: `finetune.json` of its adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuneReport {
    /// Steps taken.
    pub steps: u64,
    /// Whether patience ran out before the last step.
    pub stopped_early: bool,
    /// Seconds, over all parts of the run.
    pub seconds: f64,
    /// Volumes learned from.
    pub training_volumes: usize,
    /// Windows held out.
    pub validation_windows: usize,
    /// Before the first step: the base's own result.
    pub before: Validation,
    /// Of the adapter that was kept.
    pub best: Validation,
    /// How the run was to go.
    pub options: FineTuneOptions,
}

/// Trains an adapter of a model on pairs of image and mask, and writes it to the folder `out`.
///
/// `adapter` is where it starts: a new one, or one that learns further. While the run goes on, `out.partial` holds its
/// last state; [`Start::Resume`] goes on from there, and comes to the same adapter as a run that was never stopped. The
/// result is the adapter with the lowest loss on what is held out: pairs marked so, else some of the subjects, else, of
/// a single subject, the last quarter of the structure's slices. That of the last step is in its folder `last`.
///
/// # Errors
/// Pairs or options that cannot be used; a name that is taken; a run that cannot be resumed; a cancellation, which leaves
/// a state to resume from.
pub fn finetune(
    model: &Model,
    adapter: Adapter,
    pairs: &[TrainingPair],
    options: &FineTuneOptions,
    out: &Path,
    start: Start,
    hooks: &FineTuneHooks,
) -> Result<FineTuneReport> {
    options.validate()?;
    check_free(out, start)?;
    let (training, held_out, data) = prepare(model, pairs, options, hooks)?;
    let config = TrainerConfig {
        loss: options.loss,
        optimiser: options.optimiser.clone(),
        gradient_checkpointing: options.gradient_checkpointing,
        parallel_samples: false,
        average: None,
        modality_loss_weight: options.modality_loss_weight,
        cue_dropout: None,
    };
    let description = adapter.config().clone();
    let mut trainer = model.trainer(adapter, config)?;
    let (partial, progress) = match start {
        Start::Resume => {
            let (partial, last) = Partial::resume(out, options, &description, &data)?;
            let progress = match last {
                Some((progress, state)) => {
                    trainer.restore(&state)?;
                    progress
                }
                None => Progress::default(),
            };
            (partial, progress)
        }
        Start::New | Start::Overwrite => (Partial::create(out)?, Progress::default()),
    };
    let mut run = Run {
        engine: model.engine(),
        size: model.config().image_encoder.image_size,
        trainer: trainer.as_mut(),
        samples: Samples::new(training, options, model),
        held_out,
        options,
        partial: &partial,
        adapter: &description,
        data: &data,
        hooks,
        progress,
    };
    run.go()?;
    let last = run.trainer.adapter()?;
    let progress = run.progress;
    let best = progress.best.expect("validated at the end at least");
    let report = FineTuneReport {
        steps: progress.step,
        stopped_early: progress.stopped,
        seconds: progress.seconds,
        training_volumes: run.samples.cases.len(),
        validation_windows: run.held_out.len(),
        before: progress.before.expect("validated at the start"),
        best: best.clone(),
        options: options.clone(),
    };
    partial.finish(out, best.step, &last, &report, start != Start::New)?;
    Ok(report)
}

/// Says no before anything is computed.
fn check_free(out: &Path, start: Start) -> Result<()> {
    let partial = folder_of(out);
    let taken = |path: &Path, hint: &str| Error::Exists { path: path.to_owned(), hint: hint.to_owned() };
    if out.file_name().is_none() {
        return Err(Error::argument(
            format!("{} cannot be the name of an adapter", out.display()),
            "give another name",
        ));
    }
    if out.exists() {
        if start == Start::New {
            return Err(taken(out, "choose another name, or ask to overwrite"));
        }
        if !out.join(ADAPTER_CONFIG_FILE).is_file() {
            return Err(taken(out, "it is no adapter, and will not be replaced: choose another name"));
        }
    }
    if partial.exists() {
        match start {
            Start::New => return Err(taken(&partial, "an unfinished run is there: resume it, or ask to overwrite")),
            Start::Overwrite => {
                std::fs::remove_dir_all(&partial).map_err(|error| Error::io(&partial, error))?;
            }
            Start::Resume => {}
        }
    }
    Ok(())
}

/// A run on its way.
struct Run<'a> {
    engine: &'a dyn Engine,
    size: [usize; 3],
    trainer: &'a mut dyn Trainer,
    samples: Samples,
    held_out: Vec<HeldOut>,
    options: &'a FineTuneOptions,
    partial: &'a Partial,
    adapter: &'a AdapterConfig,
    data: &'a str,
    hooks: &'a FineTuneHooks<'a>,
    progress: Progress,
}

impl Run<'_> {
    fn go(&mut self) -> Result<()> {
        let kept = self.options.cache_embeddings && !self.trainer.encoder_learns();
        if kept {
            for window in &mut self.held_out {
                self.hooks.check()?;
                window.sample.embedding = Some(self.engine.encode_image(&window.sample.image, None)?);
            }
        }
        match self.steps(kept) {
            // What was computed so far is worth keeping.
            Err(Error::Segment(adaptmedseg_segment::Error::Cancelled)) => {
                self.checkpoint()?;
                Err(adaptmedseg_segment::Error::Cancelled.into())
            }
            outcome => outcome,
        }
    }

    fn steps(&mut self, kept: bool) -> Result<()> {
        let schedule = Schedule {
            peak: self.options.learning_rate,
            floor: self.options.learning_rate * self.options.final_share,
            warmup: self.options.warmup_steps,
            total: self.options.steps,
        };
        let mut loss = f64::NAN;
        loop {
            let step = self.progress.step;
            let ended = step == self.options.steps;
            let due = ended || step.is_multiple_of(self.options.validate_every);
            if due && self.progress.validated != Some(step) {
                self.validate(loss)?;
            }
            let ended = ended || self.progress.stopped;
            if ended || (step > 0 && step.is_multiple_of(self.options.checkpoint_every)) {
                self.checkpoint()?;
            }
            if ended {
                return Ok(());
            }
            self.hooks.check()?;
            loss = self.step(schedule.rate(step), kept)?;
        }
    }

    fn step(&mut self, rate: f64, kept: bool) -> Result<f64> {
        let started = Instant::now();
        let samples = self.samples.draw(self.engine, self.size, self.progress.step, kept, self.options)?;
        let report = self.trainer.step(&samples, rate)?;
        self.progress.step += 1;
        let seconds = started.elapsed().as_secs_f64();
        self.progress.seconds += seconds;
        self.partial.log(&json!({
            "kind": "step", "step": self.progress.step, "loss": report.loss, "dice_loss": report.dice,
            "bce": report.bce, "modality_loss": report.modality, "gradient_norm": report.gradient_norm,
            "learning_rate": rate, "seconds": seconds,
        }))?;
        self.tell(report.loss, None);
        Ok(report.loss)
    }

    fn validate(&mut self, loss: f64) -> Result<()> {
        let started = Instant::now();
        let hooks = self.hooks;
        let validation = validate(self.trainer, &self.held_out, self.progress.step, &|| hooks.check())?;
        self.progress.seconds += started.elapsed().as_secs_f64();
        self.partial.log(&json!({
            "kind": "validation", "step": validation.step, "loss": validation.loss, "dice": validation.dice,
            "dice_by_prompt": validation.dice_by_prompt,
        }))?;
        if self.progress.best.as_ref().is_none_or(|best| validation.loss < best.loss) {
            self.partial.keep_best(&self.trainer.adapter()?, validation.step)?;
            self.progress.best = Some(validation.clone());
            self.progress.waited = 0;
        } else {
            self.progress.waited += 1;
            self.progress.stopped = self.options.patience > 0 && self.progress.waited >= self.options.patience;
        }
        if self.progress.before.is_none() {
            self.progress.before = Some(validation.clone());
        }
        self.progress.validated = Some(validation.step);
        self.tell(loss, Some(&validation));
        Ok(())
    }

    fn checkpoint(&self) -> Result<()> {
        let state = self.trainer.state()?;
        self.partial.checkpoint(&state, &self.progress, self.options, self.adapter, self.data)
    }

    fn tell(&self, loss: f64, validation: Option<&Validation>) {
        if let Some(progress) = self.hooks.progress {
            let left = (self.options.steps - self.progress.step) as f64;
            let seconds_left = self.progress.seconds / self.progress.step.max(1) as f64 * left;
            let (step, total) = (self.progress.step, self.options.steps);
            progress(&FineTuneProgress { step, total, loss, validation, seconds_left });
        }
    }
}
