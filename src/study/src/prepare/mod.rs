//! From a data set as it was downloaded to one on disk that trainer and evaluator share.
//!
//! A layout ([`layouts`]) finds cases in a folder; what is in their files is read by [`open`] and written by [`make`]; a
//! journal remembers what is done. Nothing is resampled: images and masks keep their grid.

mod classes;
mod files;
mod journal;
mod layouts;
mod make;
mod names;
mod numpy;
mod open;
mod options;
mod source;
mod splits;

pub use classes::{Class, Classes};
pub use layouts::Layout;
pub use make::{CaseNotes, Foreground};
pub use options::PrepareOptions;
pub use splits::Shares;

use crate::dataset::{Dataset, Normalisation};
use crate::error::{Error, Result};
use adaptmedseg_segment::CancelToken;
use journal::{Done, Journal, stamp};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use source::{Found, RawCase};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far a preparation has come.
#[derive(Clone, Debug)]
pub struct PrepareProgress {
    /// Cases that are done.
    pub done: usize,
    /// All cases.
    pub total: usize,
    /// The case that was done last.
    pub case: String,
}

/// What a preparation calls, and obeys.
#[derive(Clone, Copy, Default)]
pub struct PrepareHooks<'a> {
    /// Called on any thread after every case.
    pub progress: Option<&'a (dyn Fn(&PrepareProgress) + Sync + 'a)>,
    /// Looked at before every case.
    pub cancel: Option<&'a CancelToken>,
}

/// How a data set was made: its `prepare.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrepareReport {
    /// The layout that was read.
    pub layout: Layout,
    /// What was asked for.
    pub options: PrepareOptions,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What was done to the image of each case.
    pub cases: BTreeMap<String, CaseNotes>,
    /// Cases taken over from a run that was stopped.
    #[serde(skip)]
    pub resumed: usize,
}

/// Makes the data set `out` of the folder `root`.
///
/// While it goes on, `out.partial` holds what is done; `resume` goes on from there, after a look at the checksums. `out`
/// appears when everything is complete.
///
/// # Errors
/// A folder that no layout, or another one, recognises; missing or unreadable files, labels on another grid than their
/// image; structures that no case has; a name that is taken; a run that cannot be resumed; a cancellation, after which it
/// can be.
pub fn prepare(
    root: &Path,
    out: &Path,
    options: &PrepareOptions,
    resume: bool,
    hooks: &PrepareHooks,
) -> Result<(Dataset, PrepareReport)> {
    if out.exists() {
        return Err(Error::Exists { path: out.to_owned(), hint: "give another name with --out".into() });
    }
    let (layout, root, mut found) = layouts::discover(root, options)?;
    check(&root, &found)?;
    let mut dataset = Dataset::new(name(out, options, &found), layout.name(), options.seed);
    dataset.license = options.license.clone().or(found.license.clone());
    dataset.normalisation = if found.normalised { Normalisation::Foreground } else { options.normalisation };
    dataset.labels = classes::table(options.classes.as_ref(), &found.cases)?;
    let all = found.cases.len();
    found.cases.retain(|case| !classes::of_case(options.classes.as_ref(), case).is_empty());
    if found.cases.len() < all {
        found.notes.push(format!("{} cases have none of the structures", all - found.cases.len()));
    }
    let parts = splits::assign(&found.cases, options.shares, options.seed)?;
    let journal = Journal::open(out, options, resume)?;
    let work = Work { root: &root, options, journal: &journal, normalise: !found.normalised, hooks };
    let (done, resumed) = work.all(&found.cases)?;
    let mut report =
        PrepareReport { layout, options: options.clone(), notes: found.notes, cases: BTreeMap::new(), resumed };
    for Done { mut case, notes, .. } in done {
        case.part = parts[&case.subject];
        report.cases.insert(case.id.clone(), notes);
        dataset.cases.push(case);
    }
    dataset.cases.sort_by(|a, b| a.id.cmp(&b.id));
    report.notes.extend(remarks(&report.cases));
    journal.finish(out, &dataset, &report)?;
    Ok((dataset, report))
}

fn name(out: &Path, options: &PrepareOptions, found: &Found) -> String {
    let given = options.name.clone().or(found.name.clone());
    given.unwrap_or_else(|| files::name(out))
}

/// Finds what can be found before anything is read: no cases, two of one name, absent files.
fn check(root: &Path, found: &Found) -> Result<()> {
    if found.cases.is_empty() {
        return Err(Error::source_data(root, "no case with labels in it", "check that it is complete"));
    }
    let mut ids = BTreeSet::new();
    for case in &found.cases {
        if !ids.insert(case.id.to_lowercase()) {
            let message = format!("two cases are called {}", case.id);
            return Err(Error::source_data(case.image.path(), message, "rename one of them"));
        }
        files::required(case.image.path().to_owned(), "the image is")?;
        for labels in &case.labels {
            let what = format!("the labels of {} are", files::name(case.image.path()));
            files::required(labels.source.path().to_owned(), &what)?;
        }
    }
    Ok(())
}

fn remarks(cases: &BTreeMap<String, CaseNotes>) -> Vec<String> {
    let unknown = cases.values().filter(|notes| !notes.has_spacing).count();
    let replaced: usize = cases.values().map(|notes| notes.non_finite).sum();
    let spacing =
        (unknown > 0).then(|| format!("{unknown} images do not say how large their voxels are: taken for 1 mm"));
    let finite = (replaced > 0).then(|| format!("{replaced} voxels were no numbers and were replaced"));
    spacing.into_iter().chain(finite).collect()
}

struct Work<'a> {
    root: &'a Path,
    options: &'a PrepareOptions,
    journal: &'a Journal,
    normalise: bool,
    hooks: &'a PrepareHooks<'a>,
}

impl Work<'_> {
    /// Makes all cases, and counts those that were there already.
    fn all(&self, cases: &[RawCase]) -> Result<(Vec<Done>, usize)> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(self.options.threads.unwrap_or(0)).build();
        let threads = threads.map_err(|error| Error::argument(format!("no threads: {error}"), "ask for fewer"))?;
        let (count, resumed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let one = |case: &RawCase| -> Result<Done> {
            let classes = classes::of_case(self.options.classes.as_ref(), case);
            let done = self.one(case, &classes, &resumed)?;
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            if let Some(progress) = self.hooks.progress {
                progress(&PrepareProgress { done: number, total: cases.len(), case: case.id.clone() });
            }
            Ok(done)
        };
        let done = threads.install(|| cases.par_iter().map(one).collect::<Result<_>>())?;
        Ok((done, resumed.into_inner()))
    }

    fn one(&self, case: &RawCase, classes: &[Class], resumed: &AtomicUsize) -> Result<Done> {
        if self.hooks.cancel.is_some_and(CancelToken::is_cancelled) {
            return Err(adaptmedseg_segment::Error::Cancelled.into());
        }
        let normalisation = if self.normalise { self.options.normalisation } else { Normalisation::None };
        let stamp = stamp(case, &(classes, normalisation))?;
        if let Some(done) = self.journal.finished(&case.id, &stamp) {
            resumed.fetch_add(1, Ordering::Relaxed);
            return Ok(done);
        }
        let (made, notes) = make::make(self.root, self.journal.path(), case, classes, normalisation)?;
        self.journal.note(made, notes, stamp)
    }
}
