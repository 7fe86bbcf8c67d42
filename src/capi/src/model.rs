//! `ams_model`: a network with its weights, on a device.

use crate::arg::Growing;
use crate::error::{Failure, Result, ams_error, c_text};
use crate::guard::{Entered, Shared};
use crate::log::{Sink, ams_log_callback, ams_log_level};
use crate::status::ams_status;
use crate::{arg, guard, log as sink, string};
use adaptmedseg_segment::{EngineOptions, Model, Precision};
use std::ffi::{CString, c_char, c_void};
use std::mem::offset_of;
use std::path::PathBuf;
use std::ptr;

/// A model: a network with its weights, on a device. It never changes once it is open, so any number of threads may use
/// it at the same time. Sessions keep what they need of it, so it may be freed before them.
pub struct ams_model {
    inner: Shared<Inner>,
}

pub(crate) struct Inner {
    pub model: Model,
    pub sink: Option<Sink>,
    name: CString,
    license: CString,
    device: CString,
}

impl ams_model {
    /// The model of a handle.
    ///
    /// # Safety
    /// `model` is NULL or a live handle.
    pub(crate) unsafe fn enter<'a>(model: *const Self) -> Result<Entered<'a, Inner>> {
        // SAFETY: by contract.
        unsafe { arg::get(model, "model") }?.inner.enter()
    }
}

/// The number format in which a network multiplies. Weights on disk, results and sums are float32 in each, and so is
/// everything that learns.
pub type ams_precision = i32;

/// float32.
pub const AMS_PRECISION_F32: ams_precision = 0;
/// bfloat16: faster where the device has it, for masks that differ from float32's in a few voxels of the border.
pub const AMS_PRECISION_BF16: ams_precision = 1;
/// float16.
pub const AMS_PRECISION_F16: ams_precision = 2;

fn precision_of(precision: ams_precision) -> Result<Precision> {
    match precision {
        AMS_PRECISION_F32 => Ok(Precision::F32),
        AMS_PRECISION_BF16 => Ok(Precision::Bf16),
        AMS_PRECISION_F16 => Ok(Precision::F16),
        _ => {
            Err(Failure::argument(format!("unknown precision {precision}")).with_hint("use an AMS_PRECISION_ constant"))
        }
    }
}

/// How to open a model. Set it to zeros, then `struct_size`, then what you want: zero is the default of every field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_model_options {
    /// `sizeof(ams_model_options)`.
    pub struct_size: usize,
    /// Name of the device, as `ams_device_describe` tells it; NULL or `auto` lets the library choose. Copied.
    pub device: *const c_char,
    /// Threads to compute with; 0 takes all cores.
    pub threads: u32,
    /// Messages wanted: up to this level.
    pub log_level: ams_log_level,
    /// Receives messages of this model and its sessions, on the thread that makes the call; NULL for none.
    pub log_callback: ams_log_callback,
    /// Handed to `log_callback`. It must be usable from every thread that uses the model or a session of it, until all
    /// of them are freed.
    pub log_user_data: *mut c_void,
    /// Arithmetic of the large products.
    pub precision: ams_precision,
    /// The plugin that has the device: a file, or the folder it lies in. NULL: the folders of `ADAPTMEDSEG_PLUGIN_PATH`, then
    /// that of this library. Copied.
    pub plugin: *const c_char,
}

// SAFETY: `repr(C)`, the size first, and NULL and 0 are values of every field.
unsafe impl Growing for ams_model_options {
    const NAME: &'static str = "ams_model_options";
    const FIRST_SIZE: usize = offset_of!(Self, precision);
}

