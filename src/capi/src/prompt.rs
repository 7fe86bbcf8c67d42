//! Prompts of an `ams_session`.

use crate::error::{Failure, Result, ams_error};
use crate::session::ams_session;
use crate::status::ams_status;
use crate::{arg, guard};
use adaptmedseg_segment::{BoxPrompt, Point, Space};
use std::ffi::c_char;

/// The space of a coordinate.
pub type ams_space = i32;

/// Voxel index (i, j, k), i fastest in memory. It may have a fraction; voxel centres are at whole numbers.
pub const AMS_SPACE_IJK: ams_space = 1;
/// Millimetres towards left, posterior, superior: ITK, DICOM.
pub const AMS_SPACE_LPS: ams_space = 2;
/// Millimetres towards right, anterior, superior: NIfTI, 3D Slicer.
pub const AMS_SPACE_RAS: ams_space = 3;

/// What a point says.
pub type ams_point_label = i32;

/// The structure is not here.
pub const AMS_POINT_NEGATIVE: ams_point_label = 0;
/// The structure is here.
pub const AMS_POINT_POSITIVE: ams_point_label = 1;

fn space_of(space: ams_space) -> Result<Space> {
    match space {
        AMS_SPACE_IJK => Ok(Space::Ijk),
        AMS_SPACE_LPS => Ok(Space::Lps),
        AMS_SPACE_RAS => Ok(Space::Ras),
        _ => Err(Failure::argument(format!("unknown space {space}")).with_hint("use an AMS_SPACE_ constant")),
    }
}

/// Names the structure to be segmented, such as `liver`.
///
/// `text` is UTF-8 and copied; NULL takes the name back.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session, or a text that is empty, too long, not UTF-8, or has words
/// the model does not know; `AMS_STATUS_UNSUPPORTED` if the model takes no text; `AMS_STATUS_BUSY`. After each the
/// session keeps the text it had.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_text(
    session: *mut ams_session,
    text: *const c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (mut session, text) = (ams_session::lock(session)?, arg::optional_text(text, "text")?);
            Ok(session.set_text(text)?)
        })
    }
}

/// Adds a point.
///
/// `position` has three numbers in `space`, an `AMS_SPACE_` constant; `label` is `AMS_POINT_POSITIVE` or
/// `AMS_POINT_NEGATIVE`. The position is copied.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument, a position that is outside the image or not finite, an
/// unknown space or label; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
/// cbindgen:ptrs-as-arrays=[[position;3]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_add_point(
    session: *mut ams_session,
    position: *const f64,
    space: ams_space,
    label: ams_point_label,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let positive = match label {
                AMS_POINT_NEGATIVE => false,
                AMS_POINT_POSITIVE => true,
                _ => {
                    let failure = Failure::argument(format!("unknown point label {label}"));
                    return Err(failure.with_hint("use AMS_POINT_POSITIVE or AMS_POINT_NEGATIVE"));
                }
            };
            let mut session = ams_session::lock(session)?;
            let position = arg::array(position, "position")?;
            Ok(session.add_point(Point { position, space: space_of(space)?, positive })?)
        })
    }
}

/// Forgets all points.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_clear_points(session: *mut ams_session, error: *mut *mut ams_error) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            ams_session::lock(session)?.clear_points();
            Ok(())
        })
    }
}

/// Sets the box around the structure; it replaces an earlier one.
///
/// `first` and `second` have three numbers each in `space`, an `AMS_SPACE_` constant. In `AMS_SPACE_IJK` they are the
/// lower and the upper corner; in millimetres any two opposite ones. They are copied.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument, an unknown space, a box that is empty, inverted or
/// outside the image, a corner that is not finite; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
/// cbindgen:ptrs-as-arrays=[[first;3],[second;3]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_box(
    session: *mut ams_session,
    first: *const f64,
    second: *const f64,
    space: ams_space,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let mut session = ams_session::lock(session)?;
            let corners = [arg::array(first, "first")?, arg::array(second, "second")?];
            Ok(session.set_box(Some(BoxPrompt { corners, space: space_of(space)? }))?)
        })
    }
}

/// Sets the box to that of a mask on the image's grid, such as an earlier result.
///
/// `mask` has one byte per voxel, i fastest, not zero in the structure; `count` is their number, that of the image's
/// voxels. It is not kept.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument, a wrong `count` or an empty mask; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_box_from_mask(
    session: *mut ams_session,
    mask: *const u8,
    count: usize,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (mut session, mask) = (ams_session::lock(session)?, arg::slice(mask, count, "mask")?);
            Ok(session.set_box_from_mask(mask)?)
        })
    }
}

/// Forgets the box.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_clear_box(session: *mut ams_session, error: *mut *mut ams_error) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe { guard::call(error, || Ok(ams_session::lock(session)?.set_box(None)?)) }
}

/// Forgets all prompts: text, points and box.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_clear_prompts(
    session: *mut ams_session,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            ams_session::lock(session)?.clear_prompts();
            Ok(())
        })
    }
}
