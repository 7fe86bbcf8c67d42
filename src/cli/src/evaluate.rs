//! `adaptmedseg evaluate`: how good a model and its adapters are on data sets.

use crate::args::ComputeArgs;
use crate::failure::{Code, Failure, Result};
use crate::interrupt;
use crate::progress::Bar;
use adaptmedseg_segment::{Model, peak_memory_bytes};
use adaptmedseg_study::evaluation::{
    EvaluatedAdapter, EvaluationData, EvaluationHooks, EvaluationOptions, EvaluationProgress, PromptKind, Results,
    evaluate, table,
};
use adaptmedseg_study::shift::{Shift, parse_shifts};
use adaptmedseg_study::{Part, Start};
use clap::{Args, ValueEnum};
use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// Measure how good a model and its adapters are on data sets.
///
/// Prompts are drawn from the truth. The folder gets report.html (tables, plots, the worst masks), results.json (all
/// masks, and what they come to by adapter, prompt, jitter, shift, data set, modality and structure), results.csv (all
/// masks) and costs.csv (seconds and memory); a table is printed. Stopped, by Ctrl-C or worse, a run goes on with
/// --resume.
///
/// Shifts: gaussian-noise, rician-noise, bias-field, blur, gamma, contrast, inversion, ghosting, spike, anisotropy,
/// rotation, scaling, elastic, crop, tissue-remap (for phantoms), each with severities from 1 to 5.
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// A model folder, or `builtin`
    #[arg(long, value_name = "DIR|builtin")]
    model: PathBuf,
    /// A data set; may be repeated
    #[arg(long = "data", value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
    /// An adapter of the model, evaluated beside the model without any; may be repeated
    #[arg(long = "adapter", value_name = "DIR")]
    adapters: Vec<PathBuf>,
    /// Kinds of prompts: text, point, points2 to points50, box, or several with + between
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_parser = PromptKind::from_str,
          default_value = "text,point,box,text+point,text+box")]
    prompts: Vec<PromptKind>,
    /// How far points, and faces of boxes, are moved from where they were drawn, at most, in millimetres
    #[arg(long, value_name = "MM,...", value_delimiter = ',', default_value = "0")]
    jitter: Vec<f64>,
    /// A shift of the images: NAME:SEVERITY, NAME for its five severities, or all; may be repeated
    #[arg(long = "shift", value_name = "NAME[:SEVERITY]", value_parser = shifts)]
    shifts: Vec<Shifts>,
    /// Which cases
    #[arg(long, value_enum, default_value = "test")]
    part: PartArg,
    /// Which structures; all unless given
    #[arg(long = "structure", value_name = "NAME,...", value_delimiter = ',')]
    structures: Vec<String>,
    /// Tolerance of the normalised surface Dice, in millimetres
    #[arg(long, value_name = "MM", default_value_t = 2.0)]
    tolerance: f64,
    /// Results of an earlier evaluation, to compare with on the same masks; may be repeated
    #[arg(long = "against", value_name = "DIR")]
    against: Vec<PathBuf>,
    /// Draws of the bootstrap intervals
    #[arg(long, value_name = "N", default_value_t = 1000)]
    bootstrap: usize,
    /// Everything random comes from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Go on with a run that was stopped
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace results, or an unfinished run, of this name
    #[arg(long)]
    overwrite: bool,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// The shifts of one argument.
#[derive(Clone, Debug)]
struct Shifts(Vec<Shift>);

fn shifts(text: &str) -> Result<Shifts, String> {
    parse_shifts(text).map(Shifts)
}

/// Cases of which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PartArg {
    /// Those that nothing was learned from
    Test,
    /// Those that told when to stop learning
    Validation,
    /// Those that were learned from
    Train,
    /// Every one
    All,
}

impl EvaluateArgs {
    fn options(&self) -> EvaluationOptions {
        let mut shifts: Vec<Shift> = Vec::new();
        for &shift in self.shifts.iter().flat_map(|shifts| &shifts.0) {
            if !shifts.contains(&shift) {
                shifts.push(shift);
            }
        }
        EvaluationOptions {
            prompts: self.prompts.clone(),
            jitter_mm: self.jitter.clone(),
            shifts,
            part: match self.part {
                PartArg::Test => Some(Part::Test),
                PartArg::Validation => Some(Part::Validation),
                PartArg::Train => Some(Part::Train),
                PartArg::All => None,
            },
            structures: self.structures.clone(),
            tolerance_mm: self.tolerance,
            bootstrap: self.bootstrap,
            seed: self.seed,
        }
    }

    fn start(&self) -> Start {
        match (self.resume, self.overwrite) {
            (true, _) => Start::Resume,
            (false, true) => Start::Overwrite,
            (false, false) => Start::New,
        }
    }
}

/// Evaluates, and prints the table.
pub(crate) fn run(args: &EvaluateArgs) -> Result<()> {
    let bar = Bar::new(args.quiet);
    bar.step("reading the data");
    let data = args.data.iter().map(|folder| EvaluationData::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let against = args.against.iter().map(|path| Results::read(path)).collect::<Result<Vec<_>, _>>()?;
    interrupt::check()?;
    bar.step("opening the model");
    let model = Model::open(&args.model, &args.compute.options())?;
    let adapters = EvaluatedAdapter::open(&model, &args.adapters)?;
    let show = |progress: &EvaluationProgress| {
        let (row, left) = (progress.row, progress.seconds_left as u64);
        let text = format!("{} {} {}, {}:{:02} left", row.case, row.shift, row.prompt, left / 60, left % 60);
        bar.at(progress.done as f64 / progress.total as f64, text);
    };
    let hooks = EvaluationHooks { progress: Some(&show), cancel: Some(interrupt::token()) };
    let (options, to) = (args.options(), (args.out.as_path(), args.start()));
    let outcome = evaluate(&model, &adapters, &data, &against, &options, to, &hooks);
    let results = outcome.map_err(|error| resumable(error.into()))?;
    drop(bar);
    if args.quiet {
        return Ok(());
    }
    let mut text = table(&results);
    let _ = write!(text, "\n{}: {} masks", args.out.display(), results.rows.len());
    if let Some(bytes) = peak_memory_bytes() {
        let _ = write!(text, ", peak memory {:.0} MB", bytes as f64 / 1e6);
    }
    text.push('\n');
    crate::print(&text)
}

/// A cancellation keeps what is finished, and says so.
fn resumable(failure: Failure) -> Failure {
    if failure.code != Code::Cancelled {
        return failure;
    }
    let message = "cancelled; the masks that are measured are kept";
    Failure::new(Code::Cancelled, message, Some("the same command with --resume goes on"))
}
