//! The folder of a run that has not ended: `OUT.partial`, from which it can be resumed.
//!
//! `last.json` says which state is the last one; it is renamed into place when everything it names is on the disk, and
//! what it no longer names is removed afterwards. Killed at any moment, the folder holds a state to go on from.

use crate::error::{Error, Result};
use crate::options::FineTuneOptions;
use crate::run::Validation;
use adaptmedseg_engine::TrainerState;
use adaptmedseg_model::NamedTensors;
use adaptmedseg_model::adapter::{Adapter, AdapterConfig, read_tensors, write_tensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

const LAST: &str = "last.json";
/// One JSON object per line, for each step and each validation.
pub(crate) const METRICS: &str = "metrics.jsonl";

/// What is known of a run between two steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Seconds they took, over all parts of the run.
    pub seconds: f64,
    /// The validation before the first step.
    pub before: Option<Validation>,
    /// The best one, whose adapter is kept.
    pub best: Option<Validation>,
    /// The step of the last validation.
    pub validated: Option<u64>,
    /// Validations since the best one.
    pub waited: u64,
    /// Whether the run ended early.
    pub stopped: bool,
}

/// `last.json`.
#[derive(Serialize, Deserialize)]
struct Last {
    options: FineTuneOptions,
    adapter: AdapterConfig,
    /// Hash of the prepared volumes.
    data: String,
    progress: Progress,
}

/// `OUT.partial`.
pub(crate) fn folder_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    out.with_file_name(name)
}

fn io<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| Error::io(path, error))
}

