//! Evaluation: a model and its adapters on data sets, by kinds of prompts drawn from the truth, by jitter of the prompts
//! and by controlled shifts of the images.
//!
//! Results depend on the seed, the data, the model and the options alone: not on the number of threads, on how often a
//! run was interrupted, or on the machine's speed. What masks cost is therefore in a file of its own.

mod ask;
mod files;
mod html;
mod journal;
mod prompt;
mod report;
mod row;
mod run;
mod runs;
mod summary;

pub use files::{About, Source};
pub use prompt::PromptKind;
pub use report::{ADAPTER_NONE, Comparison, Correlation, EmptyTruth, Group, Results, Statistic, Tercile};
pub use row::{Cost, Row, Status};
pub use summary::table;

use crate::dataset::{Dataset, DatasetCase, Part};
use crate::error::{Error, Result};
use crate::run::Start;
use crate::shift::Shift;
use adaptmedseg_segment::{CancelToken, LoadedAdapter, Model};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file of results in the folder of an evaluation; its schema is [`Results`].
pub const RESULTS_FILE: &str = "results.json";

/// What is evaluated, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationOptions {
    /// Kinds of prompts.
    pub prompts: Vec<PromptKind>,
    /// Jitters of points and boxes in millimetres; a prompt of text alone is asked once, without.
    pub jitter_mm: Vec<f64>,
    /// Shifts; the images as they are come first, always.
    pub shifts: Vec<Shift>,
    /// Which cases; none: all.
    pub part: Option<Part>,
    /// Which structures; empty: all.
    pub structures: Vec<String>,
    /// Tolerance of the normalised surface Dice, in millimetres.
    pub tolerance_mm: f64,
    /// Draws of a bootstrap interval.
    pub bootstrap: usize,
    /// Everything random comes from it.
    pub seed: u64,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        Self {
            prompts: ["text", "point", "box", "text+point", "text+box"]
                .map(|name| name.parse().expect("a kind of prompt"))
                .to_vec(),
            jitter_mm: vec![0.0],
            shifts: Vec::new(),
            part: Some(Part::Test),
            structures: Vec::new(),
            tolerance_mm: 2.0,
            bootstrap: 1000,
            seed: 0,
        }
    }
}

/// The options as they are written: what a run that goes on must have begun with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in `EvaluationOptions`")]
pub struct WrittenOptions {
    pub prompts: Vec<String>,
    pub jitter_mm: Vec<f64>,
    pub shifts: Vec<String>,
    /// `train`, `validation`, `test` or `all`.
    pub part: String,
    pub structures: Vec<String>,
    pub tolerance_mm: f64,
    pub bootstrap: usize,
    pub seed: u64,
}

impl EvaluationOptions {
    fn check(&self) -> Result<()> {
        let wrong = |message: String, hint: &str| Err(Error::argument(message, hint));
        if self.prompts.is_empty() {
            return wrong("no prompts".into(), "give kinds of prompts, such as text,point,box");
        }
        if let Some(jitter) = self.jitter_mm.iter().find(|jitter| !jitter.is_finite() || **jitter < 0.0) {
            return wrong(format!("a jitter of {jitter} mm"), "give distances of zero or more");
        }
        if self.jitter_mm.is_empty() {
            return wrong("no jitter".into(), "give 0 for none");
        }
        if !(self.tolerance_mm.is_finite() && self.tolerance_mm >= 0.0) {
            return wrong(format!("a tolerance of {} mm", self.tolerance_mm), "give zero or more");
        }
        Ok(())
    }

    fn written(&self) -> WrittenOptions {
        WrittenOptions {
            prompts: self.prompts.iter().map(PromptKind::to_string).collect(),
            jitter_mm: self.jitter_mm.clone(),
            shifts: self.shifts.iter().map(Shift::to_string).collect(),
            part: self.part.map_or("all", part_name).to_owned(),
            structures: self.structures.clone(),
            tolerance_mm: self.tolerance_mm,
            bootstrap: self.bootstrap,
            seed: self.seed,
        }
    }

    fn wants(&self, structure: &str) -> bool {
        self.structures.is_empty() || self.structures.iter().any(|wanted| wanted == structure)
    }
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Train => "train",
        Part::Validation => "validation",
        Part::Test => "test",
    }
}

