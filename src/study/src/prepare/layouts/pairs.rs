//! A plain folder of images and masks.
//!
//! Three ways to say what belongs together: a `pairs.json`, as fine-tuning reads it; `images/` and `labels/` (or `masks/`)
//! with files of the same names; masks beside the images, with an ending such as `_seg`. `labels.json` (`{"1": "liver"}`)
//! names the values of the masks; without it everything but 0 is one structure, called `mask`.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase, Values};
use super::msd::structures;
use super::with_ending;
use crate::dataset::Part;
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) const NEEDS: &str =
    "pairs.json, or images/ and labels/ (or masks/) with the same names, or NAME.nii.gz and NAME_seg.nii.gz";
pub(super) const IMAGE_FOLDERS: [&str; 3] = ["images", "image", "imagesTr"];
pub(super) const LABEL_FOLDERS: [&str; 5] = ["labels", "masks", "label", "mask", "labelsTr"];
pub(super) const ENDINGS: [&str; 9] =
    ["_segmentation", "_labels", "_label", "_masks", "_mask", "_seg", "-labels", "-mask", "-seg"];
const LIST: &str = "pairs.json";

fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(files::entries(folder)?.into_iter().filter(|path| files::is_image(path)).collect())
}

/// Images and their masks.
fn matched(root: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let folders = (files::find(root, &IMAGE_FOLDERS)?, files::find(root, &LABEL_FOLDERS)?);
    let (Some(image_folder), Some(label_folder)) = folders else {
        let all = images(root)?;
        let is_mask = |path: &PathBuf| with_ending(path, &ENDINGS).is_some();
        return if all.iter().any(is_mask) { super::saml::pairs(root, &ENDINGS) } else { Ok(Vec::new()) };
    };
    let labels = images(&label_folder)?;
    let pair = |image: PathBuf| {
        let stem = files::stem(&image);
        let fits = |path: &&PathBuf| files::stem(path) == stem || with_ending(path, &ENDINGS).as_deref() == Some(&stem);
        let label = labels.iter().find(fits).cloned().ok_or_else(|| {
            let expected = label_folder.join(files::name(&image));
            files::missing(&expected, &format!("the labels of {} are", files::name(&image)))
        })?;
        Ok((image, label))
    };
    images(&image_folder)?.into_iter().map(pair).collect()
}

pub(super) fn recognises(root: &Path) -> Result<bool> {
    let folders = files::find(root, &IMAGE_FOLDERS)?.is_some() && files::find(root, &LABEL_FOLDERS)?.is_some();
    let beside = || -> Result<bool> { Ok(images(root)?.iter().any(|path| with_ending(path, &ENDINGS).is_some())) };
    Ok(root.join(LIST).is_file() || folders || beside()?)
}

fn modality<'a>(options: &'a PrepareOptions, told: Option<&'a str>, root: &Path) -> Result<&'a str> {
    told.or(options.modality.as_deref()).ok_or_else(|| {
        let message = "nothing says whether the images are CT or MR";
        Error::source_data(root, message, "say it with --modality CT or --modality MR")
    })
}

pub(super) fn discover(root: &Path, options: &PrepareOptions) -> Result<Found> {
    let list = root.join(LIST);
    if list.is_file() {
        return listed(root, &list, options);
    }
    let names = root.join("labels.json");
    let mut named = if names.is_file() { structures(&files::json(&names)?) } else { Vec::new() };
    if named.is_empty() {
        named.push(("mask".into(), Values::not_zero()));
    }
    let modality = modality(options, None, root)?;
    let case = |(image, label): (PathBuf, PathBuf)| {
        let labels = Labels::new(LabelSource::File(label), named.clone());
        RawCase::new(&files::stem(&image), modality, ImageSource::File { path: image, channel: None }, vec![labels])
    };
    Ok(Found { cases: matched(root)?.into_iter().map(case).collect(), ..Found::default() })
}

/// The entries of `pairs.json`, those of one image (and channel) as one case.
fn listed(root: &Path, path: &Path, options: &PrepareOptions) -> Result<Found> {
    let list = files::json(path)?;
    let mut cases: BTreeMap<(PathBuf, Option<usize>), RawCase> = BTreeMap::new();
    for (number, entry) in list.as_array().into_iter().flatten().enumerate() {
        let text = |field: &str| entry[field].as_str();
        let file = |field: &str| -> Result<PathBuf> {
            let missing =
                || Error::source_data(path, format!("entry {} has no {field}", number + 1), "correct the list");
            files::inside(root, path, text(field).ok_or_else(missing)?)
        };
        let (image, mask) = (file("image")?, file("mask")?);
        let channel = entry["channel"].as_u64().map(|channel| channel as usize);
        let id = files::stem(&image) + &channel.map(|channel| format!("-{channel}")).unwrap_or_default();
        let modality = modality(options, text("modality"), path)?;
        let source = ImageSource::File { path: image.clone(), channel };
        let case = cases.entry((image, channel)).or_insert_with(|| RawCase::new(&id, modality, source, Vec::new()));
        case.subject = text("subject").map_or_else(|| case.subject.clone(), str::to_owned);
        case.part = match text("split") {
            Some("train") => Some(Part::Train),
            Some("validation") => Some(Part::Validation),
            Some("test") => Some(Part::Test),
            _ => None,
        };
        let label = (text("label").or(text("task")).unwrap_or("mask").to_owned(), values(&entry["label_id"]));
        let source = LabelSource::File(mask);
        match case.labels.iter_mut().find(|labels| labels.source == source) {
            Some(labels) => labels.structures.push(label),
            None => case.labels.push(Labels::new(source, [label])),
        }
    }
    Ok(Found { cases: cases.into_values().collect(), ..Found::default() })
}

/// One value, a list of them, or everything but 0.
fn values(ids: &Value) -> Values {
    let one = |id: &Value| id.as_i64().and_then(|id| i32::try_from(id).ok()).map(|id| (id, id));
    let several: Vec<(i32, i32)> = match ids {
        Value::Array(ids) => ids.iter().filter_map(one).collect(),
        id => one(id).into_iter().collect(),
    };
    if several.is_empty() { Values::not_zero() } else { Values(several) }
}
