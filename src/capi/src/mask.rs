//! Results of an `ams_session`: the current mask.

use crate::error::{Failure, Result, ams_error};
use crate::session::ams_session;
use crate::status::{AMS_STATUS_NO_MASK, ams_status};
use crate::{arg, guard, string};
use adaptmedseg_segment::{Outcome, Session, volume};
use std::ffi::c_char;
use std::ptr;

fn shown(session: &Session) -> Result<&Outcome> {
    session.outcome().ok_or_else(|| Failure::new(AMS_STATUS_NO_MASK, "there is no mask yet").with_hint("segment first"))
}

/// Refuses a buffer that has not one element per voxel.
fn check_count(session: &Session, count: usize) -> Result<()> {
    let [i, j, k] = session.geometry().size;
    if count == i * j * k {
        return Ok(());
    }
    Err(Failure::argument(format!("a buffer of {count} elements for an image of {i} x {j} x {k} voxels"))
        .with_hint("give one element per voxel"))
}

/// Copies the current mask: the value `label` in the structure, 0 elsewhere, on exactly the image's grid.
///
/// `buffer` receives one byte per voxel, i fastest; `count` is their number, that of the image's voxels.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument, a wrong `count` or the label 0; `AMS_STATUS_NO_MASK`
/// before the first run, and after an undo of it; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_mask_read(
    session: *const ams_session,
    buffer: *mut u8,
    count: usize,
    label: u8,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked. The buffer is as long as the caller says.
    unsafe {
        guard::call(error, || {
            let session = ams_session::lock(session)?;
            arg::get(buffer.cast_const(), "buffer")?;
            check_count(&session, count)?;
            if label == 0 {
                return Err(Failure::argument("the label 0 is the background's").with_hint("give one from 1 to 255"));
            }
            let outcome = shown(&session)?;
            // It may never have been written to.
            ptr::write_bytes(buffer, 0, count);
            outcome.write_mask(std::slice::from_raw_parts_mut(buffer, count), label);
            Ok(())
        })
    }
}

/// Copies the probabilities behind the current mask, from 0 to 1, on exactly the image's grid.
///
/// `buffer` receives one number per voxel, i fastest; `count` is their number, that of the image's voxels.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument or a wrong `count`, and for a mask that came back by undo
/// or redo, whose probabilities are gone; `AMS_STATUS_NO_MASK`; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_probabilities(
    session: *const ams_session,
    buffer: *mut f32,
    count: usize,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked. The buffer is as long as the caller says.
    unsafe {
        guard::call(error, || {
            let session = ams_session::lock(session)?;
            arg::get(buffer.cast_const(), "buffer")?;
            check_count(&session, count)?;
            shown(&session)?;
            let volume = session.probabilities()?;
            assert_eq!(volume.data.len(), count, "one probability per voxel");
            ptr::copy_nonoverlapping(volume.data.as_ptr(), buffer, count);
            Ok(())
        })
    }
}

/// Writes the current mask to a file, 1 in the structure and 0 elsewhere, on exactly the image's grid.
///
/// `path` is UTF-8; its end chooses the format, as for `ams_image_read`. Unless `overwrite` is other than 0, a file
/// that is there is left alone.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument or an empty path; `AMS_STATUS_EXISTS`; `AMS_STATUS_IO`;
/// `AMS_STATUS_UNSUPPORTED` for another format; `AMS_STATUS_NO_MASK`; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_mask_write(
    session: *const ams_session,
    path: *const c_char,
    overwrite: i32,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (session, path) = (ams_session::lock(session)?, arg::path(path, "path")?);
            let options = volume::WriteOptions { overwrite: overwrite != 0 };
            Ok(volume::write(&path, &shown(&session)?.mask(), &options)?)
        })
    }
}

/// Number of voxels in the current mask.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `session` or `out` is NULL; `AMS_STATUS_NO_MASK`; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_mask_voxels(
    session: *const ams_session,
    out: *mut u64,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (session, out) = (ams_session::lock(session)?, arg::out(out, "out")?);
            out.set(shown(&session)?.voxels());
            Ok(())
        })
    }
}

/// Volume of the current mask in millilitres.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `session` or `out` is NULL; `AMS_STATUS_NO_MASK`; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_mask_volume_ml(
    session: *const ams_session,
    out: *mut f64,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (session, out) = (ams_session::lock(session)?, arg::out(out, "out")?);
            out.set(shown(&session)?.volume_ml());
            Ok(())
        })
    }
}

/// Reports how the current mask came about.
///
/// `out_json` receives a JSON object with the prompts, the windows computed, the seconds of each stage, the size of the
/// mask, and notes. Free it with `ams_string_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `session` or `out_json` is NULL; `AMS_STATUS_NO_MASK`; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_report(
    session: *const ams_session,
    out_json: *mut *mut c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (session, out) = (ams_session::lock(session)?, arg::out(out_json, "out_json")?);
            out.set(string::json(shown(&session)?.report())?);
            Ok(())
        })
    }
}
