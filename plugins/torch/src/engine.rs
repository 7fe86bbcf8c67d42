//! A model on libtorch: the engine of Burn, on one of libtorch's devices.

use crate::device::{self, Place};
use crate::failure;
use crate::native::ffi;
use adaptmedseg_engine::{
    Adapted, AttachedAdapter, BurnEngine, BurnPlace, Decoded, Engine, EngineInfo, EngineOptions, Error, ErrorKind,
    ImageEmbedding, Learns, MemoryUse, ModelSource, Precision, Result, TextEmbedding, Trainer, TrainerConfig,
    WindowPrompts,
};
use adaptmedseg_model::adapter::Adapter;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::nn::{has_avx512, has_fast_bf16};
use std::cell::RefCell;
use std::sync::Arc;

/// Opens a model.
///
/// One thread calls libtorch, which computes with as many as were asked for: it starts its own, and calls from several
/// threads would each have that many.
///
/// # Errors
/// An unknown device; weights that do not fit; too little memory.
pub(crate) fn open(source: ModelSource, options: &EngineOptions) -> Result<Box<dyn Engine>> {
    let place = device::find(&options.device)?;
    let threads = options.thread_count();
    let count = i32::try_from(threads).map_err(|_| Error::Plugin {
        kind: ErrorKind::InvalidArgument,
        message: format!("{threads} threads are too many"),
        hint: None,
    })?;
    ffi::exact_float32().map_err(failure::thrown)?;
    ffi::wait_asleep().map_err(failure::thrown)?;
    ffi::keep_memory().map_err(failure::thrown)?;
    let on_start = move || {
        // Without it libtorch takes all cores, which is no reason to give up.
        let _ = ffi::set_threads(count);
    };
    // With these instructions the project's kernels are faster than libtorch's. Without them they may not be.
    let kernels = place == Place::Cpu
        && match options.precision {
            Precision::F32 => has_avx512(),
            Precision::Bf16 => has_fast_bf16(),
            Precision::F16 => false,
        };
    let burn = BurnPlace {
        device: place.device(),
        engine: "torch".into(),
        name: place.name(),
        threads,
        callers: 1,
        on_start: Some(Arc::new(on_start)),
        kernels,
    };
    let tokenizer = source.read_tokenizer()?;
    let ModelSource { config, tensors, .. } = source;
    // Each weight is copied to the device once, and forgotten here.
    let tensors = RefCell::new(tensors);
    let inner =
        BurnEngine::on(burn, config, tokenizer, options.precision, move |name| tensors.borrow_mut().remove(name))?;
    log::info!("{}: {threads} threads of libtorch, which sleep while they wait; no variable was set", place.name());
    Ok(Box::new(TorchEngine { inner, memory: Memory(place) }))
}

/// Burn's engine, and what it does not know of the device.
#[derive(Debug)]
struct TorchEngine {
    inner: BurnEngine,
    // Dropped last, when the model's tensors are gone.
    memory: Memory,
}

/// What libtorch keeps of a place's memory for later, given back when a model is closed.
#[derive(Debug)]
struct Memory(Place);

impl Memory {
    fn release(&self) {
        let released = if self.0 == Place::Cpu { ffi::release_cpu_memory() } else { ffi::release_cache() };
        if let Err(error) = released {
            log::warn!("libtorch: {error}");
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.release();
    }
}

impl Engine for TorchEngine {
    fn info(&self) -> &EngineInfo {
        self.inner.info()
    }

    fn config(&self) -> &ModelConfig {
        self.inner.config()
    }

    fn product_seconds(&self, sizes: [usize; 3], turns: usize) -> Result<Vec<f64>> {
        self.inner.product_seconds(sizes, turns)
    }

    fn encode_image(&self, window: &[f32], adapter: Option<&AttachedAdapter>) -> Result<ImageEmbedding> {
        self.inner.encode_image(window, adapter)
    }

    fn encode_text(&self, name: &str) -> Result<TextEmbedding> {
        self.inner.encode_text(name)
    }

    fn check_text(&self, name: &str) -> Result<()> {
        self.inner.check_text(name)
    }

    fn decode(&self, image: &ImageEmbedding, prompts: &WindowPrompts, adapted: Option<Adapted>) -> Result<Decoded> {
        self.inner.decode(image, prompts, adapted)
    }

    fn attach(&self, adapter: &Adapter, merge: bool) -> Result<AttachedAdapter> {
        self.inner.attach(adapter, merge)
    }

    fn trainer(&self, learns: Learns, config: TrainerConfig) -> Result<Box<dyn Trainer>> {
        self.inner.trainer(learns, config)
    }

    fn memory(&self) -> Option<MemoryUse> {
        let memory = match self.memory.0 {
            Place::Cuda(index) => ffi::cuda_memory(i32::try_from(index).ok()?).ok()?,
            Place::Cpu => ffi::cpu_memory(),
            Place::Mps => return None,
        };
        Some(MemoryUse { allocated_bytes: memory.allocated, reserved_bytes: memory.reserved })
    }

    fn release_memory(&self) {
        self.memory.release();
    }
}
