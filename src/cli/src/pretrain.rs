//! `adaptmedseg pretrain`: a small model from scratch.

use crate::args::ComputeArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Bar;
use adaptmedseg_segment::checkpoint::ModelFolder;
use adaptmedseg_study::{
    PhantomModality, PretrainHooks, PretrainOptions, PretrainProgress, PretrainValidation, pretrain, small_config,
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Train a small model from scratch on generated phantoms: how the built-in model is made.
///
/// While it runs, OUT.partial holds a state to resume from, metrics.jsonl, and in `model` the model of the last checkpoint.
#[derive(Debug, Args)]
pub(crate) struct PretrainArgs {
    /// Folder for the model
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Optimiser steps
    #[arg(long, value_name = "N", default_value_t = 5500)]
    pub steps: u64,
    /// Windows per step
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch: usize,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 8e-4)]
    pub lr: f64,
    /// Everything random comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// What the phantoms look like
    #[arg(long, value_enum, ignore_case = true, default_value = "any")]
    pub modality: PretrainModality,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub checkpoint_every: u64,
    /// A model of the same architecture to go on from, instead of random weights
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Share of that model's weights in the one that is written, from 0 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "from")]
    pub keep: f64,
    /// Draw a new atlas of shapes, instead of that model's
    #[arg(long, requires = "from")]
    pub new_atlas: bool,
    /// Bodies that a new atlas has shapes of
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub atlas_bodies: u64,
    /// Go on with an unfinished run
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// What phantoms to learn from look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PretrainModality {
    /// Hounsfield units alone
    Ct,
    /// MR-like contrasts alone
    Mr,
    /// Both, and contrasts like no scanner's
    Any,
}

/// Trains, and prints what came of it.
pub(crate) fn run(args: &PretrainArgs) -> Result<()> {
    let options = PretrainOptions {
        steps: args.steps,
        batch: args.batch,
        learning_rate: args.lr,
        warmup_steps: PretrainOptions::default().warmup_steps.min(args.steps / 10).max(1),
        seed: args.seed,
        modality: match args.modality {
            PretrainModality::Ct => Some(PhantomModality::Ct),
            PretrainModality::Mr => Some(PhantomModality::Mr),
            PretrainModality::Any => None,
        },
        checkpoint_every: args.checkpoint_every,
        keep: args.keep,
        new_atlas: args.new_atlas,
        atlas_bodies: args.atlas_bodies,
    };
    let from = args.from.as_deref().map(ModelFolder::named).transpose()?;
    let bar = Bar::new(args.quiet);
    bar.step("drawing phantoms");
    let show = |progress: &PretrainProgress| {
        let left = progress.seconds_left as u64;
        bar.at(
            progress.step as f64 / progress.total as f64,
            format!(
                "step {}/{}, loss {:.3}, {}:{:02}:{:02} left",
                progress.step,
                progress.total,
                progress.loss,
                left / 3600,
                left / 60 % 60,
                left % 60
            ),
        );
        if let Some(validation) = &progress.validation {
            bar.line(line(validation));
        }
    };
    let hooks = PretrainHooks { progress: Some(&show), cancel: Some(interrupt::token()) };
    let outcome =
        pretrain(&small_config(), &options, from.as_ref(), &args.compute.options(), &args.out, args.resume, &hooks);
    let report = outcome.map_err(|error| Failure::from(error).resumable())?;
    drop(bar);
    if args.quiet {
        return Ok(());
    }
    crate::print(&format!(
        "{}: {} steps of {} windows in {:.0} s\n{}\n",
        args.out.display(),
        options.steps,
        options.batch,
        report.seconds,
        line(&report.validation)
    ))
}

fn line(validation: &PretrainValidation) -> String {
    let dice: Vec<String> = validation.dice.iter().map(|(kind, dice)| format!("{kind} {dice:.3}")).collect();
    format!("step {}: held-out loss {:.3}, Dice: {}", validation.step, validation.loss, dice.join(", "))
}
