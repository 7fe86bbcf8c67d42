//! What of a preparation is done: `OUT.partial/.prepare`, from which it goes on.
//!
//! A line is added for every finished case, with the checksums of its files. A line that was cut short is no line, and a
//! file that does not have its checksum makes the case be done again.

use super::make::{CaseNotes, sha256};
use super::options::PrepareOptions;
use super::source::{ImageSource, LabelSource, RawCase};
use super::{files, make};
use crate::dataset::{DATASET_FILE, Dataset, DatasetCase};
use crate::error::{Error, Result};
use crate::partial::{difference, folder_of};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const JOURNAL: &str = ".prepare";
const OPTIONS: &str = "options.json";
const DONE: &str = "cases.jsonl";
/// Beside the list of the data set: how it was made.
pub(crate) const REPORT: &str = "prepare.json";

/// A finished case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) case: DatasetCase,
    pub(crate) notes: CaseNotes,
    /// Of the source's files and of what was to be made of them.
    stamp: String,
}

/// The folder of a preparation that has not ended.
pub(crate) struct Journal {
    path: PathBuf,
    done: BTreeMap<String, Done>,
    lines: Mutex<File>,
}

fn io<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| Error::io(path, error))
}

impl Journal {
    /// Begins, or goes on.
    ///
    /// # Errors
    /// An unfinished one that is in the way, or that is not there; one with other options.
    pub(crate) fn open(out: &Path, options: &PrepareOptions, resume: bool) -> Result<Self> {
        let path = folder_of(out);
        let journal = path.join(JOURNAL);
        match (resume, path.exists()) {
            (false, true) => {
                let hint = "an unfinished data set is there: go on with --resume, or remove it";
                return Err(Error::Exists { path, hint: hint.into() });
            }
            (true, false) => {
                let message = format!("there is no unfinished data set of {}", out.display());
                return Err(Error::argument(message, "start it without resuming"));
            }
            _ => {}
        }
        io(&journal, fs::create_dir_all(&journal))?;
        let file = journal.join(OPTIONS);
        let done = if file.is_file() {
            let was: serde_json::Value = files::json(&file)?;
            if let Some(differs) = difference("options", &was, options) {
                let message = format!("{} cannot be resumed: {differs}", out.display());
                return Err(Error::argument(message, "give what it was started with, or start anew elsewhere"));
            }
            read_lines(&journal.join(DONE))?
        } else {
            let text = serde_json::to_vec_pretty(options).expect("plain data");
            replace(&file, &text)?;
            BTreeMap::new()
        };
        let lines = journal.join(DONE);
        // What is taken over is written anew, without the line that was cut short.
        let text: String = done.values().map(|done| serde_json::to_string(done).expect("plain data") + "\n").collect();
        replace(&lines, text.as_bytes())?;
        let file = io(&lines, OpenOptions::new().append(true).open(&lines))?;
        Ok(Self { path, done, lines: Mutex::new(file) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A case that was finished before, if nothing has changed since: neither the source nor what was made of it.
    pub(crate) fn finished(&self, id: &str, stamp: &str) -> Option<Done> {
        let done = self.done.get(id).filter(|done| done.stamp == stamp)?;
        let masks = done.case.masks.values().map(|mask| (&mask.path, &mask.sha256));
        let mut files = masks.chain([(&done.case.image.path, &done.case.image.sha256)]);
        let intact = files.all(|(path, sum)| sha256(&self.path.join(path)).is_ok_and(|found| found == *sum));
        intact.then(|| done.clone())
    }

    /// Notes a finished case.
    pub(crate) fn note(&self, case: DatasetCase, notes: CaseNotes, stamp: String) -> Result<Done> {
        let done = Done { case, notes, stamp };
        let line = serde_json::to_string(&done).expect("plain data") + "\n";
        let mut file = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        io(&self.path, file.write_all(line.as_bytes()))?;
        Ok(done)
    }

    /// Makes it the data set: the lists, and the name.
    pub(crate) fn finish(self, out: &Path, dataset: &Dataset, report: &impl Serialize) -> Result<()> {
        let wanted: BTreeSet<&str> = dataset.cases.iter().map(|case| case.id.as_str()).collect();
        for stray in files::entries(&self.path.join(make::CASES))? {
            if !wanted.contains(files::name(&stray).as_str()) {
                io(&stray, fs::remove_dir_all(&stray))?;
            }
        }
        let report = serde_json::to_string_pretty(report).expect("plain data") + "\n";
        replace(&self.path.join(REPORT), report.as_bytes())?;
        replace(&self.path.join(DATASET_FILE), dataset.to_json().as_bytes())?;
        io(out, fs::rename(&self.path, out))?;
        let journal = out.join(JOURNAL);
        io(&journal, fs::remove_dir_all(&journal))
    }
}

fn read_lines(path: &Path) -> Result<BTreeMap<String, Done>> {
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = io(path, fs::read(path))?;
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Done>(line).ok());
    Ok(lines.map(|done| (done.case.id.clone(), done)).collect())
}

/// Writes a file under another name, then renames it.
fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    io(path, write())
}

/// What a case is made of: how it is read, and the size and time of every file.
pub(crate) fn stamp(case: &RawCase, what: &impl std::fmt::Debug) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(format!("{case:?} {what:?}"));
    let image = match &case.image {
        ImageSource::Dicom(folder) => files::entries(folder)?,
        other => vec![other.path().to_owned()],
    };
    let mut paths = image;
    for labels in &case.labels {
        match &labels.source {
            LabelSource::Pictures(folder) => paths.extend(files::entries(folder)?),
            other => paths.push(other.path().to_owned()),
        }
    }
    for path in paths {
        let data = io(&path, fs::metadata(&path))?;
        hash.update(format!("{} {} {:?}\n", path.display(), data.len(), data.modified().ok()));
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
