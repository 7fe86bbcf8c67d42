//! What crosses the table, in both directions: arrays, prompts, options, statuses.

use super::abi::*;
use crate::error::ErrorKind;
use crate::options::Precision;
use crate::training::TrainerConfig;
use adaptmedseg_model::train::{LossKind, OptimiserConfig};
use adaptmedseg_model::{DType, NamedTensors, RawTensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::{ptr, slice};

/// The status of a failure.
pub(super) fn status_of(kind: ErrorKind) -> ams_plugin_status {
    match kind {
        ErrorKind::InvalidArgument => AMS_PLUGIN_INVALID_ARGUMENT,
        ErrorKind::Io => AMS_PLUGIN_IO,
        ErrorKind::Format => AMS_PLUGIN_FORMAT,
        ErrorKind::Unsupported => AMS_PLUGIN_UNSUPPORTED,
        ErrorKind::OutOfMemory => AMS_PLUGIN_OUT_OF_MEMORY,
        ErrorKind::Internal => AMS_PLUGIN_INTERNAL,
    }
}

/// What a status means; `None` for success.
pub(super) fn kind_of(status: ams_plugin_status) -> Option<ErrorKind> {
    Some(match status {
        AMS_PLUGIN_OK => return None,
        AMS_PLUGIN_INVALID_ARGUMENT => ErrorKind::InvalidArgument,
        AMS_PLUGIN_IO => ErrorKind::Io,
        AMS_PLUGIN_FORMAT => ErrorKind::Format,
        AMS_PLUGIN_UNSUPPORTED => ErrorKind::Unsupported,
        AMS_PLUGIN_OUT_OF_MEMORY => ErrorKind::OutOfMemory,
        _ => ErrorKind::Internal,
    })
}

/// The options of `model_open`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenOptions {
    pub device: String,
    #[serde(default)]
    pub threads: Option<usize>,
    #[serde(default)]
    pub precision: Precision,
}

/// The options of `trainer_new`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrainerOptions {
    pub loss: LossKind,
    pub optimiser: OptimiserConfig,
    pub gradient_checkpointing: bool,
    pub parallel_samples: bool,
    pub average: Option<f64>,
    pub modality_loss_weight: f64,
    #[serde(default)]
    pub cue_dropout: Option<f64>,
    pub weights: Vec<String>,
}

impl TrainerOptions {
    pub(super) fn new(config: TrainerConfig, weights: Vec<String>) -> Self {
        let TrainerConfig {
            loss,
            optimiser,
            gradient_checkpointing,
            parallel_samples,
            average,
            modality_loss_weight,
            cue_dropout,
        } = config;
        Self {
            loss,
            optimiser,
            gradient_checkpointing,
            parallel_samples,
            average,
            modality_loss_weight,
            cue_dropout,
            weights,
        }
    }

    pub(super) fn into_parts(self) -> (TrainerConfig, Vec<String>) {
        let Self {
            loss,
            optimiser,
            gradient_checkpointing,
            parallel_samples,
            average,
            modality_loss_weight,
            cue_dropout,
            weights,
        } = self;
        let config = TrainerConfig {
            loss,
            optimiser,
            gradient_checkpointing,
            parallel_samples,
            average,
            modality_loss_weight,
            cue_dropout,
        };
        (config, weights)
    }
}

/// Text as C has it; a NUL inside is shown as U+FFFD.
pub(super) fn c_text(text: impl Into<String>) -> CString {
    CString::new(text.into()).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\u{fffd}");
        CString::new(text).unwrap_or_default()
    })
}

/// A pointer to the text, or NULL.
pub(super) fn c_pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

/// Arrays on their way across: what a list of [`ams_plugin_tensor`] points to.
#[derive(Default)]
pub(super) struct Arrays<'a> {
    list: Vec<ams_plugin_tensor>,
    /// What the list points to, which stays where it is on the heap.
    kept: Vec<(CString, Vec<usize>)>,
    data: PhantomData<&'a [u8]>,
}

impl<'a> Arrays<'a> {
    /// Float32 arrays by name.
    pub(super) fn named(tensors: &'a NamedTensors) -> Self {
        let mut arrays = Self::default();
        tensors.iter().for_each(|(name, (shape, elements))| arrays.floats(name, shape, elements));
        arrays
    }

    /// Adds a float32 array.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], elements: &'a [f32]) {
        self.add(name, shape, AMS_PLUGIN_FLOAT32, elements.as_ptr().cast());
    }

    /// Adds a weight. One of a type that does not cross is left out, as if it were absent.
    pub(super) fn raw(&mut self, name: &str, tensor: &'a RawTensor) {
        let element = match tensor.dtype {
            DType::F32 => AMS_PLUGIN_FLOAT32,
            DType::F16 => AMS_PLUGIN_FLOAT16,
            DType::BF16 => AMS_PLUGIN_BFLOAT16,
            _ => return,
        };
        self.add(name, &tensor.shape, element, tensor.bytes.as_ptr().cast());
    }

    fn add(&mut self, name: &str, shape: &[usize], element: ams_plugin_element, data: *const c_void) {
        let (name, shape) = (c_text(name), shape.to_vec());
        let tensor = ams_plugin_tensor { name: name.as_ptr(), shape: shape.as_ptr(), rank: shape.len(), element, data };
        self.list.push(tensor);
        self.kept.push((name, shape));
    }

    /// The list and its length, while `self` lives.
    pub(super) fn parts(&self) -> (*const ams_plugin_tensor, usize) {
        (self.list.as_ptr(), self.list.len())
    }

    /// The list, while `self` lives.
    pub(super) fn list(&self) -> &[ams_plugin_tensor] {
        &self.list
    }
}

