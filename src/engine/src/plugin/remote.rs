//! An engine whose model runs in a plugin.

use super::abi::*;
use super::call::{self, Reply, broken};
use super::host::{Plugin, slot};
use super::remote_trainer::PluginTrainer;
use super::wire::{self, Arrays, c_pointer, c_text};
use crate::error::{Error, Result};
use crate::training::{Learns, Trainer, TrainerConfig};
use crate::{
    Adapted, AttachedAdapter, Decoded, Engine, EngineInfo, ImageEmbedding, MemoryUse, ModelSource, TextEmbedding,
    WindowPrompts,
};
use adaptmedseg_model::adapter::{Adapter, AdapterContext};
use adaptmedseg_model::config::ModelConfig;
use std::ffi::CString;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Something of the plugin's that is freed when it is forgotten.
pub(super) struct Handle<T> {
    raw: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
    /// A model is freed after everything made of it.
    model: Option<Arc<Handle<ams_plugin_model>>>,
}

// SAFETY: the contract lets any thread use and free handles; trainers are used by one at a time, see `PluginTrainer`.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as for `Send`; what is shared never changes.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    /// Makes one by a call that writes it.
    ///
    /// # Errors
    /// What the plugin fails with; success that leaves NULL.
    pub(super) fn make(
        free: unsafe extern "C" fn(*mut T),
        model: Option<&Arc<Handle<ams_plugin_model>>>,
        make: impl FnOnce(*mut *mut T, *const ams_plugin_call) -> ams_plugin_status,
    ) -> Result<Self> {
        let mut out = ptr::null_mut();
        let made = call::with(|call| make(&raw mut out, call));
        made?;
        let raw = NonNull::new(out).ok_or_else(|| broken("it made nothing and called it success"))?;
        Ok(Self { raw, free, model: model.cloned() })
    }

    pub(super) fn get(&self) -> *mut T {
        self.raw.as_ptr()
    }

    /// Whether it was made of this model.
    fn is_of(&self, model: &Arc<Handle<ams_plugin_model>>) -> bool {
        self.model.as_ref().is_some_and(|own| Arc::ptr_eq(own, model))
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: made by the plugin, and nobody uses it any more.
        unsafe { (self.free)(self.raw.as_ptr()) };
    }
}

/// The handle of what was made of this model.
///
/// # Errors
/// It was made of another one.
pub(super) fn own<T>(model: &Arc<Handle<ams_plugin_model>>, handle: Option<&Handle<T>>, what: &str) -> Result<*mut T> {
    let handle = handle.filter(|handle| handle.is_of(model));
    handle.map(Handle::get).ok_or_else(|| Error::Internal(format!("{what} of another engine")))
}

/// A model in a plugin.
pub(super) struct PluginEngine {
    plugin: Plugin,
    model: Arc<Handle<ams_plugin_model>>,
    config: ModelConfig,
    info: EngineInfo,
}

impl fmt::Debug for PluginEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginEngine").field("plugin", &self.plugin).field("info", &self.info).finish_non_exhaustive()
    }
}

impl PluginEngine {
    pub(super) fn open(plugin: Plugin, source: &ModelSource, options: &str) -> Result<Self> {
        let table = plugin.table();
        let options = c_text(options);
        let config = c_text(serde_json::to_string(&source.config).expect("plain data"));
        let tokenizer = source.tokenizer.as_ref().map(|bytes| c_text(String::from_utf8_lossy(bytes)));
        let mut arrays = Arrays::default();
        source.tensors.iter().for_each(|(name, tensor)| arrays.raw(name, tensor));
        let (tensors, count) = arrays.parts();
        let model = Handle::make(slot(table.model_free), None, |out, call| {
            let (options, config, tokenizer) = (options.as_ptr(), config.as_ptr(), c_pointer(tokenizer.as_ref()));
            // SAFETY: everything handed over lives until the call is over.
            unsafe { slot(table.model_open)(table, options, config, tokenizer, tensors, count, out, call) }
        })?;
        // SAFETY: a model of this plugin.
        let info = call::with(|call| unsafe { slot(table.model_info)(model.get(), call) })?.json()?;
        Ok(Self { plugin, model: Arc::new(model), config: source.config.clone(), info })
    }

