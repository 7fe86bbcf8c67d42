//! The rows that are finished, in `OUT.partial`: one line each, written before the next one is begun.

use super::files::About;
use super::row::{Cost, Row};
use crate::error::{Error, Result};
use crate::partial::{difference, folder_of};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const ABOUT: &str = "about.json";
const ROWS: &str = "rows.jsonl";

/// A line of the journal.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) row: Row,
    pub(super) cost: Cost,
}

/// The folder of an evaluation that has not ended.
pub(super) struct Journal {
    folder: PathBuf,
    file: File,
    lines: Vec<Line>,
}

fn io<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| Error::io(path, error))
}

impl Journal {
    /// A new one, without rows.
    pub(super) fn create(out: &Path, about: &About) -> Result<Self> {
        let folder = folder_of(out);
        io(&folder, fs::create_dir_all(&folder))?;
        let path = folder.join(ABOUT);
        io(&path, fs::write(&path, serde_json::to_string_pretty(about).expect("plain data") + "\n"))?;
        Self::open(folder, Vec::new())
    }

    /// That of a run that was stopped. A line that was cut short is forgotten.
    ///
    /// # Errors
    /// No such folder; a run of another model, on other data, or with other options.
    pub(super) fn resume(out: &Path, about: &About) -> Result<Self> {
        let folder = folder_of(out);
        let path = folder.join(ABOUT);
        let Ok(text) = fs::read(&path) else {
            return Err(Error::argument(
                format!("there is no unfinished run {}", folder.display()),
                "leave resuming out to start one",
            ));
        };
        let was: About = serde_json::from_slice(&text)
            .map_err(|error| Error::Dataset { path: path.clone(), message: error.to_string() })?;
        if let Some(differs) =
            difference("options", &was.options, &about.options).or_else(|| difference("the run", &was, about))
        {
            return Err(Error::argument(
                format!("{} cannot be resumed: {differs}", out.display()),
                "give what it was started with, or start anew with overwriting",
            ));
        }
        let rows = folder.join(ROWS);
        let text = fs::read_to_string(&rows).unwrap_or_default();
        let lines = text
            .split_inclusive('\n')
            .map_while(|line| line.ends_with('\n').then(|| serde_json::from_str::<Line>(line).ok()).flatten());
        Self::open(folder, lines.collect())
    }

    fn open(folder: PathBuf, lines: Vec<Line>) -> Result<Self> {
        let path = folder.join(ROWS);
        let text: String = lines.iter().map(line).collect();
        io(&path, fs::write(&path, text))?;
        let file = io(&path, OpenOptions::new().append(true).open(&path))?;
        Ok(Self { folder, file, lines })
    }

    /// Rows that are finished.
    pub(super) fn done(&self) -> usize {
        self.lines.len()
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: Row, cost: Cost) -> Result<&Row> {
        let added = Line { row, cost };
        let written = self.file.write_all(line(&added).as_bytes());
        io(&self.folder.join(ROWS), written)?;
        self.lines.push(added);
        Ok(&self.lines.last().expect("just added").row)
    }

    /// Copies of all rows, in their order.
    pub(super) fn finished(&self) -> Result<Vec<Row>> {
        Ok(self.lines.iter().map(|line| line.row.clone()).collect())
    }

    /// Rows with what they cost.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes what only a run on its way needs, from the folder it has become.
    pub(super) fn clear(folder: &Path) -> Result<()> {
        for name in [ABOUT, ROWS] {
            let path = folder.join(name);
            io(&path, fs::remove_file(&path))?;
        }
        Ok(())
    }
}

fn line(line: &Line) -> String {
    serde_json::to_string(line).expect("plain data") + "\n"
}
