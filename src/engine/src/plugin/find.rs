//! Where plugins are looked for: a path the caller gives, `ADAPTMEDSEG_PLUGIN_PATH`, beside this library or program. Never
//! the working directory, where anyone may have put anything.

use std::env;
use std::path::{Path, PathBuf};

/// Folders, and files, that are searched before that of this library.
pub(super) const PATH_VARIABLE: &str = "ADAPTMEDSEG_PLUGIN_PATH";

const PREFIX: &str = "libadaptmedseg_";

/// The file name of a plugin.
fn file_name(name: &str) -> String {
    let prefix = PREFIX.strip_prefix("lib").filter(|_| cfg!(windows)).unwrap_or(PREFIX);
    format!("{prefix}{name}{}", env::consts::DLL_SUFFIX)
}

/// The files a plugin of this name may be, in the order in which they are tried.
///
/// `given` is a file, or a folder that holds it, and is then the only place.
pub(super) fn candidates(name: &str, given: Option<&Path>) -> Vec<PathBuf> {
    let file = file_name(name);
    if let Some(given) = given {
        // Made absolute here: the system would look elsewhere for a name without a folder.
        let given = std::path::absolute(given).unwrap_or_else(|_| given.to_owned());
        return vec![if given.is_dir() { given.join(file) } else { given }];
    }
    places().into_iter().map(|place| if is_library(&place) { place } else { place.join(&file) }).collect()
}

/// Every plugin there is, one of each name. `given` is a file, or a folder, and is then the only place.
pub(super) fn all(given: Option<&Path>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let given = given.map(|given| vec![std::path::absolute(given).unwrap_or_else(|_| given.to_owned())]);
    for place in given.unwrap_or_else(places) {
        let files: Vec<PathBuf> = if is_library(&place) {
            vec![place]
        } else {
            let entries = std::fs::read_dir(&place).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_plugin(path)).collect();
            files.sort();
            files
        };
        for file in files {
            if file.is_file() && !found.iter().any(|other| other.file_name() == file.file_name()) {
                found.push(file);
            }
        }
    }
    found
}

fn is_plugin(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(&file_name("")[..file_name("").len() - env::consts::DLL_SUFFIX.len()])
        && name.ends_with(env::consts::DLL_SUFFIX)
}

fn is_library(path: &Path) -> bool {
    path.to_string_lossy().ends_with(env::consts::DLL_SUFFIX)
}

/// The absolute ones among the entries of the variable, then the folder this code was loaded from.
fn places() -> Vec<PathBuf> {
    let variable = env::var_os(PATH_VARIABLE).unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&variable).filter(|path| path.is_absolute()).collect();
    places.extend(home());
    places
}

/// The folder of the library or program that this code is part of.
fn home() -> Option<PathBuf> {
    let file = this_library().filter(|path| path.is_absolute()).or_else(|| env::current_exe().ok())?;
    Some(file.parent()?.to_owned())
}

#[cfg(unix)]
fn this_library() -> Option<PathBuf> {
    use std::ffi::{CStr, OsStr};
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address of a function of this very library, and a structure to fill.
    let known = unsafe { libc::dladdr(this_library as fn() -> Option<PathBuf> as *const _, info.as_mut_ptr()) };
    // SAFETY: zeroed is a value of it, and so is what was filled in.
    let name = unsafe { info.assume_init() }.dli_fname;
    if known == 0 || name.is_null() {
        return None;
    }
    // SAFETY: not NULL, so a string that lives as long as this library is loaded.
    Some(Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes())).to_owned())
}

/// Elsewhere the folder of the program counts; untested.
#[cfg(not(unix))]
fn this_library() -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_place_is_the_only_one_and_becomes_absolute() {
        let [path] = &candidates("torch", Some(Path::new("some/plugin.so")))[..] else { panic!("one place") };
        assert!(path.is_absolute() && path.ends_with("some/plugin.so"), "{path:?}");
        let folder = env::temp_dir();
        assert_eq!(candidates("torch", Some(&folder)), [folder.join(file_name("torch"))]);
    }

    #[test]
    fn the_working_directory_is_no_place() {
        let here = env::current_dir().expect("there is one");
        for path in candidates("torch", None) {
            assert!(path.is_absolute(), "{path:?}");
            // A test's working directory is the folder of its package, where no library lies.
            assert_ne!(path.parent(), Some(here.as_path()));
        }
    }
}
