//! Folders of downloaded data sets, with what archives and file managers leave in them passed over.

use crate::error::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// Endings of images and label maps.
const IMAGES: [&str; 4] = [".nii.gz", ".nii", ".mha", ".mhd"];
/// Endings of stacks of pages.
const STACKS: [&str; 2] = [".tif", ".tiff"];

/// What is in a folder, by name; hidden files and AppleDouble leftovers (`._x`, `__MACOSX`) are not. Nothing where there
/// is no folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let io = |error| Error::io(folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = name(&path);
        if !name.starts_with('.') && name != "__MACOSX" {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The folders in a folder.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// A folder and those in it, as deep as `depth`.
pub(crate) fn tree(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let mut all = vec![folder.to_owned()];
    if depth > 0 {
        for inner in folders(folder)? {
            all.extend(tree(&inner, depth - 1)?);
        }
    }
    Ok(all)
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name without its ending (`.nii.gz` is one).
pub(crate) fn stem(path: &Path) -> String {
    let name = name(path);
    let lower = name.to_lowercase();
    match IMAGES.iter().chain(&STACKS).find(|ending| lower.ends_with(**ending)) {
        Some(ending) => name[..name.len() - ending.len()].to_owned(),
        None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = name(path).to_lowercase();
    path.is_file() && endings.iter().any(|ending| name.ends_with(ending))
}

/// Whether it is a file of NIfTI or MetaImage.
pub(crate) fn is_image(path: &Path) -> bool {
    ends(path, &IMAGES)
}

/// Whether it is a TIFF file.
pub(crate) fn is_stack(path: &Path) -> bool {
    ends(path, &STACKS)
}

/// An entry by its name, whatever its case.
pub(crate) fn find(folder: &Path, wanted: &[&str]) -> Result<Option<PathBuf>> {
    let fits = |path: &PathBuf| wanted.iter().any(|wanted| name(path).eq_ignore_ascii_case(wanted));
    Ok(entries(folder)?.into_iter().find(fits))
}

/// A file that must be there.
///
/// # Errors
/// It is not: the message says what is missing.
pub(crate) fn required(path: PathBuf, what: &str) -> Result<PathBuf> {
    if path.exists() { Ok(path) } else { Err(missing(&path, what)) }
}

/// The error of something that is not there.
pub(crate) fn missing(path: &Path, what: &str) -> Error {
    let message = format!("{what} missing");
    Error::source_data(path, message, "download the data set again, or take the case out of the folder")
}

/// A path in a list, which must stay inside the folder.
pub(crate) fn inside(root: &Path, list: &Path, path: &str) -> Result<PathBuf> {
    let parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    let path: PathBuf = parts.collect();
    if path.as_os_str().is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        let message = format!("it refers to {}, outside its folder", path.display());
        return Err(Error::source_data(list, message, "correct the list"));
    }
    Ok(root.join(path))
}

/// Reads a JSON file.
pub(crate) fn json(path: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    serde_json::from_slice(&text).map_err(|error| Error::source_data(path, error.to_string(), "correct the list"))
}