    /// The handle of an adapter, or NULL.
    fn adapter(&self, adapter: Option<&AttachedAdapter>) -> Result<*const ams_plugin_adapter> {
        let Some(adapter) = adapter else { return Ok(ptr::null()) };
        Ok(self.own(adapter.get::<Handle<ams_plugin_adapter>>(), "an adapter")?.cast_const())
    }

    /// The handle of what this engine made.
    fn own<T>(&self, handle: Option<&Handle<T>>, what: &str) -> Result<*mut T> {
        own(&self.model, handle, what)
    }

    fn window(&self, window: &[f32]) -> Result<[usize; 3]> {
        let size = self.config.image_encoder.image_size;
        if window.len() == size.iter().product::<usize>() {
            return Ok(size);
        }
        let [depth, height, width] = size;
        Err(Error::Internal(format!("a window of {} voxels, not {depth}x{height}x{width}", window.len())))
    }
}

/// Prompts as they cross; what they point to lives in the window's prompts.
pub(super) struct Prompts {
    points: Vec<f32>,
    labels: Vec<i8>,
}

impl Prompts {
    pub(super) fn new(prompts: &WindowPrompts) -> Self {
        Self {
            points: prompts.points.iter().flat_map(|(place, _)| *place).collect(),
            labels: prompts.points.iter().map(|(_, label)| *label).collect(),
        }
    }

    /// The structure for a model, while `self` and `prompts`, of which it was made, live.
    pub(super) fn raw(
        &self,
        prompts: &WindowPrompts,
        model: &Arc<Handle<ams_plugin_model>>,
    ) -> Result<ams_plugin_prompts> {
        let text = match &prompts.text {
            None => ptr::null_mut(),
            Some(text) => own(model, text.get::<Handle<ams_plugin_text>>(), "a text")?,
        };
        let volume =
            |data: &Option<Vec<f32>>| data.as_ref().map_or((ptr::null(), 0), |data| (data.as_ptr(), data.len()));
        let ((mask, mask_count), (prior, prior_count)) = (volume(&prompts.mask), volume(&prompts.prior));
        Ok(ams_plugin_prompts {
            points: if self.points.is_empty() { ptr::null() } else { self.points.as_ptr() },
            labels: if self.labels.is_empty() { ptr::null() } else { self.labels.as_ptr() },
            point_count: self.labels.len(),
            bounding_box: prompts.bounding_box.as_ref().map_or(ptr::null(), |corners| corners.as_ptr()),
            text: text.cast_const(),
            mask,
            mask_count,
            prior,
            prior_count,
        })
    }
}

/// A context as it crosses.
pub(super) struct Context {
    modality: Option<CString>,
    task: Option<CString>,
}

impl Context {
    pub(super) fn new(context: &AdapterContext) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(c_text);
        Self { modality: text(&context.modality), task: text(&context.task) }
    }

    /// The structure, while `self` lives.
    pub(super) fn raw(&self) -> ams_plugin_context {
        ams_plugin_context { modality: c_pointer(self.modality.as_ref()), task: c_pointer(self.task.as_ref()) }
    }
}

