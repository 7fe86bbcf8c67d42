//! `ams_finetune`: pairs of image and mask, and the run that makes an adapter of them.

use crate::adapter::ams_adapter;
use crate::arg::Growing;
use crate::cancel::ams_cancel;
use crate::error::{Failure, Result, ams_error};
use crate::image::ams_image;
use crate::log::Sink;
use crate::model::ams_model;
use crate::status::ams_status;
use crate::{arg, guard, log as sink, string};
use adaptmedseg_segment::Model;
use adaptmedseg_segment::adapters::LoraConfig;
use adaptmedseg_segment::train::LossKind;
use adaptmedseg_study::{
    FineTuneHooks, FineTuneOptions, FineTuneProgress, FineTuneReport, Method, Start, TrainingPair, adapter_config,
    read_pairs, with_pairs,
};
use std::ffi::{CString, c_char, c_void};
use std::mem::size_of;
use std::ptr;
use std::sync::{Mutex, MutexGuard};

/// A run that lets a model learn from pairs of image and mask. What it learns is an adapter; the model does not change,
/// and sessions may go on using it meanwhile.
///
/// It belongs to one thread at a time. A call while another is running returns `AMS_STATUS_BUSY`.
pub struct ams_finetune {
    state: Mutex<State>,
    sink: Option<Sink>,
}

struct State {
    model: Model,
    pairs: Vec<TrainingPair>,
    report: Option<FineTuneReport>,
}

/// What learns.
pub type ams_method = i32;

/// Low-rank corrections of linear layers.
pub const AMS_METHOD_LORA: ams_method = 0;
/// A context prior: learned tokens for modality and task.
pub const AMS_METHOD_PRIOR: ams_method = 1;
/// Both.
pub const AMS_METHOD_LORA_PRIOR: ams_method = 2;

/// Kind of context prior.
pub type ams_prior_variant = i32;

/// Cross-attention both ways; prototypes are multiplied with the up-scaled image.
pub const AMS_PRIOR_HERMES: ams_prior_variant = 0;
/// One self-attention; prototypes are added to the mask tokens.
pub const AMS_PRIOR_ADDITIVE: ams_prior_variant = 1;

/// What is minimised.
pub type ams_loss = i32;

/// Dice per slice and cross-entropy, as SegVol.
pub const AMS_LOSS_SEGVOL: ams_loss = 0;
/// A Dice that weighs false positives and negatives by how many there are, and cross-entropy, as Hermes.
pub const AMS_LOSS_ADAPTIVE_DICE: ams_loss = 1;
/// One Dice over the window, and cross-entropy: what the built-in model learned by.
pub const AMS_LOSS_VOLUME: ams_loss = 2;

/// How a run begins.
pub type ams_start = i32;

/// Nothing of the adapter's name may be there.
pub const AMS_START_NEW: ams_start = 0;
/// What is there of the adapter's name, finished or not, is replaced.
pub const AMS_START_OVERWRITE: ams_start = 1;
/// An unfinished run of the adapter's name goes on; it comes to the same adapter as one that was never stopped.
pub const AMS_START_RESUME: ams_start = 2;

/// How a run is to go. Set it to zeros, then `struct_size`, then what you want: zero is the default of every field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_finetune_options {
    /// `sizeof(ams_finetune_options)`.
    pub struct_size: usize,
    /// What learns, an `AMS_METHOD_` constant.
    pub method: ams_method,
    /// Kind of context prior, an `AMS_PRIOR_` constant.
    pub prior_variant: ams_prior_variant,
    /// What is minimised, an `AMS_LOSS_` constant.
    pub loss: ams_loss,
    /// How it begins, an `AMS_START_` constant.
    pub start: ams_start,
    /// Rank of the low-rank corrections; 0: 8.
    pub rank: u32,
    /// Samples of a step; 0: 1.
    pub accumulation: u32,
    /// Strength of the low-rank corrections; 0: 8.
    pub alpha: f64,
    /// Highest learning rate; 0: 0.0005.
    pub learning_rate: f64,
    /// Optimiser steps; 0: 200.
    pub steps: u64,
    /// Steps between validations and between checkpoints; 0: a tenth of all.
    pub validate_every: u64,
    /// Validations without a better loss after which the run ends; 0: 5.
    pub patience: u64,
    /// Seed of everything random.
    pub seed: u64,
    /// Other than 0: keep all activations of the image encoder; faster, for more memory.
    pub no_checkpointing: i32,
    /// Other than 0: correct the decoder's MLPs and its token-to-image attention too.
    pub all_decoder_layers: i32,
    /// Other than 0: correct no layer of the image encoder; windows are then encoded once and kept, and steps are fast.
    pub freeze_encoder: i32,
    /// An adapter folder to learn further, UTF-8, instead of a new adapter; tasks and modalities it does not know are
    /// added to it, and `method`, `prior_variant`, `rank` and `alpha` are its own. NULL: a new one. Copied.
    pub from: *const c_char,
    /// Name of the adapter, UTF-8; NULL: that of its folder. Copied.
    pub name: *const c_char,
    /// Licence of the adapter's weights, UTF-8; NULL: unknown. Copied.
    pub license: *const c_char,
}