/// The folder of a run that has not ended: what every kind of run keeps there.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder.
    pub(crate) fn create(out: &Path) -> Result<Self> {
        let path = folder_of(out);
        io(&path, fs::create_dir_all(&path))?;
        Ok(Self { path })
    }

    /// The folder of a run that was stopped.
    ///
    /// # Errors
    /// No such folder.
    pub(crate) fn existing(out: &Path) -> Result<Self> {
        let path = folder_of(out);
        if !path.is_dir() {
            return Err(Error::argument(
                format!("there is no unfinished run of {}", out.display()),
                "start it without resuming",
            ));
        }
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `last.json`; `None` if the run had not come to its first checkpoint, and then its metrics are forgotten.
    pub(crate) fn read_last<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let path = self.path.join(LAST);
        if !path.is_file() {
            self.replace(METRICS, b"")?;
            return Ok(None);
        }
        let text = io(&path, fs::read(&path))?;
        let malformed = |error: serde_json::Error| Error::Pairs { path: path.clone(), message: error.to_string() };
        serde_json::from_slice(&text).map(Some).map_err(malformed)
    }

    fn state_path(&self, step: u64) -> PathBuf {
        self.path.join(format!("state-{step}.safetensors"))
    }

    pub(crate) fn read_state(&self, step: u64) -> Result<NamedTensors> {
        Ok(read_tensors(&self.state_path(step))?)
    }

    /// Writes a state to go on from, then `last.json`, which names it. Older states are removed.
    pub(crate) fn checkpoint(&self, step: u64, tensors: &NamedTensors, last: &impl Serialize) -> Result<()> {
        let path = self.state_path(step);
        let temporary = path.with_extension("tmp");
        write_tensors(&temporary, tensors)?;
        io(&path, fs::rename(&temporary, &path))?;
        let text = serde_json::to_vec_pretty(last).expect("plain data");
        self.replace(LAST, &text)?;
        self.remove_others("state-", &path)
    }

    /// Removes what begins like this, but for one.
    fn remove_others(&self, beginning: &str, kept: &Path) -> Result<()> {
        for entry in io(&self.path, fs::read_dir(&self.path))? {
            let path = io(&self.path, entry)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(beginning) && path != kept {
                io(&path, if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) })?;
            }
        }
        Ok(())
    }

    /// Writes a file under another name, then renames it.
    fn replace(&self, name: &str, text: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!("{name}.tmp"));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        io(&path, write())
    }

    /// Adds a line to the metrics.
    pub(crate) fn log(&self, line: &Value) -> Result<()> {
        let path = self.path.join(METRICS);
        let write = || {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        io(&path, write())
    }

    /// Forgets metrics of what will be done again, and a line that was cut short.
    pub(crate) fn cut_metrics(&self, kept: impl Fn(&Value) -> bool) -> Result<()> {
        let path = self.path.join(METRICS);
        let Ok(file) = File::open(&path) else { return Ok(()) };
        let mut text = String::new();
        for line in BufReader::new(file).lines() {
            let line = io(&path, line)?;
            if kept(&serde_json::from_str(&line).unwrap_or_default()) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        self.replace(METRICS, text.as_bytes())
    }

    /// Puts the metrics and a report beside the result, in `to`.
    pub(crate) fn report(&self, to: &Path, name: &str, report: &impl Serialize) -> Result<()> {
        let metrics = self.path.join(METRICS);
        if metrics.is_file() {
            let to = to.join(METRICS);
            io(&to, fs::copy(&metrics, &to))?;
        }
        let path = to.join(name);
        let text = serde_json::to_string_pretty(report).expect("plain data") + "\n";
        io(&path, fs::write(&path, text))
    }

    /// Removes the folder: the run has ended.
    pub(crate) fn remove(self) -> Result<()> {
        io(&self.path, fs::remove_dir_all(&self.path))
    }
}

/// The folder of a fine-tuning run that has not ended.
pub(crate) struct Partial {
    folder: Folder,
}

impl Partial {
    /// A new folder.
    pub(crate) fn create(out: &Path) -> Result<Self> {
        Ok(Self { folder: Folder::create(out)? })
    }

    /// The folder of a run that was stopped, with what is known of it; `None` if it had not come to its first
    /// checkpoint.
    ///
    /// # Errors
    /// No such folder; a run with other options, or on other data.
    pub(crate) fn resume(
        out: &Path,
        options: &FineTuneOptions,
        adapter: &AdapterConfig,
        data: &str,
    ) -> Result<(Self, Option<(Progress, TrainerState)>)> {
        let partial = Self { folder: Folder::existing(out)? };
        let Some(last) = partial.folder.read_last::<Last>()? else { return Ok((partial, None)) };
        let differs = difference("options", &last.options, options)
            .or_else(|| difference("adapter", &last.adapter, adapter))
            .or_else(|| (last.data != data).then(|| "the images or masks are not those it began with".to_owned()));
        if let Some(differs) = differs {
            return Err(Error::argument(
                format!("{} cannot be resumed: {differs}", out.display()),
                "give what it was started with, or start anew with overwriting",
            ));
        }
        let Progress { step, validated, .. } = last.progress;
        let state = TrainerState { steps: step, tensors: partial.folder.read_state(step)? };
        partial.folder.cut_metrics(|value| {
            let last = if value["kind"] == "validation" { validated } else { Some(step) };
            value["step"].as_u64().is_some_and(|step| last.is_some_and(|last| step <= last))
        })?;
        Ok((partial, Some((last.progress, state))))
    }

    fn best_path(&self, step: u64) -> PathBuf {
        self.folder.path().join(format!("best-{step}"))
    }

    /// Keeps an adapter as the best so far.
    pub(crate) fn keep_best(&self, adapter: &Adapter, step: u64) -> Result<()> {
        Ok(adapter.save(&self.best_path(step), true)?)
    }

    /// Writes a state to go on from.
    pub(crate) fn checkpoint(
        &self,
        state: &TrainerState,
        progress: &Progress,
        options: &FineTuneOptions,
        adapter: &AdapterConfig,
        data: &str,
    ) -> Result<()> {
        let last = Last {
            options: options.clone(),
            adapter: adapter.clone(),
            data: data.to_owned(),
            progress: progress.clone(),
        };
        self.folder.checkpoint(progress.step, &state.tensors, &last)?;
        let best = progress.best.as_ref().map_or(0, |best| best.step);
        self.folder.remove_others("best-", &self.best_path(best))
    }

    /// Adds a line to the metrics.
    pub(crate) fn log(&self, line: &Value) -> Result<()> {
        self.folder.log(line)
    }

    /// Makes the best adapter the result: it gets the last one, the report and the metrics, and its name. Nothing else is
    /// left.
    pub(crate) fn finish(
        self,
        out: &Path,
        best: u64,
        last: &Adapter,
        report: &impl Serialize,
        overwrite: bool,
    ) -> Result<()> {
        let adapter = self.best_path(best);
        if !adapter.is_dir() && out.is_dir() {
            // Killed after the adapter had got its name.
            return self.folder.remove();
        }
        last.save(&adapter.join("last"), true)?;
        self.folder.report(&adapter, "finetune.json", report)?;
        if overwrite && out.is_dir() {
            io(out, fs::remove_dir_all(out))?;
        }
        io(out, fs::rename(&adapter, out))?;
        self.folder.remove()
    }
}

/// The first field in which two values differ.
pub(crate) fn difference(what: &str, was: &impl Serialize, is: &impl Serialize) -> Option<String> {
    let [was, is] = [serde_json::to_value(was), serde_json::to_value(is)].map(|value| value.expect("plain data"));
    let (was, is) = (was.as_object()?, is.as_object()?);
    let field = is.keys().find(|&field| was.get(field) != is.get(field))?;
    Some(format!("{what}: {field} was {}, is {}", was.get(field).unwrap_or(&Value::Null), is[field]))
}
