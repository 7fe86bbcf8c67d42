//! The functions of the table that need a model, over any engine.

use super::super::abi::*;
use super::super::wire::{self, Arrays, Weights};
use super::{
    Provider, answer, answer_arrays, get, guarded, hand_out, json, misused, provider_of, take_back, text, trainer,
};
use crate::error::Result;
use crate::training::{Learns, TrainerConfig};
use crate::{
    Adapted, AttachedAdapter, Engine, EngineOptions, ImageEmbedding, ModelSource, TextEmbedding, WindowPrompts,
};
use adaptmedseg_model::Device;
use adaptmedseg_model::adapter::{Adapter, AdapterContext};
use adaptmedseg_model::config::ModelConfig;
use std::ffi::c_char;
use std::ptr;

/// What the table calls a model.
pub(super) struct Served {
    pub(super) engine: Box<dyn Engine>,
    pub(super) provider: &'static dyn Provider,
}

/// All of the table but what depends on the provider.
pub(super) const TABLE: ams_plugin = ams_plugin {
    private_data: ptr::null_mut(),
    describe: None,
    devices: None,
    model_open: None,
    model_free: Some(take_back::<Served, ams_plugin_model>),
    model_info: Some(info),
    model_memory: Some(memory),
    model_release_memory: Some(release_memory),
    product_seconds: Some(product_seconds),
    encode_image: Some(encode_image),
    embedding_free: Some(take_back::<ImageEmbedding, ams_plugin_embedding>),
    encode_text: Some(encode_text),
    text_free: Some(take_back::<TextEmbedding, ams_plugin_text>),
    check_text: Some(check_text),
    decode: Some(decode),
    adapter_attach: Some(attach),
    adapter_free: Some(take_back::<AttachedAdapter, ams_plugin_adapter>),
    trainer_new: Some(new_trainer),
    trainer_free: Some(take_back::<trainer::Served, ams_plugin_trainer>),
    trainer_step: Some(trainer::step),
    trainer_evaluate: Some(trainer::evaluate),
    trainer_encoder_learns: Some(trainer::encoder_learns),
    trainer_weights: Some(trainer::weights),
    trainer_adapter: Some(trainer::adapter),
    trainer_state: Some(trainer::state),
    trainer_restore: Some(trainer::restore),
};

#[allow(clippy::too_many_arguments, reason = "as the contract has it")]
pub(super) unsafe extern "C" fn open<P: Provider>(
    plugin: *const ams_plugin,
    options: *const c_char,
    config: *const c_char,
    tokenizer: *const c_char,
    tensors: *const ams_plugin_tensor,
    tensor_count: usize,
    out: *mut *mut ams_plugin_model,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: the host keeps to the contract of the table: what it hands over is NULL where that may be, else valid until
    // the call is over. So in every function here.
    unsafe {
        let provider = provider_of::<P>(plugin);
        guarded(call, provider, || {
            let options: wire::OpenOptions = json(options, "the options")?;
            let config: ModelConfig = json(config, "the configuration")?;
            config.validate()?;
            let tokenizer =
                if tokenizer.is_null() { None } else { Some(text(tokenizer, "the tokenizer")?.as_bytes().to_vec()) };
            let weights = Weights::read(tensors, tensor_count).map_err(misused)?;
            let source = ModelSource { config, tokenizer, tensors: weights.copied() };
            let wire::OpenOptions { device, threads, precision } = options;
            let engine = provider.open(source, &EngineOptions { device, threads, precision, plugin: None })?;
            hand_out(out, Served { engine, provider })
        })
    }
}

/// Runs a body with the model of a handle.
///
/// # Safety
/// A model of this table, or NULL; a call of the host's.
unsafe fn with(
    model: *const ams_plugin_model,
    call: *const ams_plugin_call,
    body: impl FnOnce(&Served) -> Result<()>,
) -> ams_plugin_status {
    struct Nobody;
    impl Provider for Nobody {
        fn describe(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn devices(&self) -> Result<Vec<crate::DeviceInfo>> {
            Ok(Vec::new())
        }
        fn open(&self, _: ModelSource, _: &EngineOptions) -> Result<Box<dyn Engine>> {
            Err(misused("there is no engine"))
        }
    }
    // SAFETY: by contract.
    unsafe {
        match model.cast::<Served>().as_ref() {
            Some(served) => guarded(call, served.provider, || body(served)),
            None => guarded(call, &Nobody, || Err(misused("the model is NULL"))),
        }
    }
}

unsafe extern "C" fn info(model: *const ams_plugin_model, call: *const ams_plugin_call) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe { with(model, call, |served| answer(call, served.engine.info())) }
}

unsafe extern "C" fn memory(model: *const ams_plugin_model, call: *const ams_plugin_call) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe {
        with(model, call, |served| match served.engine.memory() {
            Some(memory) => answer(call, &memory),
            None => Ok(()),
        })
    }
}

unsafe extern "C" fn release_memory(model: *const ams_plugin_model, call: *const ams_plugin_call) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe {
        with(model, call, |served| {
            served.engine.release_memory();
            Ok(())
        })
    }
}

unsafe extern "C" fn product_seconds(
    model: *const ams_plugin_model,
    sizes: *const usize,
    turns: usize,
    out_seconds: *mut f64,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe {
        with(model, call, |served| {
            let sizes = get(sizes.cast::<[usize; 3]>(), "the sizes")?;
            get(out_seconds, "the seconds")?;
            let seconds = served.engine.product_seconds(*sizes, turns)?;
            out_seconds.copy_from_nonoverlapping(seconds.as_ptr(), seconds.len().min(turns));
            Ok(())
        })
    }
}

