//! A task of the Medical Segmentation Decathlon: `dataset.json`, `imagesTr`, `labelsTr`.
//!
//! Contrasts of a 4-D image become cases of one subject; of Task05 (prostate) the T2 channel alone is taken, the other is
//! a map of diffusion.

use super::super::files;
use super::super::options::PrepareOptions;
use super::super::source::{Found, ImageSource, LabelSource, Labels, RawCase, Values};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

pub(super) const NEEDS: &str =
    "dataset.json with `labels` and `training`, imagesTr/, labelsTr/ (a task of the Decathlon)";
const LIST: &str = "dataset.json";

pub(super) fn recognises(root: &Path) -> Result<bool> {
    let list = root.join(LIST);
    if !list.is_file() {
        return Ok(false);
    }
    let list = files::json(&list)?;
    Ok(list["training"].is_array() && list["labels"].is_object())
}

/// The entries of an object by number: `{"0": "CT"}`.
pub(super) fn numbered(object: &Value) -> Vec<(i32, String)> {
    let entries = object.as_object().into_iter().flatten();
    let entry = |(key, value): (&String, &Value)| Some((key.parse().ok()?, value.as_str()?.to_owned()));
    let mut entries: Vec<(i32, String)> = entries.filter_map(entry).collect();
    entries.sort();
    entries
}

/// The structures of a list of labels: all but the background.
pub(super) fn structures(labels: &Value) -> Vec<(String, Values)> {
    numbered(labels).into_iter().filter(|(id, _)| *id != 0).map(|(id, name)| (name, Values::one(id))).collect()
}

/// `CT` or `MR`, and the contrast.
fn modality(name: &str) -> (&'static str, Option<String>) {
    match name.to_uppercase().as_str() {
        "CT" => ("CT", None),
        "MR" | "MRI" => ("MR", None),
        _ => ("MR", Some(name.to_owned())),
    }
}

/// The channels that are taken: number, name.
fn channels(list: &Value, notes: &mut Vec<String>) -> Vec<(usize, String)> {
    let all: Vec<(usize, String)> = numbered(&list["modality"])
        .into_iter()
        .filter_map(|(id, name)| Some((usize::try_from(id).ok()?, name)))
        .collect();
    let has = |wanted: &str| all.iter().any(|(_, name)| name.eq_ignore_ascii_case(wanted));
    if has("T2") && has("ADC") {
        notes.push("of T2 and ADC, T2 is taken".into());
        return all.into_iter().filter(|(_, name)| name.eq_ignore_ascii_case("T2")).collect();
    }
    all
}

pub(super) fn discover(root: &Path, options: &PrepareOptions) -> Result<Found> {
    let path = root.join(LIST);
    let list = files::json(&path)?;
    let text = |names: &[&str]| names.iter().find_map(|name| list[name].as_str()).map(str::to_owned);
    let mut found = Found { name: text(&["name"]), license: text(&["licence", "license"]), ..Found::default() };
    let structures = structures(&list["labels"]);
    let several = numbered(&list["modality"]).len() > 1;
    let mut channels = channels(&list, &mut found.notes);
    if channels.is_empty() {
        let modality = options.modality.clone().ok_or_else(|| {
            Error::source_data(&path, "it names no modality", "say it with --modality CT or --modality MR")
        })?;
        channels.push((0, modality));
    }
    for (number, entry) in list["training"].as_array().into_iter().flatten().enumerate() {
        let wrong = || {
            let message = format!("entry {} of `training` has no image or no label", number + 1);
            Error::source_data(&path, message, "correct the list")
        };
        let file = |name: &str| files::inside(root, &path, entry[name].as_str().ok_or_else(wrong)?);
        let (image, label) = (file("image")?, file("label")?);
        for (channel, name) in &channels {
            let (modality, contrast) = modality(name);
            let stem = files::stem(&image);
            let id = if channels.len() > 1 { format!("{stem}-{name}") } else { stem.clone() };
            let source = ImageSource::File { path: image.clone(), channel: several.then_some(*channel) };
            let labels = vec![Labels::new(LabelSource::File(label.clone()), structures.clone())];
            found.cases.push(RawCase { subject: stem, contrast, ..RawCase::new(&id, modality, source, labels) });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::testing::folder;
    use super::*;

    fn found(list: &str) -> Result<Found> {
        let folder = folder(&[&format!("dataset.json={list}"), "._dataset.json=junk"]);
        assert!(recognises(folder.path()).expect("readable"));
        discover(folder.path(), &PrepareOptions::default())
    }

    #[test]
    fn of_the_prostate_t2_is_taken_and_of_the_brain_all_four() {
        let prostate = r#"{"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "PZ", "2": "TZ"},
            "licence": "CC-BY-SA 4.0", "training": [{"image": "./imagesTr/p.nii.gz", "label": "./labelsTr/p.nii.gz"}]}"#;
        let found = self::found(prostate).expect("a task");
        assert_eq!((found.cases.len(), found.license.as_deref()), (1, Some("CC-BY-SA 4.0")));
        let case = &found.cases[0];
        assert!(matches!(case.image, ImageSource::File { channel: Some(0), .. }));
        assert_eq!(case.structures().collect::<Vec<_>>(), ["PZ", "TZ"]);
        let brain = r#"{"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "labels": {"1": "edema"},
            "training": [{"image": "imagesTr/b.nii.gz", "label": "labelsTr/b.nii.gz"}]}"#;
        let found = self::found(brain).expect("a task");
        assert_eq!(
            found.cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(),
            ["b-FLAIR", "b-T1w", "b-t1gd", "b-T2w"]
        );
        assert!(found.cases.iter().all(|case| case.subject == "b" && case.modality == "MR"));
    }

    #[test]
    fn a_list_that_leads_elsewhere_is_refused() {
        let list = |image: &str| {
            format!(
                r#"{{"modality": {{"0": "CT"}}, "labels": {{"1": "x"}}, "training": [{{"image": "{image}", "label": "a.nii"}}]}}"#
            )
        };
        for path in ["../x.nii", "/etc/passwd", "./"] {
            assert!(found(&list(path)).expect_err("outside").to_string().contains("outside its folder"), "{path}");
        }
    }
}
