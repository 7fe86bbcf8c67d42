//! `adaptmedseg prepare`: a data set of what was downloaded.

use crate::args::{NormaliseArg, PrepareArgs};
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Bar;
use adaptmedseg_study::{
    Dataset, Normalisation, Part, PrepareHooks, PrepareOptions, PrepareProgress, PrepareReport, prepare,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

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