// SAFETY: `repr(C)`, the size first, and NULL and 0 are values of every field.
unsafe impl Growing for ams_finetune_options {
    const NAME: &'static str = "ams_finetune_options";
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// How far a run has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_finetune_progress {
    /// Size of this structure in the library, which fills it.
    pub struct_size: usize,
    /// Steps taken.
    pub step: u64,
    /// Steps there may be.
    pub total: u64,
    /// Loss of the last step; not a number before the first.
    pub loss: f64,
    /// Seconds to the end, as things go.
    pub seconds_left: f64,
    /// Loss on what is held out, if it has just been measured; else not a number.
    pub validation_loss: f64,
    /// Dice on what is held out, if it has just been measured; else not a number.
    pub validation_dice: f64,
    /// The validation as a JSON object, with the Dice of each combination of prompts; NULL unless it has just been
    /// made.
    pub validation_json: *const c_char,
}

/// Receives the progress of a run, after every step and every validation. `progress` is valid during the call only.
///
/// It is called on the thread that called the library. It must return normally: no exception and no longjmp may leave
/// it. To stop the run, cancel the token that the run was given. It must not use the run, which is busy.
pub type ams_finetune_callback =
    Option<unsafe extern "C" fn(progress: *const ams_finetune_progress, user_data: *mut c_void)>;

impl ams_finetune {
    /// The run of a handle, for one call.
    ///
    /// # Safety
    /// `finetune` is NULL or a live handle.
    unsafe fn lock<'a>(finetune: *const Self) -> Result<MutexGuard<'a, State>> {
        // SAFETY: by contract.
        guard::try_lock(&unsafe { arg::get(finetune, "finetune") }?.state)
    }
}

/// Begins a run for a model. Add pairs, then call `ams_finetune_run`.
///
/// `out` receives it; free it with `ams_finetune_free`. It keeps what it needs of the model.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `model` or `out` is NULL.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_finetune_new(
    model: *const ams_model,
    out: *mut *mut ams_finetune,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (model, out) = (ams_model::enter(model)?, arg::out(out, "out")?);
            let state = State { model: model.model.clone(), pairs: Vec::new(), report: None };
            out.set(Box::into_raw(Box::new(ams_finetune { state: Mutex::new(state), sink: model.sink })));
            Ok(())
        })
    }
}

/// Frees a run. NULL is allowed. Not while a call on it is running. An unfinished run on the disk stays.
///
/// Thread: any, but once. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_finetune_free(finetune: *mut ams_finetune) {
    // SAFETY: NULL or a run of this library that nobody uses any more, by contract.
    unsafe { guard::free(finetune) }
}

/// Adds an image and one structure in it, such as a segment that somebody corrected in a viewer.
///
/// `mask` has one byte per voxel of the image, i fastest, other than 0 in the structure; `count` is their number. Both
/// are copied. `label` is the structure's name in text prompts, `task` and `modality` are those of context priors, and
/// `subject` says who was scanned, so that one subject is never on both sides of a split: UTF-8, copied, NULL for none.
/// Without a task it is the label. Part of the data is held out to tell when the adapter is good: some of the subjects,
/// or of a single subject the last quarter of the structure's slices.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL run, image or mask, a wrong `count`, an empty mask, text that is
/// not UTF-8; `AMS_STATUS_BUSY`.
///
/// Thread: the run's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_finetune_add_pair(
    finetune: *mut ams_finetune,
    image: *const ams_image,
    mask: *const u8,
    count: usize,
    label: *const c_char,
    task: *const c_char,
    modality: *const c_char,
    subject: *const c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked. The mask is as long as `count` says.
    unsafe {
        guard::call(error, || {
            let mut state = ams_finetune::lock(finetune)?;
            let image = ams_image::enter(image)?.clone();
            let mask = arg::slice(mask, count, "mask")?;
            if count != image.geometry.voxel_count() {
                let message = format!("the mask has {count} voxels, the image {}", image.geometry.voxel_count());
                return Err(Failure::argument(message).with_hint("the mask must lie on the image's own grid"));
            }
            if mask.iter().all(|&value| value == 0) {
                return Err(Failure::argument("the mask is empty").with_hint("add a structure that is there"));
            }
            let text = |pointer, name| Ok::<_, Failure>(arg::optional_text(pointer, name)?.map(str::to_owned));
            let label = text(label, "label")?;
            let name = format!("pair {}", state.pairs.len() + 1);
            state.pairs.push(TrainingPair {
                image,
                mask: mask.to_vec(),
                task: text(task, "task")?.or_else(|| label.clone()),
                label,
                modality: text(modality, "modality")?,
                subject: text(subject, "subject")?,
                split: None,
                name,
            });
            Ok(())
        })
    }
}