/// Opens a model.
///
/// `path` names a model folder, or is `builtin` for the model that comes with the library. `options` may be NULL.
/// `out` receives the model; free it with `ams_model_free`. The weights are mapped, not read at once.
///
/// A device `NAME:...` is of the plugin `libadaptmedseg_NAME`, which is loaded for it and stays loaded. The library sets no
/// environment variable for it; messages say which device `auto` has chosen.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL or empty path, a wrong `struct_size`, an unknown device or
/// precision, a plugin that is not found; `AMS_STATUS_IO` and `AMS_STATUS_FORMAT` for a folder that is absent or
/// damaged; `AMS_STATUS_UNSUPPORTED` for one this version cannot use, a precision the device does not have, or a plugin
/// that cannot be loaded into this process; `AMS_STATUS_OUT_OF_MEMORY` where the device has too little.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_open(
    path: *const c_char,
    options: *const ams_model_options,
    out: *mut *mut ams_model,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (path, out) = (arg::path(path, "path")?, arg::out(out, "out")?);
            let options = if options.is_null() { None } else { Some(arg::options(options, "options")?) };
            let (mut open, mut sink) = (EngineOptions::default(), None);
            if let Some(options) = options {
                if let Some(device) = arg::optional_text(options.device, "options->device")? {
                    open.device = device.to_owned();
                }
                open.threads = (options.threads > 0).then_some(options.threads as usize);
                open.precision = precision_of(options.precision)?;
                open.plugin = arg::optional_text(options.plugin, "options->plugin")?.map(PathBuf::from);
                sink = Sink::new(options.log_level, options.log_callback, options.log_user_data);
            }
            let model = sink::to(sink, || -> Result<Model> {
                let model = Model::open(&path, &open)?;
                let about = model.description();
                log::info!("{} on {}, {} threads", about.name, about.device, about.threads);
                Ok(model)
            })?;
            let about = model.description();
            let [name, license, device] = [&about.name, &about.license, &about.device].map(|text| c_text(text.clone()));
            let inner = Shared::new(Inner { model, sink, name, license, device });
            out.set(Box::into_raw(Box::new(ams_model { inner })));
            Ok(())
        })
    }
}

/// Frees a model. NULL is allowed. Its sessions stay usable.
///
/// Thread: any, but once, and while no other call uses the handle. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_free(model: *mut ams_model) {
    // SAFETY: NULL or a model of this library that nobody uses any more, by contract.
    unsafe { guard::free(model) }
}

/// Describes a model.
///
/// `out_json` receives a JSON object: `name`, `license`, `device`, `engine`, `threads`, `precision`, `parameters`,
/// `weight_bytes`, `image_size` (the network's window, three numbers of voxels, slowest axis first), `supports_text`.
/// Free it with `ams_string_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `model` or `out_json` is NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_describe(
    model: *const ams_model,
    out_json: *mut *mut c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (model, out) = (ams_model::enter(model)?, arg::out(out_json, "out_json")?);
            out.set(string::json(model.model.description())?);
            Ok(())
        })
    }
}

/// Name of a model, UTF-8.
///
/// Returns: a string that lives as long as the handle; NULL for NULL.
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_name(model: *const ams_model) -> *const c_char {
    // SAFETY: NULL or a live model, by contract.
    guard::value(ptr::null(), || unsafe { ams_model::enter(model) }.map_or(ptr::null(), |model| model.name.as_ptr()))
}

/// Licence of a model's weights, UTF-8.
///
/// Returns: a string that lives as long as the handle; NULL for NULL.
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_license(model: *const ams_model) -> *const c_char {
    // SAFETY: NULL or a live model, by contract.
    guard::value(ptr::null(), || unsafe { ams_model::enter(model) }.map_or(ptr::null(), |model| model.license.as_ptr()))
}

/// Name of the device a model runs on, such as `cpu`.
///
/// Returns: a string that lives as long as the handle; NULL for NULL.
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_device(model: *const ams_model) -> *const c_char {
    // SAFETY: NULL or a live model, by contract.
    guard::value(ptr::null(), || unsafe { ams_model::enter(model) }.map_or(ptr::null(), |model| model.device.as_ptr()))
}

/// Whether a model takes text prompts. False for NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_supports_text(model: *const ams_model) -> bool {
    guard::value(false, || {
        // SAFETY: NULL or a live model, by contract.
        unsafe { ams_model::enter(model) }.is_ok_and(|model| model.model.description().supports_text)
    })
}

/// Window of the network in voxels, slowest axis first: depth, height, width.
///
/// `out` receives three numbers.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `model` or `out` is NULL.
///
/// Thread: any. Since 0.1.
/// cbindgen:ptrs-as-arrays=[[out;3]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_model_image_size(
    model: *const ams_model,
    out: *mut usize,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (model, out) = (ams_model::enter(model)?, arg::out(out.cast::<[usize; 3]>(), "out")?);
            out.set(model.model.description().image_size);
            Ok(())
        })
    }
}
