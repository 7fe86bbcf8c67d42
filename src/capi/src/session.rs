//! `ams_session`: a model looking at one image. Here its life, its runs, its undo; `prompt` and `mask` have the rest.

use crate::arg::Growing;
use crate::error::{Failure, Result, ams_error};
use crate::image::ams_image;
use crate::log::Sink;
use crate::model::ams_model;
use crate::status::ams_status;
use crate::{arg, cancel::ams_cancel, guard, log as sink};
use adaptmedseg_segment::{Hooks, Modality, Mode, Progress, Session, Stage};
use std::ffi::{c_char, c_void};
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard};

/// A model looking at one image: prompts, what the network made of the image, the mask, undo.
///
/// It belongs to one thread at a time, and may move between threads. A call while another is running, be it on another
/// thread or in a progress callback, returns `AMS_STATUS_BUSY` and changes nothing.
pub struct ams_session {
    state: Mutex<Session>,
    sink: Option<Sink>,
}

/// A session moves between threads, models and images are used by many.
const _: () = {
    const fn send<T: Send>() {}
    const fn sync<T: Sync>() {}
    send::<ams_session>();
    sync::<ams_session>();
    send::<ams_model>();
    sync::<ams_model>();
    send::<ams_image>();
    sync::<ams_image>();
};

impl ams_session {
    /// The session of a handle, for one call.
    ///
    /// # Safety
    /// `session` is NULL or a live handle.
    pub(crate) unsafe fn lock<'a>(session: *const Self) -> Result<MutexGuard<'a, Session>> {
        // SAFETY: by contract.
        guard::try_lock(&unsafe { arg::get(session, "session") }?.state)
    }

    /// Where the messages of a locked session go.
    ///
    /// # Safety
    /// `session` is a live handle.
    unsafe fn sink(session: *const Self) -> Option<Sink> {
        // SAFETY: by contract.
        unsafe { (*session).sink }
    }
}

/// How a volume is segmented.
pub type ams_mode = i32;

/// As the reference implementation does it, with what is only a mistake in it mended.
pub const AMS_MODE_DEFAULT: ams_mode = 0;
/// Exactly as the reference implementation does it.
pub const AMS_MODE_REFERENCE: ams_mode = 1;

/// Where a scan comes from.
pub type ams_modality = i32;

/// Not said.
pub const AMS_MODALITY_UNKNOWN: ams_modality = 0;
/// Computed tomography.
pub const AMS_MODALITY_CT: ams_modality = 1;
/// Magnetic resonance.
pub const AMS_MODALITY_MR: ams_modality = 2;

/// What a run is doing.
pub type ams_stage = i32;

/// Normalising and cropping the image.
pub const AMS_STAGE_PREPROCESS: ams_stage = 1;
/// Segmenting the whole volume at low resolution.
pub const AMS_STAGE_ZOOM_OUT: ams_stage = 2;
/// Segmenting windows at full resolution.
pub const AMS_STAGE_ZOOM_IN: ams_stage = 3;
/// Putting the mask on the image's grid.
pub const AMS_STAGE_FINISH: ams_stage = 4;

/// How far a run has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_progress {
    /// Size of this structure in the library, which fills it.
    pub struct_size: usize,
    /// What the run is doing, an `AMS_STAGE_` constant.
    pub stage: ams_stage,
    /// Parts of the stage that are done.
    pub done: u64,
    /// Parts the stage has.
    pub total: u64,
    /// Share of the whole run that is done, from 0 to 1.
    pub fraction: f64,
    /// Name of the stage in English, a static string.
    pub stage_name: *const c_char,
}

/// Receives the progress of a run, at least once per window of the network. `progress` is valid during the call only.
///
/// It is called on the thread that called the library. It must return normally: no exception and no longjmp may leave
/// it. To stop the run, cancel the token that the run was given. It must not use the session, which is busy.
pub type ams_progress_callback = Option<unsafe extern "C" fn(progress: *const ams_progress, user_data: *mut c_void)>;

