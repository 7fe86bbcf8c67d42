//! A folder that appears whole or not at all: written under another name, then renamed.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder being written. Dropped before [`commit`](Self::commit), it leaves nothing.
pub(crate) struct Staging {
    out: PathBuf,
    temporary: PathBuf,
    overwrite: bool,
    /// The file by which a folder that may be replaced is known.
    mark: &'static str,
    created: std::cell::Cell<bool>,
}

impl Staging {
    /// Checks that `out` may be written, before any work is done. With `overwrite` a folder that has a file `mark`, such
    /// as a model's `config.json`, may be replaced.
    pub(crate) fn plan(out: &Path, overwrite: bool, mark: &'static str) -> Result<Self> {
        if out.file_name().is_none() {
            return Err(Error::InvalidArgument { message: format!("{} cannot be created as a folder", out.display()) });
        }
        let staging = Self {
            out: out.to_path_buf(),
            temporary: sibling(out, "tmp"),
            overwrite,
            mark,
            created: std::cell::Cell::new(false),
        };
        staging.check_free()?;
        Ok(staging)
    }

    /// Whether `out` is free, or a folder that may be replaced. Nothing else is ever deleted.
    fn check_free(&self) -> Result<()> {
        let Ok(metadata) = fs::symlink_metadata(&self.out) else { return Ok(()) };
        if !self.overwrite {
            return Err(Error::Exists { path: self.out.clone() });
        }
        let is_empty = || fs::read_dir(&self.out).is_ok_and(|mut entries| entries.next().is_none());
        if metadata.is_dir() && (self.out.join(self.mark).is_file() || is_empty()) {
            return Ok(());
        }
        Err(Error::InvalidArgument {
            message: format!(
                "{} is not a {} folder and will not be overwritten",
                self.out.display(),
                if self.mark == super::CONFIG_FILE { "model" } else { "adapter" }
            ),
        })
    }

    /// Creates the temporary folder, beside the final one so that a rename suffices.
    pub(crate) fn create(&self) -> Result<&Path> {
        fs::create_dir(&self.temporary).map_err(|error| Error::io(&self.temporary, error))?;
        self.created.set(true);
        Ok(&self.temporary)
    }

    /// Puts the folder in its place.
    pub(crate) fn commit(self) -> Result<()> {
        self.check_free()?;
        let io = |error| Error::io(&self.out, error);
        if fs::symlink_metadata(&self.out).is_err() {
            fs::rename(&self.temporary, &self.out).map_err(io)?;
        } else {
            let old = sibling(&self.out, "old");
            fs::rename(&self.out, &old).map_err(io)?;
            if let Err(error) = fs::rename(&self.temporary, &self.out) {
                // Best effort: the first error is the one worth telling.
                let _ = fs::rename(&old, &self.out);
                return Err(io(error));
            }
            fs::remove_dir_all(&old).map_err(|error| Error::io(&old, error))?;
        }
        self.created.set(false);
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.created.get()
            && let Err(error) = fs::remove_dir_all(&self.temporary)
        {
            log::warn!("{} could not be removed: {error}", self.temporary.display());
        }
    }
}

/// `OUT.kind-PID`.
fn sibling(out: &Path, kind: &str) -> PathBuf {
    let mut name = out.file_name().map_or_else(OsString::new, OsString::from);
    name.push(format!(".{kind}-{}", std::process::id()));
    out.with_file_name(name)
}
