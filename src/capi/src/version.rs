//! Which library this is.

use crate::guard;
use std::ffi::{CStr, c_char};

/// The ABI this header describes. It grows by one when a function or structure changes incompatibly.
pub const AMS_ABI_VERSION: u32 = 0;

/// Version of the library, such as `0.1.0`.
///
/// Returns: a static string, never NULL, not to be freed.
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ams_version() -> *const c_char {
    guard::value(c"".as_ptr(), || {
        CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()).unwrap_or_default().as_ptr()
    })
}

/// The ABI of the library. A program can use it if this equals the `AMS_ABI_VERSION` it was compiled with.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ams_abi_version() -> u32 {
    guard::value(AMS_ABI_VERSION, || AMS_ABI_VERSION)
}
