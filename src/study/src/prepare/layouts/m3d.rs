//! M3D-Seg, which SegVol was trained on: for each data set a folder `NNNN` with `NNNN.json` and cases of `image.npy` and
//! `mask_(structures, x, y, z).npz`.
//!
//! Its images are foreground-normalised already and have lost their spacing and orientation. Its own split is kept: what it
//! tests on stays test.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase};
use super::msd::structures;
use crate::dataset::Part;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str = "NNNN/NNNN.json, NNNN/CASE/image.npy and mask_(c, x, y, z).npz (M3D-Seg)";

/// The lists of the data sets in a folder, or of the folder that is one.
fn lists(root: &Path) -> Result<Vec<PathBuf>> {
    let mut lists = Vec::new();
    for folder in std::iter::once(root.to_owned()).chain(files::folders(root)?) {
        let list = folder.join(format!("{}.json", files::name(&folder)));
        if list.is_file() {
            let json = files::json(&list)?;
            if json["train"].is_array() || json["test"].is_array() {
                lists.push(list);
            }
        }
    }
    Ok(lists)
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    Ok(!lists(root)?.is_empty())
}

pub(super) fn discover(root: &Path, options: &PrepareOptions) -> Result<Found> {
    let mut found = Found { normalised: true, ..Found::default() };
    found.notes.push("the images of M3D-Seg are foreground-normalised by its authors: nothing is done to them".into());
    for list in lists(root)? {
        one(root, &list, options, &mut found)?;
    }
    if found.cases.iter().any(|case| case.part == Some(Part::Test)) {
        found.notes.push("what M3D-Seg tests on stays test; the rest is split between training and validation".into());
    }
    Ok(found)
}

fn one(root: &Path, path: &Path, options: &PrepareOptions, found: &mut Found) -> Result<()> {
    let list = files::json(path)?;
    let code = files::stem(path);
    let structures = structures(&list["labels"]);
    // Paths are relative to the folder of all data sets.
    let folder = path.parent().unwrap_or(root);
    let base = folder.parent().unwrap_or(root);
    let modality = list["modality"]["0"].as_str().map(|name| if name == "CT" { "CT" } else { "MR" });
    let modality = options.modality.as_deref().or(modality).unwrap_or("CT");
    for (name, part) in [("train", None), ("test", Some(Part::Test))] {
        for (number, entry) in list[name].as_array().into_iter().flatten().enumerate() {
            let file = |field: &str| -> Result<PathBuf> {
                let text = entry[field].as_str().ok_or_else(|| {
                    let message = format!("entry {} of `{name}` has no {field}", number + 1);
                    Error::source_data(path, message, "correct the list")
                })?;
                files::inside(base, path, text)
            };
            let (image, label) = (file("image")?, file("label")?);
            let case = files::name(image.parent().unwrap_or(&image));
            let labels = Labels::new(LabelSource::Sparse(label), structures.clone());
            let case = RawCase::new(&format!("{code}-{case}"), modality, ImageSource::Array(image), vec![labels]);
            found.cases.push(RawCase { part, group: code.clone(), ..case });
        }
    }
    Ok(())
}