/// A data set and its folder.
#[derive(Clone, Debug)]
pub struct EvaluationData {
    /// The folder.
    pub folder: PathBuf,
    /// The list in it.
    pub dataset: Dataset,
}

impl EvaluationData {
    /// Reads the list of a data set.
    ///
    /// # Errors
    /// A folder that is no data set, or a damaged one.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(Self { folder: folder.to_owned(), dataset: Dataset::read(folder)? })
    }

    fn cases(&self, part: Option<Part>) -> impl Iterator<Item = &DatasetCase> {
        self.dataset.cases.iter().filter(move |case| part.is_none_or(|part| case.part == part))
    }
}

/// An adapter under the name that it has in the results.
#[derive(Clone, Debug)]
pub struct EvaluatedAdapter {
    /// The name; no two adapters have the same.
    pub name: String,
    /// SHA-256 of its weights' file.
    pub sha256: String,
    /// The adapter.
    pub adapter: LoadedAdapter,
}

/// How far an evaluation has come.
#[derive(Clone, Debug)]
pub struct EvaluationProgress<'a> {
    /// Masks made, or known not to be made.
    pub done: usize,
    /// All of them.
    pub total: usize,
    /// The last one.
    pub row: &'a Row,
    /// Seconds to the end, as things go.
    pub seconds_left: f64,
}

/// What a caller may hang into an evaluation.
#[derive(Clone, Copy, Default)]
pub struct EvaluationHooks<'a> {
    /// Called on the calling thread after every mask.
    pub progress: Option<&'a (dyn Fn(&EvaluationProgress) + 'a)>,
    /// Looked at in every window.
    pub cancel: Option<&'a CancelToken>,
}

/// Evaluates a model on data sets: without adapter first, then with each of `adapters`.
///
/// The folder `out` gets `report.html` (for people), `results.json` ([`Results`]), `results.csv` (its rows) and `costs.csv`
/// (seconds and memory).
/// While the run goes on, `out.partial` holds the rows that are finished; [`Start::Resume`] goes on from there, and comes
/// to the same results. `against` are results of earlier evaluations, with whose rows these are compared pair by pair.
///
/// # Errors
/// Options, adapters or data that cannot be used; a name that is taken; a run that cannot be resumed; a cancellation,
/// which keeps the rows that are finished.
pub fn evaluate(
    model: &Model,
    adapters: &[EvaluatedAdapter],
    data: &[EvaluationData],
    against: &[Results],
    options: &EvaluationOptions,
    (out, start): (&Path, Start),
    hooks: &EvaluationHooks,
) -> Result<Results> {
    options.check()?;
    check_names(adapters, data)?;
    files::check_free(out, start)?;
    let about = files::About::new(model, adapters, data, options);
    let plan = run::Plan::new(adapters, data, options)?;
    let mut journal = match start {
        Start::Resume => journal::Journal::resume(out, &about)?,
        Start::New | Start::Overwrite => journal::Journal::create(out, &about)?,
    };
    run::Run { model, adapters, data, options, hooks, plan: &plan, journal: &mut journal }.go()?;
    let rows = journal.finished()?;
    let results = report::results(about, rows, against, options);
    let asker = ask::Asker { model, seed: options.seed, cancel: hooks.cancel };
    let page = html::page(&results, &html::worst(&results, |row| ask::again(&asker, adapters, data, options, row))?);
    files::finish(&results, &page, &journal, out, start)?;
    Ok(results)
}

/// Names tell rows apart: none may be there twice.
fn check_names(adapters: &[EvaluatedAdapter], data: &[EvaluationData]) -> Result<()> {
    let twice = |names: Vec<&str>| {
        let mut seen = std::collections::BTreeSet::new();
        names.into_iter().find(|name| !seen.insert(*name)).map(str::to_owned)
    };
    let mut names = vec![ADAPTER_NONE];
    names.extend(adapters.iter().map(|adapter| adapter.name.as_str()));
    if let Some(name) = twice(names) {
        return Err(Error::argument(format!("two adapters are called {name}"), "give each one a name of its own"));
    }
    if let Some(name) = twice(data.iter().map(|data| data.dataset.name.as_str()).collect()) {
        return Err(Error::argument(format!("two data sets are called {name}"), "evaluate them one after the other"));
    }
    Ok(())
}
