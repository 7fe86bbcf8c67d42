//! What a layout finds in a folder: cases, and where their voxels are.

use crate::dataset::Part;
use std::path::{Path, PathBuf};

/// Where an image is.
#[derive(Clone, Debug)]
pub(crate) enum ImageSource {
    /// NIfTI or MetaImage; of a 4-D file one channel.
    File { path: PathBuf, channel: Option<usize> },
    /// A TIFF file, one slice on each page.
    Stack(PathBuf),
    /// A folder of DICOM slices.
    Dicom(PathBuf),
    /// An array of NumPy, axes (x, y, z) as in NIfTI, with or without an axis of one channel in front.
    Array(PathBuf),
}

/// Where labels are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LabelSource {
    /// NIfTI or MetaImage.
    File(PathBuf),
    /// A TIFF file, one slice on each page.
    Stack(PathBuf),
    /// A folder with a PNG for each slice of a DICOM series.
    Pictures(PathBuf),
    /// A sparse matrix of SciPy, one row for each structure: that of row 0 has the value 1.
    Sparse(PathBuf),
}

/// The values of a structure in its label map: ranges, both ends included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Values(pub(crate) Vec<(i32, i32)>);

impl Values {
    /// One value.
    pub(crate) fn one(value: i32) -> Self {
        Self(vec![(value, value)])
    }

    /// Everything but 0.
    pub(crate) fn not_zero() -> Self {
        Self(vec![(i32::MIN, -1), (1, i32::MAX)])
    }

    /// Whether it is one of them.
    pub(crate) fn contains(&self, value: i32) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&value))
    }
}

/// Labels of a case, and the structures in them, as the source calls them.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    pub(crate) source: LabelSource,
    pub(crate) structures: Vec<(String, Values)>,
}

impl Labels {
    /// Labels of named values.
    pub(crate) fn new<N: Into<String>>(source: LabelSource, structures: impl IntoIterator<Item = (N, Values)>) -> Self {
        Self { source, structures: structures.into_iter().map(|(name, values)| (name.into(), values)).collect() }
    }
}

/// A case as it was found.
#[derive(Clone, Debug)]
pub(crate) struct RawCase {
    /// A file name, unique in the data set.
    pub(crate) id: String,
    pub(crate) subject: String,
    /// Subjects of one group are dealt out among the parts together: modality and site.
    pub(crate) group: String,
    pub(crate) modality: String,
    pub(crate) contrast: Option<String>,
    /// The part, where the source has made up its mind.
    pub(crate) part: Option<Part>,
    pub(crate) image: ImageSource,
    pub(crate) labels: Vec<Labels>,
}

impl RawCase {
    /// A case whose subject has no other.
    pub(crate) fn new(id: &str, modality: &str, image: ImageSource, labels: Vec<Labels>) -> Self {
        Self {
            id: super::names::file_name(id),
            subject: id.to_owned(),
            group: modality.to_owned(),
            modality: modality.to_owned(),
            contrast: None,
            part: None,
            image,
            labels,
        }
    }

    /// Names of the structures in its labels.
    pub(crate) fn structures(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().flat_map(|labels| labels.structures.iter().map(|(name, _)| name.as_str()))
    }
}

impl ImageSource {
    /// The file or folder.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Stack(path) | Self::Dicom(path) | Self::Array(path) => path,
        }
    }
}

impl LabelSource {
    /// The file or folder.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Stack(path) | Self::Pictures(path) | Self::Sparse(path) => path,
        }
    }
}

/// What a layout found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// What the source calls itself.
    pub(crate) name: Option<String>,
    pub(crate) license: Option<String>,
    /// Whether the images have been foreground-normalised by who made them.
    pub(crate) normalised: bool,
    pub(crate) cases: Vec<RawCase>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}
