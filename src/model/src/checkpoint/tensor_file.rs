//! A checkpoint of any kind as named tensors in a mapped file.
//!
//! Whatever the format, a tensor becomes a checked, strided view of the file; data is copied only where it is not
//! contiguous. Nothing here knows which names mean what: see [`super::key_map`].

use super::{safetensors_file, torch};
use crate::error::{Error, Result};
use memmap2::Mmap;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // the names say it
pub enum ElementType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether it can hold a weight.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Its name in safetensors.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }
}

/// A tensor of a [`TensorFile`], row-major and contiguous.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// What the elements are.
    pub element: ElementType,
    /// Sizes, slowest axis first.
    pub shape: &'a [usize],
    /// The elements, little-endian: in the file where it keeps them contiguous, otherwise a copy.
    pub bytes: Cow<'a, [u8]>,
}

/// Where a tensor lies in a file: a strided view that has been checked to stay inside it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    element: ElementType,
    shape: Vec<usize>,
    /// Counted in elements; `None` where the tensor is contiguous.
    strides: Option<Vec<usize>>,
    /// Byte of the file with the first element.
    start: usize,
    /// Bytes of the tensor when contiguous.
    length: usize,
}

impl Entry {
    /// A view of the bytes `storage` of a file; offset and strides are counted in elements.
    ///
    /// Refuses a view that leaves its storage, and one that has more elements than it (a stride of zero may repeat
    /// elements only as far as that), so that a small file cannot claim much memory.
    pub(crate) fn strided(
        element: ElementType,
        storage: std::ops::Range<usize>,
        offset: u64,
        shape: &[u64],
        strides: &[u64],
    ) -> Result<Self, String> {
        let size = element.size() as u64;
        let held = storage.len() as u64 / size;
        let count = shape.iter().try_fold(1u64, |product, &axis| product.checked_mul(axis));
        let count = count
            .filter(|&count| count <= held)
            .ok_or_else(|| format!("shape {shape:?} claims more elements than the {held} of its storage"))?;
        let span = shape.iter().zip(strides).try_fold(0u64, |span, (&axis, &stride)| {
            axis.saturating_sub(1).checked_mul(stride).and_then(|step| span.checked_add(step))
        });
        let end = span.and_then(|span| span.checked_add(offset));
        if count > 0 && end.is_none_or(|end| end >= held) {
            return Err(format!(
                "shape {shape:?}, strides {strides:?} and offset {offset} leave its storage of {held} elements"
            ));
        }
        // All of it now fits the file, and so the address space.
        let shape: Vec<usize> = shape.iter().map(|&axis| axis as usize).collect();
        let strides: Vec<usize> = strides.iter().map(|&stride| stride as usize).collect();
        let contiguous = count == 0 || is_contiguous(&shape, &strides);
        let start = if count == 0 { storage.start } else { storage.start + (offset * size) as usize };
        let length = (count * size) as usize;
        Ok(Self { element, shape, strides: (!contiguous).then_some(strides), start, length })
    }

    /// A contiguous tensor at a range of bytes that fits its shape.
    pub(crate) fn contiguous(element: ElementType, shape: Vec<usize>, range: std::ops::Range<usize>) -> Self {
        Self { element, shape, strides: None, start: range.start, length: range.len() }
    }

    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.length
    }

    pub(crate) fn element(&self) -> ElementType {
        self.element
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, out of the file the entry was made for.
    pub(crate) fn bytes<'a>(&self, file: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.strides {
            None => Cow::Borrowed(&file[self.range()]),
            Some(strides) => Cow::Owned(self.gather(file, strides)),
        }
    }

    fn gather(&self, file: &[u8], strides: &[usize]) -> Vec<u8> {
        let size = self.element.size();
        let mut out = Vec::with_capacity(self.length);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.start;
        while out.len() < self.length {
            out.extend_from_slice(&file[at..at + size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += strides[axis] * size;
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= index[axis] * strides[axis] * size;
                index[axis] = 0;
            }
        }
        out
    }
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&axis, &stride)| {
        let fits = axis == 1 || stride == expected;
        expected *= axis;
        fits
    })
}

/// The tensors of a file, and what stands where tensors would be expected.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Name of the dictionary inside the file that holds the tensors, where there is one.
    pub(crate) container: Option<String>,
    pub(crate) tensors: BTreeMap<String, Entry>,
    /// Name and description of every other value.
    pub(crate) others: BTreeMap<String, String>,
}

/// Why a file cannot be read, and what to do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }

    /// With the path, as an error of this crate.
    pub(crate) fn at(self, path: &Path) -> Error {
        Error::Format { path: path.to_path_buf(), message: self.message, hint: self.hint }
    }
}

impl<T: ToString> From<T> for Problem {
    fn from(message: T) -> Self {
        Self { message: message.to_string(), hint: None }
    }
}

/// A checkpoint, opened: safetensors, or what `torch.save` wrote (nothing in it is run).
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    contents: Contents,
}

impl TensorFile {
    /// Opens a checkpoint. The format is told by its first bytes, not by its name.
    ///
    /// # Errors
    /// A file that cannot be read, or that is malformed in any way.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let map = map_file(&path)?;
        let contents = if torch::is_torch(&map) {
            torch::read(&map).map_err(|problem| problem.at(&path))?
        } else {
            safetensors_file::read(&map).map_err(|problem| problem.at(&path))?
        };
        Ok(Self { path, map, contents })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Name of the dictionary inside the file that holds the tensors (`model`, `state_dict`), where there is one.
    pub fn container(&self) -> Option<&str> {
        self.contents.container.as_deref()
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.contents.tensors.keys().map(String::as_str)
    }

    /// What stands under a name that is not a tensor, in words.
    pub fn not_a_tensor(&self, name: &str) -> Option<&str> {
        self.contents.others.get(name).map(String::as_str)
    }

    /// Element type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<(ElementType, &[usize])> {
        self.contents.tensors.get(name).map(|entry| (entry.element, entry.shape.as_slice()))
    }

    /// A tensor with its elements.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let entry = self.contents.tensors.get(name)?;
        Some(TensorView { element: entry.element, shape: &entry.shape, bytes: entry.bytes(&self.map) })
    }

    /// Names of the values that are not tensors.
    pub(crate) fn others(&self) -> impl Iterator<Item = &str> {
        self.contents.others.keys().map(String::as_str)
    }
}

/// Maps a file for reading.
pub(crate) fn map_file(path: &Path) -> Result<Mmap> {
    let io = |error| Error::io(path, error);
    // Asked before opening: opening a pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(Error::format(path, "not a file"));
    }
    if metadata.len() == 0 {
        return Err(Error::format(path, "the file is empty"));
    }
    let file = File::open(path).map_err(io)?;
    // SAFETY: the map is read-only and private to this process. Should another process shorten the file while it is
    // mapped, reading faults instead of returning garbage; that is the accepted price of not copying the weights, and
    // `import` writes model files under another name and renames them, never in place.
    unsafe { Mmap::map(&file) }.map_err(io)
}
