//! What a model can be opened on.

use crate::error::{Failure, ams_error};
use crate::status::ams_status;
use crate::{arg, guard, string};
use adaptmedseg_segment::devices;
use serde_json::json;
use std::ffi::c_char;

/// Number of devices a model can be opened on, at least one: the processor. Plugins that are found are loaded to be asked.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `out` is NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_device_count(out: *mut usize, error: *mut *mut ams_error) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            arg::out(out, "out")?.set(devices().len());
            Ok(())
        })
    }
}

/// Describes device `index`, counted from 0.
///
/// `out_json` receives a JSON object: `name` (for `ams_model_options.device`), `description`, `memory_bytes` (a number
/// or null). Free it with `ams_string_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `out_json` is NULL or there is no such device.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_device_describe(
    index: usize,
    out_json: *mut *mut c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let out = arg::out(out_json, "out_json")?;
            let devices = devices();
            let device = devices
                .get(index)
                .ok_or_else(|| Failure::argument(format!("no device {index}; there are {}", devices.len())))?;
            let (name, memory) = (&device.name, device.memory_bytes);
            let text = json!({ "name": name, "description": device.description, "memory_bytes": memory });
            out.set(string::owned(text.to_string())?);
            Ok(())
        })
    }
}