impl From<Progress> for ams_progress {
    fn from(progress: Progress) -> Self {
        let (stage, name) = match progress.stage {
            Stage::Preprocess => (AMS_STAGE_PREPROCESS, c"preprocess"),
            Stage::ZoomOut => (AMS_STAGE_ZOOM_OUT, c"zoom-out"),
            Stage::ZoomIn => (AMS_STAGE_ZOOM_IN, c"zoom-in"),
            Stage::Finish => (AMS_STAGE_FINISH, c"finish"),
        };
        Self {
            struct_size: size_of::<Self>(),
            stage,
            done: progress.done as u64,
            total: progress.total as u64,
            fraction: progress.fraction,
            stage_name: name.as_ptr(),
        }
    }
}

/// Bytes a run will need, estimated before any is taken. Set `struct_size` before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_memory_estimate {
    /// `sizeof(ams_memory_estimate)`.
    pub struct_size: usize,
    /// Weights: pages of the mapped file, which the system can drop.
    pub weights: u64,
    /// Image, logits, mask, and one pass of the network.
    pub working: u64,
    /// Encoded windows kept for the next prompt, at most.
    pub cache: u64,
    /// All of it.
    pub total: u64,
}

// SAFETY: `repr(C)`, the size first, and 0 is a value of every field.
unsafe impl Growing for ams_memory_estimate {
    const NAME: &'static str = "ams_memory_estimate";
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Makes a session: `model` looks at `image`. Nothing is computed yet.
///
/// `out` receives the session; free it with `ams_session_free`. The session keeps what it needs of the model and the
/// image. Voxels that are not finite are replaced in the session's copy: NaN and minus infinity by the smallest finite
/// voxel, infinity by the largest.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if an argument is NULL, every voxel has the same value, or none is finite.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_new(
    model: *const ams_model,
    image: *const ams_image,
    out: *mut *mut ams_session,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (model, image, out) = (ams_model::enter(model)?, ams_image::enter(image)?, arg::out(out, "out")?);
            let state = sink::to(model.sink, || -> Result<Session> {
                let session = Session::new(&model.model, image.clone())?;
                let replaced = session.non_finite().total();
                if replaced > 0 {
                    log::warn!("{replaced} voxels that were not finite were replaced");
                }
                Ok(session)
            })?;
            out.set(Box::into_raw(Box::new(ams_session { state: Mutex::new(state), sink: model.sink })));
            Ok(())
        })
    }
}

/// Frees a session. NULL is allowed. Not while a call on it runs.
///
/// Thread: any, but once. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_free(session: *mut ams_session) {
    // SAFETY: NULL or a session of this library that nobody uses any more, by contract.
    unsafe { guard::free(session) }
}

/// Chooses how the volume is segmented: an `AMS_MODE_` constant. The default is `AMS_MODE_DEFAULT`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session or an unknown mode; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_mode(
    session: *mut ams_session,
    mode: ams_mode,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let mode = match mode {
                AMS_MODE_DEFAULT => Mode::Default,
                AMS_MODE_REFERENCE => Mode::Reference,
                _ => {
                    return Err(
                        Failure::argument(format!("unknown mode {mode}")).with_hint("use an AMS_MODE_ constant")
                    );
                }
            };
            ams_session::lock(session)?.set_mode(mode);
            Ok(())
        })
    }
}

/// Says where the scan comes from: an `AMS_MODALITY_` constant. The default is `AMS_MODALITY_UNKNOWN`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session or an unknown modality; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_set_modality(
    session: *mut ams_session,
    modality: ams_modality,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let modality = match modality {
                AMS_MODALITY_UNKNOWN => Modality::Unknown,
                AMS_MODALITY_CT => Modality::Ct,
                AMS_MODALITY_MR => Modality::Mr,
                _ => {
                    return Err(Failure::argument(format!("unknown modality {modality}"))
                        .with_hint("use an AMS_MODALITY_ constant"));
                }
            };
            ams_session::lock(session)?.set_modality(modality);
            Ok(())
        })
    }
}

