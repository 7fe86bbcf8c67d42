//! What every fallible function returns.

use crate::guard;
use adaptmedseg_segment::ErrorKind;
use std::ffi::c_char;

/// Result of a call. `AMS_STATUS_OK` is zero; numbers are never reused, so treat one you do not know as a failure.
pub type ams_status = i32;

/// The call did what it says.
pub const AMS_STATUS_OK: ams_status = 0;
/// An argument, prompt or image that cannot be used: NULL, out of range, outside the image, not finite, not UTF-8.
pub const AMS_STATUS_INVALID_ARGUMENT: ams_status = 1;
/// Reading or writing a file failed.
pub const AMS_STATUS_IO: ams_status = 2;
/// A file is damaged, cut short, or not what it claims to be.
pub const AMS_STATUS_FORMAT: ams_status = 3;
/// Well-formed, but not supported by this version.
pub const AMS_STATUS_UNSUPPORTED: ams_status = 4;
/// The file to be written exists already.
pub const AMS_STATUS_EXISTS: ams_status = 5;
/// More memory is needed than there is. Nothing was computed.
pub const AMS_STATUS_OUT_OF_MEMORY: ams_status = 6;
/// The call was cancelled through its token. Nothing has changed.
pub const AMS_STATUS_CANCELLED: ams_status = 7;
/// Another call is using this session.
pub const AMS_STATUS_BUSY: ams_status = 8;
/// An earlier call on this handle hit a mistake in the library. The handle can only be freed.
pub const AMS_STATUS_POISONED: ams_status = 9;
/// A mistake in the library. The handle it happened on is poisoned.
pub const AMS_STATUS_INTERNAL: ams_status = 10;
/// The call came too early: there is no mask yet.
pub const AMS_STATUS_NO_MASK: ams_status = 11;

/// Name of a status, such as `AMS_STATUS_BUSY`; `AMS_STATUS_?` for a number this version does not know.
///
/// Returns: a static string, never NULL, not to be freed.
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ams_status_name(status: ams_status) -> *const c_char {
    guard::value(c"AMS_STATUS_?".as_ptr(), || {
        let name = match status {
            AMS_STATUS_OK => c"AMS_STATUS_OK",
            AMS_STATUS_INVALID_ARGUMENT => c"AMS_STATUS_INVALID_ARGUMENT",
            AMS_STATUS_IO => c"AMS_STATUS_IO",
            AMS_STATUS_FORMAT => c"AMS_STATUS_FORMAT",
            AMS_STATUS_UNSUPPORTED => c"AMS_STATUS_UNSUPPORTED",
            AMS_STATUS_EXISTS => c"AMS_STATUS_EXISTS",
            AMS_STATUS_OUT_OF_MEMORY => c"AMS_STATUS_OUT_OF_MEMORY",
            AMS_STATUS_CANCELLED => c"AMS_STATUS_CANCELLED",
            AMS_STATUS_BUSY => c"AMS_STATUS_BUSY",
            AMS_STATUS_POISONED => c"AMS_STATUS_POISONED",
            AMS_STATUS_INTERNAL => c"AMS_STATUS_INTERNAL",
            AMS_STATUS_NO_MASK => c"AMS_STATUS_NO_MASK",
            _ => c"AMS_STATUS_?",
        };
        name.as_ptr()
    })
}

/// The status of a failure of the library.
pub(crate) fn of(kind: ErrorKind) -> ams_status {
    match kind {
        ErrorKind::InvalidArgument => AMS_STATUS_INVALID_ARGUMENT,
        ErrorKind::Io => AMS_STATUS_IO,
        ErrorKind::Format => AMS_STATUS_FORMAT,
        ErrorKind::Unsupported => AMS_STATUS_UNSUPPORTED,
        ErrorKind::Exists => AMS_STATUS_EXISTS,
        ErrorKind::OutOfMemory => AMS_STATUS_OUT_OF_MEMORY,
        ErrorKind::Cancelled => AMS_STATUS_CANCELLED,
        ErrorKind::Busy => AMS_STATUS_BUSY,
        _ => AMS_STATUS_INTERNAL,
    }
}
