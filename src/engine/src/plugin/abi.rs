//! The plugin contract as C sees it: `include/adaptmedseg_plugin.h` is made of this file, and of nothing else.

use std::ffi::{c_char, c_void};

/// The version of the table this header describes. The layout of every structure belongs to a version.
pub const AMS_PLUGIN_VERSION: u32 = 1;

/// What every function returns. Zero is success; the numbers are those of `ams_status` where both have one. A number that
/// the host does not know counts as `AMS_PLUGIN_INTERNAL`.
pub type ams_plugin_status = i32;

/// The call did what it says.
pub const AMS_PLUGIN_OK: ams_plugin_status = 0;
/// An argument, an option or a prompt that cannot be used.
pub const AMS_PLUGIN_INVALID_ARGUMENT: ams_plugin_status = 1;
/// Reading or writing a file failed.
pub const AMS_PLUGIN_IO: ams_plugin_status = 2;
/// Data are damaged, or do not belong together.
pub const AMS_PLUGIN_FORMAT: ams_plugin_status = 3;
/// Well-formed, but not supported by this plugin.
pub const AMS_PLUGIN_UNSUPPORTED: ams_plugin_status = 4;
/// The device has too little memory. Handles stay usable.
pub const AMS_PLUGIN_OUT_OF_MEMORY: ams_plugin_status = 6;
/// A mistake in the plugin.
pub const AMS_PLUGIN_INTERNAL: ams_plugin_status = 10;
/// `ams_plugin_init` alone: the plugin does not know this version. The host may ask for an older one.
pub const AMS_PLUGIN_NOT_IMPLEMENTED: ams_plugin_status = 100;

/// Type of the elements of an array.
pub type ams_plugin_element = i32;

/// IEEE 754 single precision.
pub const AMS_PLUGIN_FLOAT32: ams_plugin_element = 1;
/// IEEE 754 half precision.
pub const AMS_PLUGIN_FLOAT16: ams_plugin_element = 2;
/// The upper half of a single-precision number.
pub const AMS_PLUGIN_BFLOAT16: ams_plugin_element = 3;

/// How much a message matters: the numbers of `ams_log_level`.
pub type ams_plugin_level = i32;

/// The user should know.
pub const AMS_PLUGIN_WARNING: ams_plugin_level = 2;
/// What is being done.
pub const AMS_PLUGIN_INFO: ams_plugin_level = 3;
/// For whoever looks into a problem.
pub const AMS_PLUGIN_DEBUG: ams_plugin_level = 4;

/// An array that somebody else owns, valid during the call it is handed to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_plugin_tensor {
    /// What it is; NULL where the place says so. UTF-8.
    pub name: *const c_char,
    /// Sizes, slowest axis first: `rank` numbers.
    pub shape: *const usize,
    /// Number of axes.
    pub rank: usize,
    /// Type of the elements.
    pub element: ams_plugin_element,
    /// The elements, row-major, in the machine's byte order. They need not be aligned.
    pub data: *const c_void,
}

/// A model on a device. Any number of threads may use it at the same time.
pub struct ams_plugin_model {
    _private: (),
}

/// An encoded window. It stays on its device and never changes.
pub struct ams_plugin_embedding {
    _private: (),
}

/// An encoded text. It stays on its device and never changes.
pub struct ams_plugin_text {
    _private: (),
}

/// An adapter beside its model. It never changes.
pub struct ams_plugin_adapter {
    _private: (),
}

/// A model that learns. One thread at a time uses it.
pub struct ams_plugin_trainer {
    _private: (),
}

/// The prompts of one window. Coordinates are (d, h, w) in voxels of the window, voxel centres at whole numbers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_plugin_prompts {
    /// Three coordinates for each point; NULL where there is none.
    pub points: *const f32,
    /// A label for each point: 1 in the structure, 0 outside it, -1 not a point.
    pub labels: *const i8,
    /// Number of points.
    pub point_count: usize,
    /// A box (d0, h0, w0, d1, h1, w1), inclusive corners; NULL for none.
    pub bounding_box: *const f32,
    /// A text; NULL for none.
    pub text: *const ams_plugin_text,
    /// A previous mask of the window, row-major (D, H, W), from 0 to 1; NULL for none. No prompt by itself.
    pub mask: *const f32,
    /// Number of its voxels.
    pub mask_count: usize,
    /// How likely each voxel of the window is in the structure by what usually fills such a box, row-major (D, H, W), from 0
    /// to 1; NULL for nothing known. No prompt by itself.
    pub prior: *const f32,
    /// Number of its voxels.
    pub prior_count: usize,
}

