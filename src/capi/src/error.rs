//! `ams_error`: what went wrong, in words.

use crate::guard;
use crate::status::{self, AMS_STATUS_INVALID_ARGUMENT, AMS_STATUS_OK, ams_status};
use adaptmedseg_segment as segment;
use std::ffi::{CString, c_char};
use std::ptr;

/// A failure: a status, a message and, where one is known, a hint.
///
/// Every function that can fail takes an `ams_error **` last. It may be NULL; else, on failure only, it receives an
/// error that the caller frees with `ams_error_free`. What it held before is overwritten, so free that first.
pub struct ams_error {
    code: ams_status,
    message: CString,
    hint: Option<CString>,
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    pub code: ams_status,
    pub message: String,
    pub hint: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: ams_status, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(AMS_STATUS_INVALID_ARGUMENT, message)
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<segment::Error> for Failure {
    fn from(error: segment::Error) -> Self {
        Self { code: status::of(error.kind()), message: error.to_string(), hint: error.hint() }
    }
}

impl From<adaptmedseg_study::Error> for Failure {
    fn from(error: adaptmedseg_study::Error) -> Self {
        Self { code: status::of(error.kind()), message: error.to_string(), hint: error.hint() }
    }
}

impl From<segment::volume::Error> for Failure {
    fn from(error: segment::volume::Error) -> Self {
        segment::Error::from(error).into()
    }
}

/// Text as C has it: a NUL inside would end it early, so there it is shown as U+FFFD.
pub(crate) fn c_text(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\u{fffd}");
        CString::new(text).unwrap_or_default()
    })
}

impl From<Failure> for ams_error {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, message: c_text(failure.message), hint: failure.hint.map(c_text) }
    }
}

/// Status of an error: the one the failed call returned. `AMS_STATUS_OK` for NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_error_code(error: *const ams_error) -> ams_status {
    // SAFETY: NULL or a live error, by contract.
    guard::value(AMS_STATUS_OK, || unsafe { error.as_ref() }.map_or(AMS_STATUS_OK, |error| error.code))
}

/// What went wrong, in English, UTF-8, one line.
///
/// Returns: a string that lives as long as the error; an empty one for NULL. Never NULL.
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_error_message(error: *const ams_error) -> *const c_char {
    // SAFETY: NULL or a live error, by contract.
    guard::value(c"".as_ptr(), || unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.as_ptr()))
}

/// What to do about it, in English, UTF-8.
///
/// Returns: a string that lives as long as the error; NULL where there is no hint, and for NULL.
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_error_hint(error: *const ams_error) -> *const c_char {
    guard::value(ptr::null(), || {
        // SAFETY: NULL or a live error, by contract.
        let hint = unsafe { error.as_ref() }.and_then(|error| error.hint.as_ref());
        hint.map_or(ptr::null(), |hint| hint.as_ptr())
    })
}

/// Frees an error. NULL is allowed.
///
/// Thread: any, but once. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_error_free(error: *mut ams_error) {
    // SAFETY: NULL or an error of this library that nobody uses any more, by contract.
    unsafe { guard::free(error) }
}
