//! `adaptmedseg finetune`: an adapter learned from pairs of image and mask.

use crate::args::FinetuneArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Bar;
use adaptmedseg_segment::adapters::LoraConfig;
use adaptmedseg_segment::{Model, peak_memory_bytes};
use adaptmedseg_study::{
    FineTuneHooks, FineTuneOptions, FineTuneProgress, FineTuneReport, Start, TrainingPair, adapter_config, finetune,
    read_pairs, with_pairs,
};
use std::fmt::Write;

/// Trains, and prints what came of it.
pub(crate) fn run(args: &FinetuneArgs) -> Result<()> {
    let bar = Bar::new(args.quiet);
    bar.step("opening the model");
    let model = Model::open(&args.model, &args.compute.options())?;
    bar.step("reading the data");
    let mut pairs = read_pairs(&args.data)?;
    if let Some(modality) = &args.modality {
        pairs.iter_mut().for_each(|pair| pair.modality = Some(modality.clone()));
    }
    interrupt::check()?;
    let options = options(args, pairs.len());
    let adapter = match &args.from {
        Some(path) => with_pairs(model.open_adapter(path)?, &pairs)?,
        None => {
            let lora =
                LoraConfig { rank: args.rank, alpha: args.alpha, rslora: !args.plain_lora, ..Default::default() };
            let lora = if args.all_decoder_layers { lora.with_further_targets() } else { lora };
            let lora = if args.freeze_encoder { lora.only("mask_decoder.") } else { lora };
            let mut config = adapter_config(args.method, args.variant, lora, &pairs);
            config.name = args
                .name
                .clone()
                .unwrap_or_else(|| args.out.file_name().unwrap_or_default().to_string_lossy().into_owned());
            config.license = args.license.clone().unwrap_or_default();
            model.new_adapter(config, options.seed)?
        }
    };
    let start = match (args.resume, args.overwrite) {
        (true, _) => Start::Resume,
        (false, true) => Start::Overwrite,
        (false, false) => Start::New,
    };
    let parameters = adapter.parameters();
    let show = |progress: &FineTuneProgress| {
        let left = progress.seconds_left as u64;
        let mut text = format!("step {}/{}", progress.step, progress.total);
        if progress.loss.is_finite() {
            let _ = write!(text, ", loss {:.3}, {}:{:02} left", progress.loss, left / 60, left % 60);
        }
        bar.at(progress.step as f64 / progress.total as f64, text);
        if let Some(validation) = progress.validation {
            bar.line(format!("step {}: loss {:.4}, Dice {:.3}", validation.step, validation.loss, validation.dice));
        }
    };
    let hooks = FineTuneHooks { progress: Some(&show), cancel: Some(interrupt::token()) };
    let outcome = finetune(&model, adapter, &pairs, &options, &args.out, start, &hooks);
    let report = outcome.map_err(|error| Failure::from(error).resumable())?;
    drop(bar);
    if args.quiet { Ok(()) } else { crate::print(&summary(args, &report, &pairs, parameters)) }
}

fn options(args: &FinetuneArgs, pairs: usize) -> FineTuneOptions {
    let default = FineTuneOptions::default();
    let steps = match (args.steps, args.epochs) {
        (Some(steps), _) => steps,
        (None, Some(epochs)) => (epochs * pairs as u64).div_ceil(args.accumulation as u64),
        (None, None) => default.steps,
    };
    FineTuneOptions {
        steps,
        learning_rate: args.lr.unwrap_or(default.learning_rate),
        warmup_steps: args.warmup.unwrap_or(default.warmup_steps.min(steps / 10)),
        accumulation: args.accumulation,
        seed: args.seed,
        validate_every: args.validate_every.unwrap_or_else(|| (steps / 10).max(1)),
        patience: args.patience,
        checkpoint_every: args.checkpoint_every.unwrap_or_else(|| (steps / 10).max(1)),
        augment: !args.no_augmentation,
        gradient_checkpointing: !args.no_checkpointing,
        loss: args.loss,
        ..default
    }
}

fn summary(args: &FinetuneArgs, report: &FineTuneReport, pairs: &[TrainingPair], parameters: u64) -> String {
    let (before, best) = (&report.before, &report.best);
    let mut text = format!(
        "{}: {:.2} million weights learned from {} of {} pairs in {} steps, {:.0} s{}\n\
         held out    before  after (step {})\n  loss      {:6.3}  {:6.3}\n  Dice      {:6.3}  {:6.3}\n",
        args.out.display(),
        parameters as f64 / 1e6,
        report.training_volumes,
        pairs.len(),
        report.steps,
        report.seconds,
        if report.stopped_early { ", ended early" } else { "" },
        best.step,
        before.loss,
        best.loss,
        before.dice,
        best.dice,
    );
    for (name, dice) in &best.dice_by_prompt {
        let was = before.dice_by_prompt.get(name).copied().unwrap_or(f64::NAN);
        let _ = writeln!(text, "  {name:<12} {was:.3}   {dice:.3}");
    }
    if let Some(bytes) = peak_memory_bytes() {
        let _ = writeln!(text, "peak memory {:.0} MB", bytes as f64 / 1e6);
    }
    text
}
