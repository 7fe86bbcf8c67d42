//! PROMISE12: `CaseNN.mhd` and `CaseNN_segmentation.mhd`, in one folder or in several (the training set came in parts).

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::Found;
use super::saml::{pairs, prostate};
use super::with_ending;
use crate::error::Result;
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str =
    "CaseNN.mhd and CaseNN_segmentation.mhd, each with its .raw, here or in folders (PROMISE12)";
const ENDING: &[&str] = &["_segmentation"];
const DEPTH: usize = 2;

fn cases(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut cases = files::entries(folder)?;
    cases.retain(|path| {
        let name = files::name(path).to_lowercase();
        name.starts_with("case") && name.ends_with(".mhd")
    });
    Ok(cases)
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    for folder in files::tree(root, DEPTH)? {
        if !cases(&folder)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn discover(root: &Path, _: &PrepareOptions) -> Result<Found> {
    let mut found = Found::default();
    for folder in files::tree(root, DEPTH)? {
        let cases = cases(&folder)?;
        if cases.iter().all(|path| with_ending(path, ENDING).is_none()) {
            // The test set.
            if !cases.is_empty() {
                let name = files::name(&folder);
                found.notes.push(format!("{name}: {} cases without labels are left out", cases.len()));
            }
            continue;
        }
        for (image, label) in pairs(&folder, ENDING)? {
            found.cases.push(prostate(&files::stem(&image), image, label));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    #[test]
    fn the_test_set_is_left_out_and_a_missing_label_is_named() {
        let train = ["Part1/Case00.mhd", "Part1/Case00.raw", "Part1/Case00_segmentation.mhd", "Test/Case00.mhd"];
        let found = discover(folder(&train).path(), &PrepareOptions::default()).expect("PROMISE12");
        assert_eq!((found.cases.len(), found.notes.len()), (1, 1));
        let torn = folder(&[&train[..], &["Part1/Case01.mhd"]].concat());
        let message = discover(torn.path(), &PrepareOptions::default()).expect_err("torn").to_string();
        assert!(message.contains("Case01_segmentation") && message.contains("missing"), "{message}");
    }
}
