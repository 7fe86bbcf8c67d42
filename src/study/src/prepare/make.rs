//! Makes one case of the data set.

use super::classes::Class;
use super::names;
use super::open::{self, Image, LabelMap};
use super::source::RawCase;
use crate::dataset::{DatasetCase, DatasetFile, DatasetMask, Normalisation, Part};
use crate::error::{Error, Result};
use adaptmedseg_volume::preprocess::{CLIP_PERCENTILES, foreground_normalise};
use adaptmedseg_volume::{Scalar, Volume, WriteOptions, sanitise, write};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The folder of the cases.
pub(crate) const CASES: &str = "cases";

/// What was done to the image of a case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaseNotes {
    /// Voxels that were not numbers, and have been replaced.
    pub non_finite: usize,
    /// False: nothing says how large the voxels are, 1 mm is assumed.
    pub has_spacing: bool,
    /// What the foreground normalisation found, where it was applied.
    pub foreground: Option<Foreground>,
}

/// The numbers of a foreground normalisation: `(min(max(v, lower), upper) - mean) / deviation`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Foreground {
    /// The mean of all voxels: what is above it is foreground.
    pub threshold: f32,
    /// Lower percentile of the foreground.
    pub lower: f32,
    /// Upper percentile of the foreground.
    pub upper: f32,
    /// Mean of the foreground.
    pub mean: f32,
    /// Standard deviation of the foreground.
    pub deviation: f32,
}

/// Reads a case and writes it into the folder `out`. `root` is the source's.
///
/// # Errors
/// Files that cannot be read or written; labels on another grid; an image without contrast.
pub(crate) fn make(
    root: &Path,
    out: &Path,
    case: &RawCase,
    classes: &[Class],
    normalisation: Normalisation,
) -> Result<(DatasetCase, CaseNotes)> {
    let inner = Path::new(CASES).join(&case.id);
    let folder = out.join(&inner);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    }
    fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    let mut image = open::image(&case.image)?;
    let named = |error: adaptmedseg_volume::Error| {
        Error::source_data(case.image.path(), error.to_string(), "take the case out of the folder")
    };
    let mut notes = CaseNotes { has_spacing: image.has_spacing, ..CaseNotes::default() };
    notes.non_finite = sanitise(&mut image.volume).map_err(named)?.total();
    let path = inner.join("image.nii.gz");
    if normalisation == Normalisation::Foreground {
        let stats = foreground_normalise(&mut image.volume.data, CLIP_PERCENTILES).map_err(named)?;
        notes.foreground = Some(Foreground {
            threshold: stats.threshold,
            lower: stats.lower,
            upper: stats.upper,
            mean: stats.mean,
            deviation: stats.std,
        });
    }
    let sha256 = save_image(out, &path, &image.volume)?;
    let masks = masks(out, &inner, case, classes, &image)?;
    Ok((
        DatasetCase {
            id: case.id.clone(),
            subject: case.subject.clone(),
            modality: case.modality.clone(),
            contrast: case.contrast.clone(),
            part: Part::Train,
            source: case.image.path().strip_prefix(root).unwrap_or(case.image.path()).to_owned(),
            image: DatasetFile { path, sha256 },
            masks,
        },
        notes,
    ))
}

/// Writes whole numbers of 16 bits as such, others as float32.
fn save_image(out: &Path, path: &Path, volume: &Volume<f32>) -> Result<String> {
    let small = |&value: &f32| value.fract() == 0.0 && (f32::from(i16::MIN)..=f32::from(i16::MAX)).contains(&value);
    if volume.data.iter().all(small) {
        let data = volume.data.iter().map(|&value| value as i16).collect();
        return save(out, path, &Volume::new(volume.geometry.clone(), data)?);
    }
    save(out, path, volume)
}

fn save<T: Scalar>(out: &Path, path: &Path, volume: &Volume<T>) -> Result<String> {
    let path = out.join(path);
    write(&path, volume, &WriteOptions::default())?;
    sha256(&path)
}

/// SHA-256 of a file, in hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let io = |error| Error::io(path, error);
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path).map_err(io)?, &mut hash).map_err(io)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file for each structure, with a number where two would have the same name.
fn mask_paths(inner: &Path, classes: &[Class]) -> Vec<PathBuf> {
    let mut taken: BTreeSet<String> = BTreeSet::from(["image".to_owned()]);
    let path = |class: &Class| {
        let plain = names::file_name(&class.name);
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let name =
            std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name)).expect("some number");
        taken.insert(name.clone());
        inner.join(format!("{name}.nii.gz"))
    };
    classes.iter().map(path).collect()
}

fn masks(
    out: &Path,
    inner: &Path,
    case: &RawCase,
    classes: &[Class],
    image: &Image,
) -> Result<BTreeMap<String, DatasetMask>> {
    let grid = &image.volume.geometry;
    let mut masks = BTreeMap::new();
    // Structures of one map stand side by side.
    let mut last: Option<(usize, LabelMap)> = None;
    for (class, path) in classes.iter().zip(mask_paths(inner, classes)) {
        let mut mask = vec![0u8; grid.voxel_count()];
        for (number, labels) in case.labels.iter().enumerate() {
            let parts = labels.structures.iter().filter(|(name, _)| class.parts.contains(&names::normalise(name)));
            for (_, values) in parts {
                if last.as_ref().is_none_or(|(read, _)| *read != number) {
                    drop(last.take());
                    last = Some((number, open::labels(&labels.source, image)?));
                }
                last.as_ref().expect("just read").1.add(values, &mut mask);
            }
        }
        let voxels = mask.iter().map(|&voxel| u64::from(voxel)).sum();
        let sha256 = save(out, &path, &Volume::new(grid.clone(), mask)?)?;
        masks.insert(class.name.clone(), DatasetMask { path, sha256, voxels });
    }
    Ok(masks)
}
