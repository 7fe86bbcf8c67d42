//! Strings handed to the caller.

use crate::error::{Failure, Result};
use crate::guard;
use crate::status::AMS_STATUS_INTERNAL;
use std::ffi::{CString, c_char};

/// A text the caller will own.
pub(crate) fn owned(text: impl Into<Vec<u8>>) -> Result<*mut c_char> {
    let text = CString::new(text).map_err(|_| Failure::new(AMS_STATUS_INTERNAL, "a text with a NUL inside"))?;
    Ok(text.into_raw())
}

/// A JSON text the caller will own.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<*mut c_char> {
    owned(serde_json::to_string(value).map_err(|error| Failure::new(AMS_STATUS_INTERNAL, error.to_string()))?)
}

/// Frees a string that this library gave away as `char *`. NULL is allowed. `const char *` results are not freed.
///
/// Thread: any, but once. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_string_free(string: *mut c_char) {
    guard::value((), || {
        if !string.is_null() {
            // SAFETY: not NULL, so it came from `owned` and nobody uses it any more, by contract.
            drop(unsafe { CString::from_raw(string) });
        }
    });
}