impl Engine for PluginEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn product_seconds(&self, sizes: [usize; 3], turns: usize) -> Result<Vec<f64>> {
        let mut seconds = vec![f64::NAN; turns];
        let (table, out) = (self.plugin.table(), seconds.as_mut_ptr());
        // SAFETY: everything handed over lives until the call is over, and there is room for `turns` numbers.
        call::with(|call| unsafe { slot(table.product_seconds)(self.model.get(), sizes.as_ptr(), turns, out, call) })?;
        Ok(seconds)
    }

    fn encode_image(&self, window: &[f32], adapter: Option<&AttachedAdapter>) -> Result<ImageEmbedding> {
        let table = self.plugin.table();
        let (size, adapter) = (self.window(window)?, self.adapter(adapter)?);
        let mut arrays = Arrays::default();
        arrays.floats("window", &size, window);
        let embedding = Handle::make(slot(table.embedding_free), Some(&self.model), |out, call| {
            // SAFETY: everything handed over lives until the call is over.
            unsafe { slot(table.encode_image)(self.model.get(), arrays.parts().0, adapter, out, call) }
        })?;
        Ok(ImageEmbedding::new(embedding))
    }

    fn encode_text(&self, name: &str) -> Result<TextEmbedding> {
        let table = self.plugin.table();
        let name = c_text(name);
        let text = Handle::make(slot(table.text_free), Some(&self.model), |out, call| {
            // SAFETY: everything handed over lives until the call is over.
            unsafe { slot(table.encode_text)(self.model.get(), name.as_ptr(), out, call) }
        })?;
        Ok(TextEmbedding::new(text))
    }

    fn check_text(&self, name: &str) -> Result<()> {
        let name = c_text(name);
        // SAFETY: everything handed over lives until the call is over.
        call::with(|call| unsafe { slot(self.plugin.table().check_text)(self.model.get(), name.as_ptr(), call) })?;
        Ok(())
    }

    fn decode(&self, image: &ImageEmbedding, prompts: &WindowPrompts, adapted: Option<Adapted>) -> Result<Decoded> {
        let embedding = self.own(image.get::<Handle<ams_plugin_embedding>>(), "an embedding")?;
        let adapter = self.adapter(adapted.map(|adapted| adapted.adapter))?;
        let context = Context::new(adapted.map_or(&AdapterContext::default(), |adapted| adapted.context));
        let (crossing, context_raw) = (Prompts::new(prompts), context.raw());
        let raw = crossing.raw(prompts, &self.model)?;
        let mut reply: Reply = call::with(|call| {
            let (prompts, context) = (&raw const raw, &raw const context_raw);
            // SAFETY: everything handed over lives until the call is over.
            unsafe { slot(self.plugin.table().decode)(self.model.get(), embedding, prompts, adapter, context, call) }
        })?;
        let voxels = self.config.image_encoder.image_size.iter().product();
        Ok(Decoded { logits: reply.take("logits", Some(voxels))?, iou: reply.take("iou", None)? })
    }

    fn attach(&self, adapter: &Adapter, merge: bool) -> Result<AttachedAdapter> {
        let table = self.plugin.table();
        let config = c_text(serde_json::to_string(adapter.config()).expect("plain data"));
        let tensors = adapter.tensors();
        let arrays = Arrays::named(&tensors);
        let (list, count) = arrays.parts();
        let adapter = Handle::make(slot(table.adapter_free), Some(&self.model), |out, call| {
            // SAFETY: everything handed over lives until the call is over.
            unsafe { slot(table.adapter_attach)(self.model.get(), config.as_ptr(), list, count, merge, out, call) }
        })?;
        Ok(AttachedAdapter::new(adapter))
    }

    fn trainer(&self, learns: Learns, config: TrainerConfig) -> Result<Box<dyn Trainer>> {
        let (adapter, weights) = match learns {
            Learns::Adapter(adapter) => (Some(adapter), Vec::new()),
            Learns::Weights(names) => (None, names),
        };
        let options = serde_json::to_string(&wire::TrainerOptions::new(config, weights)).expect("plain data");
        let trainer = PluginTrainer::new(self.plugin, &self.model, &self.config, adapter.as_deref(), &options)?;
        Ok(Box::new(trainer))
    }

    fn memory(&self) -> Option<MemoryUse> {
        // SAFETY: a model of this plugin.
        let reply = call::with(|call| unsafe { slot(self.plugin.table().model_memory)(self.model.get(), call) });
        reply.ok()?.json().ok()
    }

    fn release_memory(&self) {
        // SAFETY: a model of this plugin.
        let done = call::with(|call| unsafe { slot(self.plugin.table().model_release_memory)(self.model.get(), call) });
        if let Err(error) = done {
            log::warn!("{error}");
        }
    }
}