/// Segments with the prompts there are. The new mask becomes the current one, and the run a step for undo.
///
/// `progress` may be NULL; `user_data` is handed to it. `cancel` may be NULL; else its cancellation, from any thread,
/// stops the run, which then changes nothing.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session or without any prompt; `AMS_STATUS_CANCELLED`;
/// `AMS_STATUS_OUT_OF_MEMORY`; `AMS_STATUS_BUSY`. After each the session is as it was.
///
/// Thread: the session's. The library computes on threads of its own. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_segment(
    session: *mut ams_session,
    progress: ams_progress_callback,
    user_data: *mut c_void,
    cancel: *const ams_cancel,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked. The callback takes its own data.
    unsafe {
        guard::call(error, || {
            let mut state = ams_session::lock(session)?;
            let report = progress.map(|callback| move |progress| callback(&ams_progress::from(progress), user_data));
            let hooks = Hooks {
                progress: report.as_ref().map(|report| report as &dyn Fn(Progress)),
                cancel: cancel.as_ref().map(|cancel| &cancel.token),
            };
            sink::to(ams_session::sink(session), || state.segment(&hooks).map(|_| ()))?;
            Ok(())
        })
    }
}

/// Goes back to the state after the run before: prompts and mask together.
///
/// `out_changed` may be NULL; else it receives whether there was a state to go back to.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_undo(
    session: *mut ams_session,
    out_changed: *mut bool,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let changed = ams_session::lock(session)?.undo();
            arg::out(out_changed, "out_changed").into_iter().for_each(|out| out.set(changed));
            Ok(())
        })
    }
}

/// Takes back an undo.
///
/// `out_changed` may be NULL; else it receives whether there was an undo to take back.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL session; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_redo(
    session: *mut ams_session,
    out_changed: *mut bool,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let changed = ams_session::lock(session)?.redo();
            arg::out(out_changed, "out_changed").into_iter().for_each(|out| out.set(changed));
            Ok(())
        })
    }
}

/// Whether there is a state for `ams_session_undo` to go back to.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `session` or `out` is NULL; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_can_undo(
    session: *const ams_session,
    out: *mut bool,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (session, out) = (ams_session::lock(session)?, arg::out(out, "out")?);
            out.set(session.can_undo());
            Ok(())
        })
    }
}

/// Whether there is an undo for `ams_session_redo` to take back.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `session` or `out` is NULL; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_can_redo(
    session: *const ams_session,
    out: *mut bool,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (session, out) = (ams_session::lock(session)?, arg::out(out, "out")?);
            out.set(session.can_redo());
            Ok(())
        })
    }
}

/// Estimates the memory a run will need.
///
/// `out` receives the estimate; its `struct_size` must be set.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `session` or `out` is NULL or for a wrong `struct_size`; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_estimate_memory(
    session: *const ams_session,
    out: *mut ams_memory_estimate,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let estimate = ams_session::lock(session)?.estimate_memory();
            let struct_size = size_of::<ams_memory_estimate>();
            let (weights, working, cache, total) = (estimate.weights, estimate.working, estimate.cache, estimate.total);
            arg::result(out, "out", &ams_memory_estimate { struct_size, weights, working, cache, total })
        })
    }
}

/// Number of voxels of the image that were not finite and that the session has replaced.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `session` or `out` is NULL; `AMS_STATUS_BUSY`.
///
/// Thread: the session's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_session_replaced_voxels(
    session: *const ams_session,
    out: *mut u64,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (session, out) = (ams_session::lock(session)?, arg::out(out, "out")?);
            out.set(session.non_finite().total() as u64);
            Ok(())
        })
    }
}
