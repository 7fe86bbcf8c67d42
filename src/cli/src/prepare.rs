//! `adaptmedseg prepare`: a data set of what was downloaded.

use crate::args::positive;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Bar;
use adaptmedseg_study::{
    Classes, Dataset, Layout, Normalisation, Part, PrepareHooks, PrepareOptions, PrepareProgress, PrepareReport,
    Shares, prepare,
};
use clap::{Args, ValueEnum};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// Turn a data set as it was downloaded into one that `finetune` reads.
///
/// Writes, for each case, the image and one binary mask for each structure, on the image's own grid, and dataset.json with
/// modality, checksums and the split by subject. Stopped, by Ctrl-C or worse, it goes on with --resume.
#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// auto, msd, promise12, saml, t2w, amos, chaos, brats, m3d, or pairs
    #[arg(long, default_value = "auto", value_parser = layout)]
    pub layout: LayoutArg,
    /// The folder of the download
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Folder for the data set; it must not exist
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Structures to take, with commas between them; all unless given
    ///
    /// `NAME` takes one, `NEW=NAME+NAME` merges several under a new name: "prostate=peripheral zone+transition zone". Case,
    /// underscores and common spellings make no difference.
    #[arg(long, value_name = "NAME,NEW=NAME+NAME", value_parser = Classes::from_str)]
    pub classes: Option<Classes>,
    /// Shares of the subjects for training, validation and test
    #[arg(long, value_name = "F,F,F", default_value = "0.7,0.1,0.2", value_parser = Shares::from_str)]
    pub split: Shares,
    /// Seed of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// none, or foreground: SegVol's normalisation, for CT and MR alike
    #[arg(long, value_enum, default_value = "none")]
    pub normalise: NormaliseArg,
    /// CT or MR, for folders that do not say it
    #[arg(long, value_name = "CT|MR", value_parser = ct_or_mr)]
    pub modality: Option<String>,
    /// Licence of the data, instead of what the source says
    #[arg(long)]
    pub license: Option<String>,
    /// Name of the data set, instead of what the source says
    #[arg(long)]
    pub name: Option<String>,
    /// Threads, each with a case of its own in memory; all cores unless given
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
    /// Go on with one that was stopped
    #[arg(long)]
    pub resume: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// A layout, or none for `auto`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LayoutArg(pub Option<Layout>);

/// What is done to intensities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NormaliseArg {
    /// Nothing
    None,
    /// Clipped to percentiles of the foreground, mean 0, deviation 1
    Foreground,
}

fn layout(text: &str) -> Result<LayoutArg, String> {
    if text == "auto" { Ok(LayoutArg(None)) } else { text.parse().map(|layout| LayoutArg(Some(layout))) }
}

fn ct_or_mr(text: &str) -> Result<String, String> {
    match text.to_uppercase().as_str() {
        "CT" => Ok("CT".into()),
        "MR" | "MRI" => Ok("MR".into()),
        _ => Err(format!("{text:?} is neither CT nor MR")),
    }
}

/// Prepares, and prints what came of it.
pub(crate) fn run(args: &PrepareArgs) -> Result<()> {
    let bar = Bar::new(args.quiet);
    bar.step("looking for cases");
    let options = PrepareOptions {
        layout: args.layout.0,
        classes: args.classes.clone(),
        shares: args.split,
        seed: args.seed,
        normalisation: match args.normalise {
            NormaliseArg::None => Normalisation::None,
            NormaliseArg::Foreground => Normalisation::Foreground,
        },
        modality: args.modality.clone(),
        license: args.license.clone(),
        name: args.name.clone(),
        threads: args.threads,
    };
    let show = |progress: &PrepareProgress| {
        let text = format!("{}/{} {}", progress.done, progress.total, progress.case);
        bar.at(progress.done as f64 / progress.total as f64, text);
    };
    let hooks = PrepareHooks { progress: Some(&show), cancel: Some(interrupt::token()) };
    let outcome = prepare(&args.root, &args.out, &options, args.resume, &hooks);
    let (dataset, report) = outcome.map_err(|error| Failure::from(error).resumable())?;
    drop(bar);
    if args.quiet { Ok(()) } else { crate::print(&summary(args, &dataset, &report)) }
}

fn summary(args: &PrepareArgs, dataset: &Dataset, report: &PrepareReport) -> String {
    let subjects: BTreeSet<&str> = dataset.cases.iter().map(|case| case.subject.as_str()).collect();
    let mut text = format!(
        "{}: {} cases of {} subjects ({})",
        args.out.display(),
        dataset.cases.len(),
        subjects.len(),
        report.layout.name()
    );
    if report.resumed > 0 {
        let _ = write!(text, ", {} of them done before", report.resumed);
    }
    let count = |part| dataset.part(part).count();
    let _ = writeln!(
        text,
        "\n  training {}, validation {}, test {}",
        count(Part::Train),
        count(Part::Validation),
        count(Part::Test)
    );
    let mut structures: BTreeMap<(&str, &str), [usize; 2]> = BTreeMap::new();
    for case in &dataset.cases {
        for (name, mask) in &case.masks {
            let [all, empty] = structures.entry((&case.modality, name)).or_default();
            *all += 1;
            *empty += usize::from(mask.voxels == 0);
        }
    }
    for ((modality, name), [all, empty]) in structures {
        let empty = if empty > 0 { format!(", empty in {empty}") } else { String::new() };
        let _ = writeln!(text, "  {modality} {name}: {all} cases{empty}");
    }
    report.notes.iter().for_each(|note| {
        let _ = writeln!(text, "  note: {note}");
    });
    text
}
