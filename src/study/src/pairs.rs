//! Where training pairs come from: a list, a folder with a list, or memory.

use crate::dataset::{Dataset, Part};
use crate::error::{Error, Result};
use adaptmedseg_volume::{ReadOptions, Volume, read, read_labels};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which part of the data a pair belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// It is learned from.
    Train,
    /// It tells when to stop, and is never learned from.
    Validation,
}

/// An image and one structure in it.
#[derive(Clone, Debug)]
pub struct TrainingPair {
    /// The image.
    pub image: Arc<Volume<f32>>,
    /// One byte per voxel of the image, i fastest, other than 0 in the structure.
    pub mask: Vec<u8>,
    /// What the structure is called in a text prompt; none: no text prompts are trained with this pair.
    pub label: Option<String>,
    /// The task of context priors.
    pub task: Option<String>,
    /// The modality of context priors, such as `MR`.
    pub modality: Option<String>,
    /// Who was scanned: pairs of one subject are never on both sides of a split. None: each image is its own subject.
    pub subject: Option<String>,
    /// The split, where it is not left to the run.
    pub split: Option<Split>,
    /// For messages.
    pub name: String,
}

/// An entry of `pairs.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    image: PathBuf,
    mask: PathBuf,
    label: Option<String>,
    label_id: Option<LabelIds>,
    task: Option<String>,
    modality: Option<String>,
    subject: Option<String>,
    split: Option<Split>,
    channel: Option<usize>,
}

/// The values of a structure in its mask.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum LabelIds {
    One(i32),
    Several(Vec<i32>),
}

impl LabelIds {
    fn contains(&self, label: i32) -> bool {
        match self {
            Self::One(id) => *id == label,
            Self::Several(ids) => ids.contains(&label),
        }
    }

    fn named(&self) -> String {
        match self {
            Self::One(id) => id.to_string(),
            Self::Several(ids) => format!("{ids:?}"),
        }
    }
}

/// The list in a data set folder.
const LIST: &str = "pairs.json";

/// Reads the pairs of a list, or of a folder that holds a `pairs.json` or is a data set.
///
/// Of a data set every structure of every case that is not empty is a pair, but for the cases kept for tests.
///
/// A list is a JSON array of objects: `image` and `mask` (files, relative to the list), and optionally `label` (name of
/// the structure), `label_id` (its value in the mask, or a list of values; without it every voxel other than 0), `task` (default: the label),
/// `modality`, `subject`, `split` (`train` or `validation`) and `channel` (of a 4-D image).
///
/// # Errors
/// A list that is absent, malformed or empty; an entry whose files cannot be read, lie on different grids, or whose mask
/// holds nothing. The message names the entry.
pub fn read_pairs(path: &Path) -> Result<Vec<TrainingPair>> {
    if Dataset::is_in(path) {
        return pairs_of(path);
    }
    let list = if path.is_dir() { path.join(LIST) } else { path.to_owned() };
    let text = std::fs::read(&list).map_err(|error| Error::io(&list, error))?;
    let wrong = |message: String| Error::Pairs { path: list.clone(), message };
    let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if entries.is_empty() {
        return Err(wrong("no pairs".into()));
    }
    let folder = list.parent().unwrap_or(Path::new(""));
    let mut pairs: Vec<TrainingPair> = Vec::with_capacity(entries.len());
    let mut last: Option<(PathBuf, Option<usize>, Arc<Volume<f32>>)> = None;
    for (index, entry) in entries.into_iter().enumerate() {
        let name = format!("entry {} ({})", index + 1, entry.image.display());
        let at = |error: adaptmedseg_volume::Error| wrong(format!("{name}: {error}"));
        let (image_path, mask_path) = (folder.join(&entry.image), folder.join(&entry.mask));
        // Structures of one image stand side by side in a list.
        let image = match &last {
            Some((path, channel, image)) if *path == image_path && *channel == entry.channel => image.clone(),
            _ => {
                let options = ReadOptions { channel: entry.channel, ..ReadOptions::default() };
                Arc::new(read(&image_path, &options).map_err(at)?)
            }
        };
        last = Some((image_path, entry.channel, image.clone()));
        let labels = read_labels(&mask_path, &ReadOptions::default()).map_err(at)?;
        let spacing = image.geometry.spacing.iter().copied().fold(f64::INFINITY, f64::min);
        if !labels.geometry.is_close(&image.geometry, 0.01 * spacing) {
            return Err(wrong(format!("{name}: the mask {} lies on another grid", entry.mask.display())));
        }
        let inside =
            |&label: &i32| u8::from(entry.label_id.as_ref().map_or(label != 0, |wanted| wanted.contains(label)));
        let mask: Vec<u8> = labels.data.iter().map(inside).collect();
        if !mask.contains(&1) {
            let what =
                entry.label_id.as_ref().map_or_else(|| "nothing".into(), |ids| format!("no voxel of {}", ids.named()));
            return Err(wrong(format!("{name}: the mask {} holds {what}", entry.mask.display())));
        }
        pairs.push(TrainingPair {
            image,
            mask,
            task: entry.task.or_else(|| entry.label.clone()),
            label: entry.label,
            modality: entry.modality,
            subject: entry.subject.or_else(|| Some(entry.image.display().to_string())),
            split: entry.split,
            name,
        });
    }
    Ok(pairs)
}

