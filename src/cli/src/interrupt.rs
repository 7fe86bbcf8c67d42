//! Ctrl-C. The first one asks the run to stop, which leaves no file; a second one ends the process at once, after the
//! temporary folders are removed.

use crate::failure::{Failure, Result};
use adaptmedseg_segment::CancelToken;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

static TOKEN: LazyLock<CancelToken> = LazyLock::new(CancelToken::new);
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Listens for Ctrl-C and requests to terminate.
pub(crate) fn install() -> Result<()> {
    let handler = || {
        if TOKEN.is_cancelled() {
            remove_temporaries();
            std::process::exit(i32::from(crate::failure::Code::Cancelled as u8));
        }
        TOKEN.cancel();
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::io(format!("cannot listen for Ctrl-C: {error}"), None))
}

/// The token that Ctrl-C cancels.
pub(crate) fn token() -> &'static CancelToken {
    &TOKEN
}

/// Ends here if the user has asked to stop.
pub(crate) fn check() -> Result<()> {
    if TOKEN.is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
}

/// Remembers a temporary folder, to be removed however the process ends.
pub(crate) fn remember(folder: &Path) {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
}

/// Removes the temporary folders that are still there.
pub(crate) fn remove_temporaries() {
    for folder in TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = std::fs::remove_dir_all(folder);
    }
}