/// A text from the other side.
///
/// # Errors
/// NULL, or text that is not UTF-8.
///
/// # Safety
/// NULL, or a string that ends in NUL and lives as long as it is used.
pub(super) unsafe fn read_text<'a>(text: *const c_char, what: &str) -> Result<&'a str, String> {
    if text.is_null() {
        return Err(format!("{what} is NULL"));
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| format!("{what} is not UTF-8"))
}

/// A list from the other side; NULL is an empty one.
///
/// # Safety
/// `count` items at `data` that live as long as they are used, or NULL.
pub(super) unsafe fn read_list<'a, T>(data: *const T, count: usize) -> &'a [T] {
    // SAFETY: by contract.
    if data.is_null() || count == 0 { &[] } else { unsafe { slice::from_raw_parts(data, count) } }
}

/// Name, sizes, bytes of an element, and the bytes of an array from the other side.
///
/// # Errors
/// NULL, an element type that is unknown, sizes no memory has.
///
/// # Safety
/// NULL, or an array that is as it says and lives as long as it is used.
unsafe fn read_bytes<'a>(tensor: *const ams_plugin_tensor) -> Result<(String, Vec<usize>, DType, &'a [u8])> {
    // SAFETY: by contract.
    let tensor = unsafe { tensor.as_ref() }.ok_or("an array is NULL")?;
    // SAFETY: the name is NULL or a string.
    let name = if tensor.name.is_null() { "" } else { unsafe { read_text(tensor.name, "the name of an array")? } };
    // SAFETY: as many sizes as it says.
    let shape = unsafe { read_list(tensor.shape, tensor.rank) }.to_vec();
    let (dtype, width) = match tensor.element {
        AMS_PLUGIN_FLOAT32 => (DType::F32, 4),
        AMS_PLUGIN_FLOAT16 => (DType::F16, 2),
        AMS_PLUGIN_BFLOAT16 => (DType::BF16, 2),
        other => return Err(format!("the array {name:?} has the unknown element type {other}")),
    };
    let bytes = shape.iter().try_fold(width, |bytes: usize, &size| bytes.checked_mul(size));
    let bytes = bytes.filter(|&bytes| isize::try_from(bytes).is_ok() && (bytes == 0 || !tensor.data.is_null()));
    let bytes = bytes.ok_or_else(|| format!("the array {name:?} of shape {shape:?} has no elements where it says"))?;
    // SAFETY: the elements are there, by contract.
    Ok((name.to_owned(), shape, dtype, unsafe { read_list(tensor.data.cast::<u8>(), bytes) }))
}

type Result<T, E = String> = std::result::Result<T, E>;

/// A copy of a float32 array from the other side: name, shape, elements.
///
/// # Errors
/// As [`read_bytes`]; another element type.
///
/// # Safety
/// As [`read_bytes`].
pub(super) unsafe fn read_floats(tensor: *const ams_plugin_tensor) -> Result<(String, Vec<usize>, Vec<f32>)> {
    // SAFETY: by contract.
    let (name, shape, dtype, bytes) = unsafe { read_bytes(tensor)? };
    if dtype != DType::F32 {
        return Err(format!("the array {name:?} is not float32"));
    }
    let (words, _) = bytes.as_chunks::<4>();
    Ok((name, shape, words.iter().map(|&word| f32::from_ne_bytes(word)).collect()))
}

/// Copies of float32 arrays from the other side, by name.
///
/// # Errors
/// As [`read_floats`].
///
/// # Safety
/// As [`read_list`] and [`read_bytes`].
pub(super) unsafe fn read_named(tensors: *const ams_plugin_tensor, count: usize) -> Result<NamedTensors> {
    // SAFETY: by contract.
    let tensors = unsafe { read_list(tensors, count) };
    let read = |tensor: &ams_plugin_tensor| {
        // SAFETY: by contract.
        let (name, shape, elements) = unsafe { read_floats(tensor)? };
        Ok((name, (shape, elements)))
    };
    tensors.iter().map(read).collect()
}

/// Weights of the other side by name.
pub(super) struct Weights<'a>(BTreeMap<String, (Vec<usize>, DType, &'a [u8])>);

impl<'a> Weights<'a> {
    /// # Errors
    /// As [`read_bytes`].
    ///
    /// # Safety
    /// As [`read_list`] and [`read_bytes`].
    pub(super) unsafe fn read(tensors: *const ams_plugin_tensor, count: usize) -> Result<Self> {
        // SAFETY: by contract.
        let tensors = unsafe { read_list(tensors, count) };
        let read = |tensor: &ams_plugin_tensor| {
            // SAFETY: by contract.
            let (name, shape, dtype, bytes) = unsafe { read_bytes(tensor)? };
            Ok((name, (shape, dtype, bytes)))
        };
        tensors.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Copies of all of them.
    pub(super) fn copied(&self) -> BTreeMap<String, RawTensor> {
        let copy = |(name, (shape, dtype, bytes)): (&String, &(Vec<usize>, DType, &[u8]))| {
            (name.clone(), RawTensor { dtype: *dtype, shape: shape.clone(), bytes: bytes.to_vec().into() })
        };
        self.0.iter().map(copy).collect()
    }
}