/// What a context prior is told of an image. Both may be NULL: unknown.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_plugin_context {
    /// The modality, such as `MR`.
    pub modality: *const c_char,
    /// The task, such as `prostate`.
    pub task: *const c_char,
}

/// One window to learn from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_plugin_sample {
    /// The window, float32, (D, H, W), from 0 to 1.
    pub image: ams_plugin_tensor,
    /// 1 in the structure and 0 elsewhere, fractions where a label was resampled: float32, of the window's sizes.
    pub target: ams_plugin_tensor,
    /// Combinations of prompts; the loss is the sum over them.
    pub prompts: *const ams_plugin_prompts,
    /// Number of combinations.
    pub prompt_count: usize,
    /// For context priors.
    pub context: ams_plugin_context,
    /// The encoded window, where the encoder does not learn; else NULL.
    pub embedding: *const ams_plugin_embedding,
}

/// What an optimiser step did; see `trainer_step`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ams_plugin_step {
    /// The loss, averaged over the samples.
    pub loss: f64,
    /// Dice loss, averaged over samples and combinations of prompts.
    pub dice: f64,
    /// Cross-entropy, averaged over samples and combinations of prompts.
    pub bce: f64,
    /// Auxiliary modality loss before its weight, averaged over the samples; 0 without one.
    pub modality: f64,
    /// Norm of the gradient of everything that learns, before clipping.
    pub gradient_norm: f64,
}

/// The host's side of a call. It lives as long as the call, and is used on the calling thread only. Its functions copy what
/// they are given, do not throw, and do not call back into the plugin.
#[repr(C)]
pub struct ams_plugin_call {
    /// The host's.
    pub context: *mut c_void,
    /// Says why the call fails, before it returns a status other than `AMS_PLUGIN_OK`: one English line, and what to do
    /// about it or NULL.
    pub fail: unsafe extern "C" fn(call: *const ams_plugin_call, message: *const c_char, hint: *const c_char),
    /// A message for the host's log.
    pub log: unsafe extern "C" fn(call: *const ams_plugin_call, level: ams_plugin_level, message: *const c_char),
    /// An answer that is text; at most once in a call.
    pub text: unsafe extern "C" fn(call: *const ams_plugin_call, text: *const c_char),
    /// An answer that is an array, by its name.
    pub tensor: unsafe extern "C" fn(call: *const ams_plugin_call, tensor: *const ams_plugin_tensor),
}

