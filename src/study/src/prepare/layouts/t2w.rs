//! T2-weighted prostate MR as multi-page TIFF: a folder of images and one of labels, with files of the same names; or labels
//! beside the images, with an ending. Everything but 0 is prostate.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase, Values};
use super::pairs::{ENDINGS, IMAGE_FOLDERS, LABEL_FOLDERS};
use super::with_ending;
use crate::error::Result;
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str =
    "images/ and labels/ (or masks/) with multi-page TIFF of the same names, or NAME.tif and NAME_label.tif";

fn stacks(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(files::entries(folder)?.into_iter().filter(|path| files::is_stack(path)).collect())
}

/// Folders of images and of labels; both are `root` where there are none.
fn two_folders(root: &Path) -> Result<(PathBuf, PathBuf)> {
    match (files::find(root, &IMAGE_FOLDERS)?, files::find(root, &LABEL_FOLDERS)?) {
        (Some(images), Some(labels)) => Ok((images, labels)),
        _ => Ok((root.to_owned(), root.to_owned())),
    }
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    let (images, labels) = two_folders(root)?;
    let has_ending = |path: &PathBuf| with_ending(path, &ENDINGS).is_some();
    Ok(!stacks(&images)?.is_empty() && (images != labels || stacks(&labels)?.iter().any(has_ending)))
}

pub(super) fn discover(root: &Path, options: &PrepareOptions) -> Result<Found> {
    let (images, folder) = two_folders(root)?;
    let labels = stacks(&folder)?;
    let mut found = Found::default();
    for image in stacks(&images)? {
        if images == folder && with_ending(&image, &ENDINGS).is_some() {
            continue;
        }
        let stem = files::stem(&image);
        let same = |path: &&PathBuf| {
            with_ending(path, &ENDINGS).as_deref() == Some(&stem) || images != folder && files::stem(path) == stem
        };
        let label = labels.iter().find(same).cloned().ok_or_else(|| {
            let expected = folder.join(files::name(&image));
            files::missing(&expected, &format!("the labels of {} are", files::name(&image)))
        })?;
        let labels = Labels::new(LabelSource::Stack(label), [("prostate", Values::not_zero())]);
        let modality = options.modality.as_deref().unwrap_or("MR");
        let case = RawCase::new(&stem, modality, ImageSource::Stack(image), vec![labels]);
        found.cases.push(RawCase { contrast: Some("T2".into()), ..case });
    }
    Ok(found)
}
