//! The files of an evaluation: what it was made of, and what came of it.

use super::journal::Journal;
use super::report::Results;
use super::row::{CSV_HEADER, quoted};
use super::{EvaluatedAdapter, EvaluationData, EvaluationOptions, RESULTS_FILE, WrittenOptions};
use crate::dataset::DATASET_FILE;
use crate::error::{Error, Result};
use crate::partial::folder_of;
use crate::run::Start;
use adaptmedseg_segment::Model;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

const PAGE_FILE: &str = "report.html";
const ROWS_FILE: &str = "results.csv";
const COSTS_FILE: &str = "costs.csv";
const COSTS_HEADER: &str =
    "dataset,case,structure,adapter,prompt,jitter_mm,shift,seconds,windows_encoded,peak_memory_bytes\n";

/// A model, an adapter or a data set that results were made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its licence, as far as it is known.
    pub license: Option<String>,
    /// SHA-256 of its weights' file, or of its list.
    pub sha256: String,
}

/// What results were made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of the format.
    pub format_version: u32,
    /// Version of this library.
    pub adaptmedseg: String,
    /// The model.
    pub model: Source,
    /// The adapters, beside the base without any.
    pub adapters: Vec<Source>,
    /// The data sets.
    pub datasets: Vec<Source>,
    /// How it was to go.
    pub options: WrittenOptions,
}

impl About {
    pub(super) fn new(
        model: &Model,
        adapters: &[EvaluatedAdapter],
        data: &[EvaluationData],
        options: &EvaluationOptions,
    ) -> Self {
        let adapter = |adapter: &EvaluatedAdapter| Source {
            name: adapter.name.clone(),
            license: Some(adapter.adapter.config().license.clone()).filter(|license| !license.is_empty()),
            sha256: adapter.sha256.clone(),
        };
        let dataset = |data: &EvaluationData| Source {
            name: data.dataset.name.clone(),
            license: data.dataset.license.clone(),
            sha256: digest(data.dataset.to_json().as_bytes()),
        };
        let description = model.description();
        Self {
            format_version: 1,
            adaptmedseg: env!("CARGO_PKG_VERSION").to_owned(),
            model: Source {
                name: description.name.clone(),
                license: Some(description.license.clone()),
                sha256: model.hash().to_owned(),
            },
            adapters: adapters.iter().map(adapter).collect(),
            datasets: data.iter().map(dataset).collect(),
            options: options.written(),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl EvaluatedAdapter {
    /// Opens the adapters of a model under their own names; where two have the same, the later one gets a number.
    ///
    /// # Errors
    /// A folder that is no adapter of the model.
    pub fn open(model: &Model, folders: &[impl AsRef<Path>]) -> Result<Vec<Self>> {
        let mut opened: Vec<Self> = Vec::new();
        for folder in folders {
            let folder = folder.as_ref();
            let adapter = model.load_adapter(folder, false)?;
            let own = Some(adapter.config().name.clone()).filter(|name| !name.is_empty());
            let own = own.unwrap_or_else(|| folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
            let taken = |name: &str| name == super::ADAPTER_NONE || opened.iter().any(|other| other.name == name);
            let numbered = (2..).map(|number| format!("{own}-{number}"));
            let name = std::iter::once(own.clone()).chain(numbered).find(|name| !taken(name)).expect("numbers go on");
            let weights = folder.join("adapter.safetensors");
            let bytes = fs::read(&weights).map_err(|error| Error::io(&weights, error))?;
            opened.push(Self { name, sha256: digest(&bytes), adapter });
        }
        Ok(opened)
    }
}

impl EvaluationData {
    /// The file that says what is in the data set.
    pub fn list(&self) -> std::path::PathBuf {
        self.folder.join(DATASET_FILE)
    }
}

impl Results {
    /// Reads the results of an evaluation, a file or the folder it is in.
    ///
    /// # Errors
    /// A file that is absent or not of this format.
    pub fn read(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join(RESULTS_FILE) } else { path.to_owned() };
        let text = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        serde_json::from_slice(&text).map_err(|error| Error::Dataset { path, message: error.to_string() })
    }
}

/// Checks that nothing is in the way, and removes what may be replaced of an unfinished run.
pub(super) fn check_free(out: &Path, start: Start) -> Result<()> {
    let partial = folder_of(out);
    if out.exists() {
        let ours = out.join(RESULTS_FILE).is_file();
        if start != Start::Overwrite || !ours {
            let hint = if ours { "choose another folder, or ask to overwrite" } else { "choose another folder" };
            return Err(Error::Exists { path: out.to_owned(), hint: hint.into() });
        }
    }
    if partial.exists() {
        match start {
            Start::New => {
                let hint = "an unfinished run is there: resume it, or ask to overwrite".into();
                return Err(Error::Exists { path: partial, hint });
            }
            Start::Overwrite => fs::remove_dir_all(&partial).map_err(|error| Error::io(&partial, error))?,
            Start::Resume => {}
        }
    }
    Ok(())
}

/// Writes the results beside the journal, and gives its folder the name of the result.
pub(super) fn finish(results: &Results, page: &str, journal: &Journal, out: &Path, start: Start) -> Result<()> {
    let rows: String = results.rows.iter().map(|row| row.csv() + "\n").collect();
    let costs: String = journal.lines().iter().map(cost).collect();
    let files = [
        (PAGE_FILE, page.to_owned()),
        (RESULTS_FILE, serde_json::to_string_pretty(results).expect("plain data") + "\n"),
        (ROWS_FILE, format!("{CSV_HEADER}\n{rows}")),
        (COSTS_FILE, format!("{COSTS_HEADER}{costs}")),
    ];
    for (name, text) in files {
        let path = journal.folder().join(name);
        fs::write(&path, text).map_err(|error| Error::io(path, error))?;
    }
    if start == Start::Overwrite && out.exists() {
        fs::remove_dir_all(out).map_err(|error| Error::io(out, error))?;
    }
    fs::rename(journal.folder(), out).map_err(|error| Error::io(out, error))?;
    Journal::clear(out)
}

fn cost(line: &super::journal::Line) -> String {
    let (row, cost) = (&line.row, line.cost);
    let names = [&row.dataset, &row.case, &row.structure, &row.adapter, &row.prompt].map(|name| quoted(name.clone()));
    let peak = cost.peak_memory_bytes.map_or_else(String::new, |bytes| bytes.to_string());
    let names = names.join(",");
    format!("{names},{},{},{:.4},{},{peak}\n", row.jitter_mm, row.shift, cost.seconds, cost.windows_encoded)
}
