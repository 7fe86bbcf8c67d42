//! `ams_cancel`: asks a long call to stop, from any thread.

use crate::error::ams_error;
use crate::status::ams_status;
use crate::{arg, guard};
use adaptmedseg_segment::CancelToken;

/// A token that stops the calls it was given to. It can be used from several threads at the same time, and once
/// cancelled it stays so: make a new one for the next call.
pub struct ams_cancel {
    pub(crate) token: CancelToken,
}

/// Makes a token nobody has cancelled.
///
/// `out` receives the token; free it with `ams_cancel_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `out` is NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_cancel_new(out: *mut *mut ams_cancel, error: *mut *mut ams_error) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let out = arg::out(out, "out")?;
            out.set(Box::into_raw(Box::new(ams_cancel { token: CancelToken::new() })));
            Ok(())
        })
    }
}

/// Asks the calls that were given this token to stop. They return `AMS_STATUS_CANCELLED` at their next check, which
/// comes at least once per window of the network. NULL is ignored.
///
/// Thread: any, also from a progress callback. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_cancel_cancel(cancel: *const ams_cancel) {
    // SAFETY: NULL or a live token, by contract.
    guard::value((), || unsafe { cancel.as_ref() }.into_iter().for_each(|cancel| cancel.token.cancel()));
}

/// Whether the token was cancelled. False for NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_cancel_is_cancelled(cancel: *const ams_cancel) -> bool {
    // SAFETY: NULL or a live token, by contract.
    guard::value(false, || unsafe { cancel.as_ref() }.is_some_and(|cancel| cancel.token.is_cancelled()))
}

/// Frees a token. NULL is allowed. Not while a call that was given it runs.
///
/// Thread: any, but once. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_cancel_free(cancel: *mut ams_cancel) {
    // SAFETY: NULL or a token of this library that nobody uses any more, by contract.
    unsafe { guard::free(cancel) }
}
