//! `ams_adapter`: what a model has learned beside its weights.

use crate::error::{Result, ams_error};
use crate::guard::{Entered, Shared};
use crate::log as sink;
use crate::model::ams_model;
use crate::session::ams_session;
use crate::status::ams_status;
use crate::{arg, guard, string};
use adaptmedseg_segment::LoadedAdapter;
use std::ffi::c_char;

/// An adapter of a model: low-rank corrections, a context prior, or both. It never changes, so any number of sessions
/// and threads may use it at the same time. Sessions keep what they need of it, so it may be freed before them.
pub struct ams_adapter {
    inner: Shared<LoadedAdapter>,
}

impl ams_adapter {
    /// The adapter of a handle.
    ///
    /// # Safety
    /// `adapter` is NULL or a live handle.
    pub(crate) unsafe fn enter<'a>(adapter: *const Self) -> Result<Entered<'a, LoadedAdapter>> {
        // SAFETY: by contract.
        unsafe { arg::get(adapter, "adapter") }?.inner.enter()
    }

    pub(crate) fn boxed(adapter: LoadedAdapter) -> *mut Self {
        Box::into_raw(Box::new(Self { inner: Shared::new(adapter) }))
    }
}

/// Opens an adapter folder for a model. Any number of adapters may be open for one model; a session uses one or none.
///
/// With `merge` other than 0 the adapter's corrections are added to copies of the weights they correct: faster runs,
/// for that much memory. `out` receives the adapter; free it with `ams_adapter_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument or an empty path; `AMS_STATUS_IO` and `AMS_STATUS_FORMAT`
/// for a folder that is absent, damaged or no adapter; `AMS_STATUS_UNSUPPORTED` for one that was made for another
/// model.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_adapter_open(
    model: *const ams_model,
    path: *const c_char,
    merge: i32,
    out: *mut *mut ams_adapter,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (model, path, out) = (ams_model::enter(model)?, arg::path(path, "path")?, arg::out(out, "out")?);
            let adapter = sink::to(model.sink, || model.model.load_adapter(&path, merge != 0))?;
            out.set(ams_adapter::boxed(adapter));
            Ok(())
        })
    }
}

/// Frees an adapter. NULL is allowed. Sessions that use it stay usable.
///
/// Thread: any, but once, and while no other call uses the handle. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_adapter_free(adapter: *mut ams_adapter) {
    // SAFETY: NULL or an adapter of this library that nobody uses any more, by contract.
    unsafe { guard::free(adapter) }
}

/// Describes an adapter.
///
/// `out_json` receives the JSON object of its `adapter.json`: `name`, `license`, `base` (SHA-256 of the weights it was
/// made for), `base_name`, `modalities`, `tasks`, `lora` and `prior`. Free it with `ams_string_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `adapter` or `out_json` is NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_adapter_describe(
    adapter: *const ams_adapter,
    out_json: *mut *mut c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (adapter, out) = (ams_adapter::enter(adapter)?, arg::out(out_json, "out_json")?);
            out.set(string::json(adapter.config())?);
            Ok(())
        })
    }
}

/// Uses an adapter in the runs to come, or with NULL none: then results are the model's own, bit for bit. Costs nothing
/// but the encoded windows that depend on it. The mask and the undo stay.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session or an adapter of another model than the session's;
/// `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_adapter(
    session: *mut ams_session,
    adapter: *const ams_adapter,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let mut session = ams_session::lock(session)?;
            if adapter.is_null() {
                return Ok(session.set_adapter(None)?);
            }
            let adapter = ams_adapter::enter(adapter)?;
            Ok(session.set_adapter(Some(&*adapter))?)
        })
    }
}

/// Says what is looked for, for the context prior of an adapter; NULL: unknown. It is never guessed from the text
/// prompt. Without a context prior it has no effect.
///
/// `task` is UTF-8 and copied. Set the adapter first.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session, a text that is not UTF-8, or a task that the session's
/// adapter has no tokens for; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_task(
    session: *mut ams_session,
    task: *const c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let task = arg::optional_text(task, "task")?;
            Ok(ams_session::lock(session)?.set_task(task)?)
        })
    }
}

/// Says which modality's tokens the context prior of an adapter takes, where `ams_session_set_modality` is too coarse,
/// such as `T2`; NULL: unknown. `ams_session_set_modality` chooses those of `CT` or `MR`.
///
/// `modality` is UTF-8 and copied; a modality the adapter has no tokens for is taken as unknown.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session or a text that is not UTF-8; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_modality_prior(
    session: *mut ams_session,
    modality: *const c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let modality = arg::optional_text(modality, "modality")?;
            ams_session::lock(session)?.set_modality_prior(modality);
            Ok(())
        })
    }
}
