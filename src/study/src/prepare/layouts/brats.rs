//! BraTS 2021: folders `BraTS2021_NNNNN` with four contrasts and `_seg`.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase, Values};
use crate::error::Result;
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str = "folders BraTS2021_NNNNN with _flair, _t1, _t1ce, _t2 and _seg.nii.gz (BraTS 2021)";
/// Ending of the file, contrast.
const CONTRASTS: [(&str, &str); 4] = [("flair", "FLAIR"), ("t1", "T1"), ("t1ce", "T1ce"), ("t2", "T2")];
/// Values of the labels; there is no 3.
const STRUCTURES: [(&str, i32); 3] = [("necrotic tumor core", 1), ("peritumoral edema", 2), ("enhancing tumor", 4)];

fn file(folder: &Path, ending: &str) -> PathBuf {
    let plain = folder.join(format!("{}_{ending}.nii", files::name(folder)));
    if plain.is_file() { plain } else { folder.join(format!("{}_{ending}.nii.gz", files::name(folder))) }
}

fn subjects(root: &Path) -> Result<Vec<PathBuf>> {
    let mut subjects = files::folders(root)?;
    subjects.retain(|folder| files::name(folder).to_lowercase().starts_with("brats"));
    subjects.retain(|folder| CONTRASTS.iter().any(|(ending, _)| file(folder, ending).is_file()));
    Ok(subjects)
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    Ok(!subjects(root)?.is_empty())
}

pub(super) fn discover(root: &Path, _: &PrepareOptions) -> Result<Found> {
    let mut found = Found::default();
    let subjects = subjects(root)?;
    if !subjects.iter().any(|folder| file(folder, "seg").is_file()) {
        // A validation or test set.
        found.notes.push(format!("{} subjects without labels are left out", subjects.len()));
        return Ok(found);
    }
    for folder in subjects {
        let name = files::name(&folder);
        let labels = LabelSource::File(file(&folder, "seg"));
        let labels = Labels::new(labels, STRUCTURES.map(|(name, id)| (name, Values::one(id))));
        for (ending, contrast) in CONTRASTS {
            let image = ImageSource::File { path: file(&folder, ending), channel: None };
            let case = RawCase::new(&format!("{name}-{contrast}"), "MR", image, vec![labels.clone()]);
            found.cases.push(RawCase { subject: name.clone(), contrast: Some(contrast.into()), ..case });
        }
    }
    Ok(found)
}
