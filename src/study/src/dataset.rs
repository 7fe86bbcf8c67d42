//! A data set on disk: what the trainer learns from and the evaluator measures on.
//!
//! A folder with `dataset.json` and, for each case, an image and one binary mask for each structure, all on one grid:
//! SegVol's own training layout, in NIfTI. Splits are by subject.

use crate::error::{Error, Result};
use adaptmedseg_volume::{ReadOptions, Volume, read, read_labels};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The list in a data set's folder.
pub const DATASET_FILE: &str = "dataset.json";
/// The version of the list that this library writes.
const VERSION: u32 = 1;

/// What a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// It is learned from.
    Train,
    /// It tells when to stop and which checkpoint is kept.
    Validation,
    /// It is measured on, and nothing else: no run ever sees it.
    Test,
}

/// What was done to the intensities of the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Nothing: models normalise by themselves.
    #[default]
    None,
    /// SegVol's foreground normalisation: clipped to percentiles of the voxels above the mean, then mean 0 and deviation 1.
    Foreground,
}

/// The list: `dataset.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    format_version: u32,
    /// Name of the data set.
    pub name: String,
    /// The layout it was made of, such as `msd`.
    pub layout: String,
    /// Licence of the data, as far as the source says.
    pub license: Option<String>,
    /// What was done to the intensities.
    pub normalisation: Normalisation,
    /// The seed of the splits.
    pub seed: u64,
    /// Names of structures in the source, and what they are called here.
    pub labels: BTreeMap<String, String>,
    /// The cases, in the order of their ids.
    pub cases: Vec<DatasetCase>,
}

/// A case: an image and the structures in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetCase {
    /// Unique in the data set; a file name.
    pub id: String,
    /// Who was scanned: all cases of a subject are in one part.
    pub subject: String,
    /// `CT` or `MR`.
    pub modality: String,
    /// The contrast, such as `T2` or `FLAIR`.
    pub contrast: Option<String>,
    /// What the case is for.
    pub part: Part,
    /// Where it comes from, relative to the source's folder.
    pub source: PathBuf,
    /// The image, relative to the data set.
    pub image: DatasetFile,
    /// The mask of each structure, 1 inside; a structure that was looked for and is not there has an empty mask.
    pub masks: BTreeMap<String, DatasetMask>,
}

/// A file of the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFile {
    /// Relative to the data set.
    pub path: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
}

/// A mask of the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetMask {
    /// Relative to the data set.
    pub path: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// Voxels in the structure.
    pub voxels: u64,
}

impl Dataset {
    /// An empty list.
    pub fn new(name: impl Into<String>, layout: impl Into<String>, seed: u64) -> Self {
        Self {
            format_version: VERSION,
            name: name.into(),
            layout: layout.into(),
            license: None,
            normalisation: Normalisation::None,
            seed,
            labels: BTreeMap::new(),
            cases: Vec::new(),
        }
    }

    /// Whether a folder holds a data set.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(DATASET_FILE).is_file()
    }

    /// Reads the list of a folder. Files are not touched.
    ///
    /// # Errors
    /// A list that is absent, malformed, of a later version, names a case twice, puts a subject into two parts, or
    /// refers to files outside the folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let list = folder.join(DATASET_FILE);
        let text = std::fs::read(&list).map_err(|error| Error::io(&list, error))?;
        let wrong = |message: String| Error::Dataset { path: list.clone(), message };
        let dataset: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if dataset.format_version > VERSION {
            return Err(wrong(format!("version {} is later than this program's {VERSION}", dataset.format_version)));
        }
        dataset.check().map_err(wrong)?;
        Ok(dataset)
    }

    fn check(&self) -> Result<(), String> {
        let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
        let mut ids = std::collections::BTreeSet::new();
        for case in &self.cases {
            if !ids.insert(&case.id) {
                return Err(format!("the case {} is there twice", case.id));
            }
            if *parts.entry(&case.subject).or_insert(case.part) != case.part {
                return Err(format!("the subject {} is in two parts", case.subject));
            }
            let paths = case.masks.values().map(|mask| &mask.path).chain([&case.image.path]);
            if let Some(path) = paths.into_iter().find(|path| !is_inside(path)) {
                return Err(format!("the case {} refers to {}, outside the data set", case.id, path.display()));
            }
        }
        Ok(())
    }

    /// The list as text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data") + "\n"
    }

    /// The cases of a part.
    pub fn part(&self, part: Part) -> impl Iterator<Item = &DatasetCase> {
        self.cases.iter().filter(move |case| case.part == part)
    }
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && !path.as_os_str().is_empty()
}

impl DatasetCase {
    /// Reads the image. `folder` is the data set's.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read_image(&self, folder: &Path) -> Result<Arc<Volume<f32>>> {
        Ok(Arc::new(read(&folder.join(&self.image.path), &ReadOptions::default())?))
    }

    /// Reads the mask of a structure: one byte for each voxel of `image`, 1 inside.
    ///
    /// # Errors
    /// An unknown structure; a file that cannot be read, or lies on another grid.
    pub fn read_mask(&self, folder: &Path, structure: &str, image: &Volume<f32>) -> Result<Vec<u8>> {
        let mask = self.masks.get(structure).ok_or_else(|| {
            Error::argument(
                format!("the case {} has no structure {structure}", self.id),
                "see dataset.json for its names",
            )
        })?;
        let path = folder.join(&mask.path);
        let labels = read_labels(&path, &ReadOptions::default())?;
        let spacing = image.geometry.spacing.iter().copied().fold(f64::INFINITY, f64::min);
        if !labels.geometry.is_close(&image.geometry, 0.01 * spacing) {
            return Err(Error::Dataset { path, message: "the mask lies on another grid than its image".into() });
        }
        Ok(labels.data.iter().map(|&label| u8::from(label != 0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, subject: &str, part: Part, image: &str) -> DatasetCase {
        DatasetCase {
            id: id.into(),
            subject: subject.into(),
            modality: "MR".into(),
            contrast: None,
            part,
            source: id.into(),
            image: DatasetFile { path: image.into(), sha256: String::new() },
            masks: BTreeMap::new(),
        }
    }

    fn read_back(cases: Vec<DatasetCase>) -> Result<Dataset> {
        let folder = tempfile::tempdir().expect("a folder");
        let dataset = Dataset { cases, ..Dataset::new("test", "pairs", 1) };
        std::fs::write(folder.path().join(DATASET_FILE), dataset.to_json()).expect("written");
        let read = Dataset::read(folder.path())?;
        assert_eq!(read, dataset);
        Ok(read)
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let cases = vec![case("a", "s1", Part::Train, "cases/a/image.nii.gz"), case("b", "s2", Part::Test, "b.nii.gz")];
        let read = read_back(cases).expect("a list");
        assert_eq!(read.part(Part::Test).map(|case| case.id.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_list_that_would_mislead_is_refused() {
        let message = |cases| read_back(cases).expect_err("wrong").to_string();
        let twice = vec![case("a", "s", Part::Train, "a"), case("a", "s", Part::Train, "b")];
        assert!(message(twice).contains("a is there twice"));
        let torn = vec![case("a", "s", Part::Train, "a"), case("b", "s", Part::Test, "b")];
        assert!(message(torn).contains("subject s is in two parts"));
        for path in ["../a", "/etc/passwd", ""] {
            assert!(message(vec![case("a", "s", Part::Train, path)]).contains("outside the data set"), "{path}");
        }
    }
}