unsafe extern "C" fn encode_image(
    model: *const ams_plugin_model,
    window: *const ams_plugin_tensor,
    adapter: *const ams_plugin_adapter,
    out: *mut *mut ams_plugin_embedding,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe {
        with(model, call, |served| {
            let (_, _, window) = wire::read_floats(window).map_err(misused)?;
            let adapter = adapter.cast::<AttachedAdapter>().as_ref();
            hand_out(out, served.engine.encode_image(&window, adapter)?)
        })
    }
}

unsafe extern "C" fn encode_text(
    model: *const ams_plugin_model,
    name: *const c_char,
    out: *mut *mut ams_plugin_text,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe { with(model, call, |served| hand_out(out, served.engine.encode_text(text(name, "the text")?)?)) }
}

unsafe extern "C" fn check_text(
    model: *const ams_plugin_model,
    name: *const c_char,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe { with(model, call, |served| served.engine.check_text(text(name, "the text")?)) }
}

/// The prompts of a window.
///
/// # Safety
/// Prompts of the host's, as they say.
pub(super) unsafe fn prompts_of(raw: &ams_plugin_prompts) -> Result<WindowPrompts> {
    // SAFETY: by contract.
    unsafe {
        let count = raw.point_count;
        if count > 0 && (raw.points.is_null() || raw.labels.is_null()) {
            return Err(misused(format!("{count} points that are NULL")));
        }
        let places = wire::read_list(raw.points, count.checked_mul(3).ok_or_else(|| misused("too many points"))?);
        let places = places.as_chunks::<3>().0.iter().copied();
        let volume = |data: *const f32, count| (!data.is_null()).then(|| wire::read_list(data, count).to_vec());
        Ok(WindowPrompts {
            points: places.zip(wire::read_list(raw.labels, count).iter().copied()).collect(),
            bounding_box: raw.bounding_box.cast::<[f32; 6]>().as_ref().copied(),
            text: raw.text.cast::<TextEmbedding>().as_ref().cloned(),
            mask: volume(raw.mask, raw.mask_count),
            prior: volume(raw.prior, raw.prior_count),
        })
    }
}

/// The context of a prior.
///
/// # Safety
/// A context of the host's, as it says.
pub(super) unsafe fn context_of(raw: &ams_plugin_context) -> Result<AdapterContext> {
    // SAFETY: by contract.
    unsafe {
        let read = |name: *const c_char, what| {
            if name.is_null() { Ok(None) } else { text(name, what).map(|text| Some(text.to_owned())) }
        };
        Ok(AdapterContext { modality: read(raw.modality, "the modality")?, task: read(raw.task, "the task")? })
    }
}

unsafe extern "C" fn decode(
    model: *const ams_plugin_model,
    embedding: *const ams_plugin_embedding,
    prompts: *const ams_plugin_prompts,
    adapter: *const ams_plugin_adapter,
    context: *const ams_plugin_context,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe {
        with(model, call, |served| {
            let embedding = get(embedding.cast::<ImageEmbedding>(), "the embedding")?;
            let prompts = prompts_of(get(prompts, "the prompts")?)?;
            let context = context.as_ref().map(|raw| context_of(raw)).transpose()?.unwrap_or_default();
            let adapter = adapter.cast::<AttachedAdapter>().as_ref();
            let adapted = adapter.map(|adapter| Adapted { adapter, context: &context });
            let decoded = served.engine.decode(embedding, &prompts, adapted)?;
            let mut arrays = Arrays::default();
            arrays.floats("logits", &served.engine.config().image_encoder.image_size, &decoded.logits);
            arrays.floats("iou", &[decoded.iou.len()], &decoded.iou);
            answer_arrays(call, &arrays);
            Ok(())
        })
    }
}

/// The adapter that a description and its arrays make.
///
/// # Safety
/// Text and arrays of the host's, as they say.
unsafe fn adapter_of(
    config: *const c_char,
    tensors: *const ams_plugin_tensor,
    count: usize,
    model: &ModelConfig,
) -> Result<Adapter> {
    // SAFETY: by contract.
    let (config, tensors) =
        unsafe { (json(config, "the adapter's description")?, wire::read_named(tensors, count).map_err(misused)?) };
    // The engine moves it to where it computes.
    Ok(Adapter::from_tensors(config, model, &tensors, &Device::default())?)
}

unsafe extern "C" fn attach(
    model: *const ams_plugin_model,
    config: *const c_char,
    tensors: *const ams_plugin_tensor,
    tensor_count: usize,
    merge: bool,
    out: *mut *mut ams_plugin_adapter,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe {
        with(model, call, |served| {
            let adapter = adapter_of(config, tensors, tensor_count, served.engine.config())?;
            hand_out(out, served.engine.attach(&adapter, merge)?)
        })
    }
}

unsafe extern "C" fn new_trainer(
    model: *const ams_plugin_model,
    options: *const c_char,
    config: *const c_char,
    tensors: *const ams_plugin_tensor,
    tensor_count: usize,
    out: *mut *mut ams_plugin_trainer,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `open`.
    unsafe {
        with(model, call, |served| {
            let options: wire::TrainerOptions = json(options, "the options")?;
            let (options, weights): (TrainerConfig, _) = options.into_parts();
            let learns = if config.is_null() {
                Learns::Weights(weights)
            } else {
                Learns::Adapter(Box::new(adapter_of(config, tensors, tensor_count, served.engine.config())?))
            };
            let trainer = served.engine.trainer(learns, options)?;
            hand_out(out, trainer::Served::new(trainer, served.provider))
        })
    }
}