fn pairs_of(folder: &Path) -> Result<Vec<TrainingPair>> {
    let dataset = Dataset::read(folder)?;
    let mut pairs = Vec::new();
    for case in &dataset.cases {
        let split = match case.part {
            Part::Train => Split::Train,
            Part::Validation => Split::Validation,
            Part::Test => continue,
        };
        let image = case.read_image(folder)?;
        for (structure, _) in case.masks.iter().filter(|(_, mask)| mask.voxels > 0) {
            pairs.push(TrainingPair {
                image: image.clone(),
                mask: case.read_mask(folder, structure, &image)?,
                label: Some(structure.clone()),
                task: Some(structure.clone()),
                modality: Some(case.modality.clone()),
                subject: Some(case.subject.clone()),
                split: Some(split),
                name: format!("{} ({structure})", case.id),
            });
        }
    }
    if pairs.is_empty() {
        return Err(Error::Dataset { path: folder.to_owned(), message: "nothing in it is for training".into() });
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use adaptmedseg_volume::{Geometry, WriteOptions, write};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let save = |name: &str, size: [usize; 3], data: Vec<i16>| {
            let volume = Volume::new(Geometry::with_size(size), data).expect("a volume");
            write(&folder.path().join(name), &volume, &WriteOptions::default()).expect("written");
        };
        save("image.nii.gz", [4, 3, 2], (0..24).collect());
        save("labels.nii.gz", [4, 3, 2], (0..24).map(|index| index % 3).collect());
        save("other.nii.gz", [2, 3, 4], vec![1; 24]);
        folder
    }

    fn message(list: &str) -> String {
        let folder = folder();
        std::fs::write(folder.path().join(LIST), list).expect("written");
        read_pairs(folder.path()).expect_err("wrong").to_string()
    }

    #[test]
    fn a_list_names_structures_by_their_value() {
        let folder = folder();
        let list = r#"[{"image": "image.nii.gz", "mask": "labels.nii.gz", "label": "liver", "label_id": 2, "modality": "MR"},
                       {"image": "image.nii.gz", "mask": "labels.nii.gz", "task": "all", "split": "validation"}]"#;
        std::fs::write(folder.path().join(LIST), list).expect("written");
        let pairs = read_pairs(&folder.path().join(LIST)).expect("a list");
        let sums = pairs.iter().map(|pair| pair.mask.iter().map(|&v| usize::from(v)).sum::<usize>());
        assert_eq!(sums.collect::<Vec<_>>(), [8, 16]);
        assert_eq!((pairs[0].task.as_deref(), pairs[1].label.as_deref()), (Some("liver"), None));
        assert_eq!(pairs[1].split, Some(Split::Validation));
        assert!(Arc::ptr_eq(&pairs[0].image, &pairs[1].image), "an image is read once");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_entry() {
        assert!(message("[]").contains("no pairs"));
        assert!(message("{}").contains("pairs.json"));
        assert!(message(r#"[{"image": "image.nii.gz", "mask": "labels.nii.gz", "lable": "x"}]"#).contains("lable"));
        assert!(message(r#"[{"image": "image.nii.gz", "mask": "absent.nii.gz"}]"#).contains("entry 1"));
        assert!(message(r#"[{"image": "image.nii.gz", "mask": "other.nii.gz"}]"#).contains("another grid"));
        let nothing = message(r#"[{"image": "image.nii.gz", "mask": "labels.nii.gz", "label_id": 9}]"#);
        assert!(nothing.contains("no voxel of 9"), "{nothing}");
    }
}