/// Adds the pairs of a list, or of a folder with a `pairs.json`: an array of objects with `image`, `mask`, and
/// optionally `label`, `label_id`, `task`, `modality`, `subject`, `split` (`train` or `validation`) and `channel`; files
/// are relative to the list.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL run or path, or an empty path; `AMS_STATUS_IO` and
/// `AMS_STATUS_FORMAT` for a list that is absent or malformed, and for an entry that cannot be used, which the message
/// names; `AMS_STATUS_BUSY`. After each the run has the pairs it had.
///
/// Thread: the run's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_finetune_add_data(
    finetune: *mut ams_finetune,
    path: *const c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (mut state, path) = (ams_finetune::lock(finetune)?, arg::path(path, "path")?);
            state.pairs.extend(read_pairs(&path)?);
            Ok(())
        })
    }
}

/// Trains, and writes the adapter to the folder `path`, which appears when it is done.
///
/// While the run goes on, `path` with `.partial` at its end holds its last state; a run that was cancelled or killed goes
/// on from there with `AMS_START_RESUME`, given the same pairs and options. `options` may be NULL. `progress` may be
/// NULL; `user_data` is handed to it. `cancel` may be NULL; else its cancellation, from any thread, stops the run.
/// `out` may be NULL; else it receives the adapter, opened: free it with `ams_adapter_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL run or path, a wrong `struct_size`, options or pairs that cannot be
/// used, a run that cannot be resumed; `AMS_STATUS_EXISTS`; `AMS_STATUS_IO`; `AMS_STATUS_CANCELLED`, which leaves a
/// state to resume from; `AMS_STATUS_UNSUPPORTED` if training diverged; `AMS_STATUS_BUSY`.
///
/// Thread: the run's. The library computes on threads of its own. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_finetune_run(
    finetune: *mut ams_finetune,
    path: *const c_char,
    options: *const ams_finetune_options,
    progress: ams_finetune_callback,
    user_data: *mut c_void,
    cancel: *const ams_cancel,
    out: *mut *mut ams_adapter,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked. The callback takes its own data.
    unsafe {
        guard::call(error, || {
            let (mut state, path) = (ams_finetune::lock(finetune)?, arg::path(path, "path")?);
            let zeros = ams_finetune_options { struct_size: size_of::<ams_finetune_options>(), ..std::mem::zeroed() };
            let given = if options.is_null() { zeros } else { arg::options(options, "options")? };
            let (run, start) = (run_options(&given)?, start(given.start)?);
            let mut config =
                adapter_config(method(given.method)?, variant(given.prior_variant)?, lora(&given), &state.pairs);
            let folder = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            config.name = arg::optional_text(given.name, "options->name")?.map_or_else(folder, str::to_owned);
            config.license = arg::optional_text(given.license, "options->license")?.unwrap_or_default().to_owned();
            let from = if given.from.is_null() { None } else { Some(arg::path(given.from, "options->from")?) };
            let show = progress.map(|callback| {
                move |progress: &FineTuneProgress| {
                    let json = progress.validation.and_then(|validation| CString::new(as_json(validation)).ok());
                    let number =
                        |pick: fn(&adaptmedseg_study::Validation) -> f64| progress.validation.map_or(f64::NAN, pick);
                    let seen = ams_finetune_progress {
                        struct_size: size_of::<ams_finetune_progress>(),
                        step: progress.step,
                        total: progress.total,
                        loss: progress.loss,
                        seconds_left: progress.seconds_left,
                        validation_loss: number(|validation| validation.loss),
                        validation_dice: number(|validation| validation.dice),
                        validation_json: json.as_ref().map_or(ptr::null(), |json| json.as_ptr()),
                    };
                    callback(&seen, user_data);
                }
            });
            let hooks = FineTuneHooks {
                progress: show.as_ref().map(|show| show as &dyn Fn(&FineTuneProgress)),
                cancel: cancel.as_ref().map(|cancel| &cancel.token),
            };
            let model = state.model.clone();
            let report = sink::to((*finetune).sink, || -> Result<FineTuneReport> {
                let adapter = match &from {
                    Some(path) => with_pairs(model.open_adapter(path)?, &state.pairs)?,
                    None => model.new_adapter(config, run.seed)?,
                };
                Ok(adaptmedseg_study::finetune(&model, adapter, &state.pairs, &run, &path, start, &hooks)?)
            })?;
            state.report = Some(report);
            if let Ok(out) = arg::out(out, "out") {
                out.set(ams_adapter::boxed(model.load_adapter(&path, false)?));
            }
            Ok(())
        })
    }
}

