//! SAML: prostate MR of six sites, `CaseNN.nii.gz` and `CaseNN_Segmentation.nii.gz` in a folder for each.
//!
//! Some sites mark the prostate with 1, others its zones with 1 and 2, and not all in the same way: everything but 0 is
//! prostate.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase, Values};
use super::with_ending;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str =
    "folders RUNMC, BMC, I2CVB, UCL, BIDMC, HK with CaseNN.nii.gz and CaseNN_Segmentation.nii.gz (SAML)";
const SITES: [&str; 6] = ["RUNMC", "BMC", "I2CVB", "UCL", "BIDMC", "HK"];

fn sites(root: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut sites = Vec::new();
    for site in SITES {
        if let Some(folder) = files::find(root, &[site])?.filter(|folder| folder.is_dir()) {
            sites.push((site, folder));
        }
    }
    Ok(sites)
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    for (_, folder) in sites(root)? {
        if files::entries(&folder)?.iter().any(|path| files::is_image(path)) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn discover(root: &Path, _: &PrepareOptions) -> Result<Found> {
    let mut found = Found::default();
    let sites = sites(root)?;
    let absent: Vec<&str> = SITES.into_iter().filter(|site| !sites.iter().any(|(there, _)| there == site)).collect();
    if !absent.is_empty() {
        found.notes.push(format!("sites that are not there: {}", absent.join(", ")));
    }
    for (site, folder) in sites {
        let cases = pairs(&folder, &["_segmentation"])?;
        for (image, label) in cases {
            let id = format!("{site}-{}", files::stem(&image));
            let case = prostate(&id, image, label);
            found.cases.push(RawCase { group: site.into(), ..case });
        }
    }
    Ok(found)
}

/// A case of T2-weighted MR in which everything but 0 is prostate.
pub(super) fn prostate(id: &str, image: PathBuf, label: PathBuf) -> RawCase {
    let labels = Labels::new(LabelSource::File(label), [("prostate", Values::not_zero())]);
    let case = RawCase::new(id, "MR", ImageSource::File { path: image, channel: None }, vec![labels]);
    RawCase { contrast: Some("T2".into()), ..case }
}

/// Images of a folder with the label maps of the same name and one of the endings, in whatever case.
///
/// # Errors
/// An image without labels, or labels without an image.
pub(super) fn pairs(folder: &Path, endings: &[&str]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let all: Vec<PathBuf> = files::entries(folder)?.into_iter().filter(|path| files::is_image(path)).collect();
    let (labels, images): (Vec<PathBuf>, Vec<PathBuf>) =
        all.into_iter().partition(|path| with_ending(path, endings).is_some());
    if let Some(label) = labels.iter().find(|label| {
        let of = with_ending(label, endings);
        !images.iter().any(|image| Some(files::stem(image)) == of)
    }) {
        return Err(Error::source_data(label, "labels without their image", "download the case again"));
    }
    let pair = |image: PathBuf| {
        let label = labels.iter().find(|label| with_ending(label, endings) == Some(files::stem(&image)));
        let expected = || folder.join(format!("{}{}.*", files::stem(&image), endings[0]));
        let label = label
            .cloned()
            .ok_or_else(|| files::missing(&expected(), &format!("the labels of {} are", files::name(&image))))?;
        Ok((image, label))
    };
    images.into_iter().map(pair).collect()
}