/// What a plugin can do. The host owns it, hands it over zeroed and keeps it for good; the plugin fills it and keeps no
/// pointer into it.
///
/// Slots marked *required* must be filled. Any other may stay NULL; then the host says that the plugin cannot do that, or
/// does without. All functions may be called on any thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_plugin {
    /// The plugin's own.
    pub private_data: *mut c_void,

    /// Required. Answers with text: a JSON object with `name` (what its devices' names begin with, as `torch` in
    /// `torch:cpu`), `version`, and anything else that helps to tell which build of what this is.
    pub describe:
        Option<unsafe extern "C" fn(plugin: *const ams_plugin, call: *const ams_plugin_call) -> ams_plugin_status>,

    /// Required. Answers with text: a JSON array of the devices there are, best first. Each has `name`, `description`,
    /// `memory_bytes` (a number or null) and `accelerator` (whether `auto` should prefer it to the processor).
    pub devices:
        Option<unsafe extern "C" fn(plugin: *const ams_plugin, call: *const ams_plugin_call) -> ams_plugin_status>,

    /// Required. Opens a model.
    ///
    /// `options`: a JSON object with `device` (one of `devices`), `threads` (a number, or null for all cores) and
    /// `precision` (`f32`, `bf16` or `f16`). An option that the plugin does not know is `AMS_PLUGIN_INVALID_ARGUMENT`, and
    /// named. `config`: the text of the model's `config.json`. `tokenizer`: the text of its `tokenizer.json`, or NULL.
    /// `tensors`: the weights by the names of `model.safetensors`.
    pub model_open: Option<
        unsafe extern "C" fn(
            plugin: *const ams_plugin,
            options: *const c_char,
            config: *const c_char,
            tokenizer: *const c_char,
            tensors: *const ams_plugin_tensor,
            tensor_count: usize,
            out: *mut *mut ams_plugin_model,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Required. Frees a model. Everything made of it has been freed before.
    pub model_free: Option<unsafe extern "C" fn(model: *mut ams_plugin_model)>,

    /// Required. Answers with text: a JSON object with `engine`, `device` (the name it was opened by), `threads`,
    /// `precision`, `embedding_bytes` (of one encoded window) and `working_bytes` (that a pass needs at its peak).
    pub model_info:
        Option<unsafe extern "C" fn(model: *const ams_plugin_model, call: *const ams_plugin_call) -> ams_plugin_status>,

    /// Optional. Answers with text: a JSON object with `allocated_bytes` and `reserved_bytes`, the memory of the device in
    /// use, and that with what its allocator keeps for later.
    pub model_memory:
        Option<unsafe extern "C" fn(model: *const ams_plugin_model, call: *const ams_plugin_call) -> ams_plugin_status>,

    /// Optional. Gives memory that the device's allocator keeps for later back to the system.
    pub model_release_memory:
        Option<unsafe extern "C" fn(model: *const ams_plugin_model, call: *const ams_plugin_call) -> ams_plugin_status>,

    /// Optional. Seconds that the device's own float32 product of `[sizes[0], sizes[1]]` with `[sizes[1], sizes[2]]` takes:
    /// `turns` numbers, after one turn that is not counted.
    pub product_seconds: Option<
        unsafe extern "C" fn(
            model: *const ams_plugin_model,
            sizes: *const usize,
            turns: usize,
            out_seconds: *mut f64,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Required. Encodes one window: float32, (D, H, W), the configured size, from 0 to 1. `adapter` may be NULL.
    pub encode_image: Option<
        unsafe extern "C" fn(
            model: *const ams_plugin_model,
            window: *const ams_plugin_tensor,
            adapter: *const ams_plugin_adapter,
            out: *mut *mut ams_plugin_embedding,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Required. Frees an embedding.
    pub embedding_free: Option<unsafe extern "C" fn(embedding: *mut ams_plugin_embedding)>,

    /// Optional, and with it `text_free` and `check_text`. Encodes the model's sentence about a structure.
    pub encode_text: Option<
        unsafe extern "C" fn(
            model: *const ams_plugin_model,
            text: *const c_char,
            out: *mut *mut ams_plugin_text,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Frees an encoded text.
    pub text_free: Option<unsafe extern "C" fn(text: *mut ams_plugin_text)>,

    /// Checks a text as `encode_text` would, without encoding it.
    pub check_text: Option<
        unsafe extern "C" fn(
            model: *const ams_plugin_model,
            text: *const c_char,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Required. Logits of one window. Answers with two float32 arrays: `logits`, (D, H, W), and `iou`, the predicted
    /// quality of each mask. `adapter` may be NULL; `context` matters to an adapter with a context prior.
    pub decode: Option<
        unsafe extern "C" fn(
            model: *const ams_plugin_model,
            embedding: *const ams_plugin_embedding,
            prompts: *const ams_plugin_prompts,
            adapter: *const ams_plugin_adapter,
            context: *const ams_plugin_context,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Optional, and with it `adapter_free`. Puts an adapter beside the model, which does not change. `config`: the text of `adapter.json`;
    /// `tensors`: float32, by the names of `adapter.safetensors`. `merge` asks to add its corrections to copies of the
    /// weights.
    pub adapter_attach: Option<
        unsafe extern "C" fn(
            model: *const ams_plugin_model,
            config: *const c_char,
            tensors: *const ams_plugin_tensor,
            tensor_count: usize,
            merge: bool,
            out: *mut *mut ams_plugin_adapter,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Frees an adapter.
    pub adapter_free: Option<unsafe extern "C" fn(adapter: *mut ams_plugin_adapter)>,

    /// Optional, and with it all of `trainer_*`. A trainer of an adapter, or of a copy of the weights.
    ///
    /// `options`: a JSON object with `loss`, `optimiser`, `gradient_checkpointing`, `parallel_samples`, `average`,
    /// `modality_loss_weight`, `cue_dropout` and `weights` (beginnings of the names of those that learn, where no adapter does).
    /// `config` and `tensors`: the adapter that learns, as in `adapter_attach`; NULL where the weights do.
    pub trainer_new: Option<
        unsafe extern "C" fn(
            model: *const ams_plugin_model,
            options: *const c_char,
            config: *const c_char,
            tensors: *const ams_plugin_tensor,
            tensor_count: usize,
            out: *mut *mut ams_plugin_trainer,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Frees a trainer.
    pub trainer_free: Option<unsafe extern "C" fn(trainer: *mut ams_plugin_trainer)>,

    /// One optimiser step on the mean loss of the samples. After a loss that is not a number nothing has changed.
    pub trainer_step: Option<
        unsafe extern "C" fn(
            trainer: *mut ams_plugin_trainer,
            samples: *const ams_plugin_sample,
            sample_count: usize,
            learning_rate: f64,
            out: *mut ams_plugin_step,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// The loss of a sample as things stand. Answers with one float32 array `logits`, (D, H, W), for each combination of
    /// prompts, in their order.
    pub trainer_evaluate: Option<
        unsafe extern "C" fn(
            trainer: *const ams_plugin_trainer,
            sample: *const ams_plugin_sample,
            out_loss: *mut f64,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Whether the image encoder learns, so that embeddings cannot be kept from step to step.
    pub trainer_encoder_learns: Option<unsafe extern "C" fn(trainer: *const ams_plugin_trainer) -> bool>,

    /// Answers with the model's own weights as they stand, float32, by name.
    pub trainer_weights: Option<
        unsafe extern "C" fn(trainer: *const ams_plugin_trainer, call: *const ams_plugin_call) -> ams_plugin_status,
    >,

    /// Answers with the adapter as it stands: text as of `adapter.json`, and float32 arrays by name.
    pub trainer_adapter: Option<
        unsafe extern "C" fn(trainer: *const ams_plugin_trainer, call: *const ams_plugin_call) -> ams_plugin_status,
    >,

    /// Answers with everything that changes, as float32 arrays by names of the plugin's choice. `out_steps` receives the
    /// optimiser steps taken.
    pub trainer_state: Option<
        unsafe extern "C" fn(
            trainer: *const ams_plugin_trainer,
            out_steps: *mut u64,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,

    /// Goes back to a state of a trainer of the same adapter or weights. On failure nothing has changed.
    pub trainer_restore: Option<
        unsafe extern "C" fn(
            trainer: *mut ams_plugin_trainer,
            steps: u64,
            tensors: *const ams_plugin_tensor,
            tensor_count: usize,
            call: *const ams_plugin_call,
        ) -> ams_plugin_status,
    >,
}

/// The type of [`ams_plugin_init`].
pub type ams_plugin_init_function =
    unsafe extern "C" fn(version: u32, plugin: *mut ams_plugin, call: *const ams_plugin_call) -> ams_plugin_status;

unsafe extern "C" {
    /// The one symbol that a plugin exports. The host asks for the newest version it knows first.
    ///
    /// `plugin` is zeroed and has the layout of `version`. A plugin that does not know the version leaves it alone and
    /// returns `AMS_PLUGIN_NOT_IMPLEMENTED`. Any other status than `AMS_PLUGIN_OK` means that the plugin cannot be used
    /// here, for the reason it gives. It may be called more than once.
    pub fn ams_plugin_init(version: u32, plugin: *mut ams_plugin, call: *const ams_plugin_call) -> ams_plugin_status;
}