/// How the last run went, as JSON: steps, seconds, losses and Dice on what was held out before and after, options.
///
/// `out_json` receives it; free it with `ams_string_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument, or before a run has come to its end; `AMS_STATUS_BUSY`.
///
/// Thread: the run's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_finetune_report(
    finetune: *const ams_finetune,
    out_json: *mut *mut c_char,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (state, out) = (ams_finetune::lock(finetune)?, arg::out(out_json, "out_json")?);
            let missing = || Failure::argument("no run has come to its end").with_hint("call ams_finetune_run first");
            out.set(string::json(state.report.as_ref().ok_or_else(missing)?)?);
            Ok(())
        })
    }
}

fn as_json(validation: &adaptmedseg_study::Validation) -> String {
    serde_json::to_string(validation).expect("plain data")
}

fn unknown<T>(what: &str, value: i32, prefix: &str) -> Result<T> {
    Err(Failure::argument(format!("options->{what} is {value}")).with_hint(format!("use an {prefix} constant")))
}

fn method(value: ams_method) -> Result<Method> {
    match value {
        AMS_METHOD_LORA => Ok(Method::Lora),
        AMS_METHOD_PRIOR => Ok(Method::Prior),
        AMS_METHOD_LORA_PRIOR => Ok(Method::LoraPrior),
        _ => unknown("method", value, "AMS_METHOD_"),
    }
}

fn variant(value: ams_prior_variant) -> Result<adaptmedseg_segment::prior::Variant> {
    match value {
        AMS_PRIOR_HERMES => Ok(adaptmedseg_segment::prior::Variant::Hermes),
        AMS_PRIOR_ADDITIVE => Ok(adaptmedseg_segment::prior::Variant::Additive),
        _ => unknown("prior_variant", value, "AMS_PRIOR_"),
    }
}

fn start(value: ams_start) -> Result<Start> {
    match value {
        AMS_START_NEW => Ok(Start::New),
        AMS_START_OVERWRITE => Ok(Start::Overwrite),
        AMS_START_RESUME => Ok(Start::Resume),
        _ => unknown("start", value, "AMS_START_"),
    }
}

fn lora(given: &ams_finetune_options) -> LoraConfig {
    let mut lora = LoraConfig::default();
    if given.rank > 0 {
        lora.rank = given.rank as usize;
    }
    if given.alpha != 0.0 {
        lora.alpha = given.alpha;
    }
    let lora = if given.all_decoder_layers == 0 { lora } else { lora.with_further_targets() };
    if given.freeze_encoder == 0 { lora } else { lora.only("mask_decoder.") }
}

fn run_options(given: &ams_finetune_options) -> Result<FineTuneOptions> {
    let default = FineTuneOptions::default();
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let steps = or(given.steps, default.steps);
    let every = or(given.validate_every, (steps / 10).max(1));
    Ok(FineTuneOptions {
        steps,
        learning_rate: if given.learning_rate == 0.0 { default.learning_rate } else { given.learning_rate },
        warmup_steps: default.warmup_steps.min(steps / 10),
        accumulation: (given.accumulation as usize).max(1),
        seed: given.seed,
        validate_every: every,
        checkpoint_every: every,
        patience: or(given.patience, default.patience),
        gradient_checkpointing: given.no_checkpointing == 0,
        loss: match given.loss {
            AMS_LOSS_SEGVOL => LossKind::SegVol,
            AMS_LOSS_ADAPTIVE_DICE => LossKind::AdaptiveDice,
            AMS_LOSS_VOLUME => LossKind::Volume,
            other => return unknown("loss", other, "AMS_LOSS_"),
        },
        ..default
    })
}
