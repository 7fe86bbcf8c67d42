//! From the name of a device to an engine: the built-in one, or that of a plugin.

use crate::error::Result;
use crate::plugin::host::Plugin;
#[cfg(feature = "flex")]
use crate::{BurnEngine, Engine, EngineOptions, Error};
use adaptmedseg_model::checkpoint::ModelFolder;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::{RawTensor, Tokenizer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A device a model can be opened on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// The name to open it by.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its memory, where known.
    pub memory_bytes: Option<u64>,
    /// Whether `auto` should prefer it to the processor.
    pub accelerator: bool,
}

/// The devices that models can be opened on: the processor, then those of the plugins that are found.
pub fn devices() -> Vec<DeviceInfo> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut devices = vec![DeviceInfo {
        name: "cpu".into(),
        description: format!("processor, {threads} threads (Burn Flex)"),
        memory_bytes: None,
        accelerator: false,
    }];
    devices.extend(Plugin::all(None).iter().flat_map(of_plugin));
    devices
}

fn of_plugin(plugin: &Plugin) -> Vec<DeviceInfo> {
    plugin.devices().unwrap_or_else(|error| {
        log::warn!("{} lists no devices: {error}", plugin.name());
        Vec::new()
    })
}

/// A model to be opened, wherever it comes from. Its tensors share what they came from.
#[derive(Clone, Debug)]
pub struct ModelSource {
    /// The architecture.
    pub config: ModelConfig,
    /// The text of `tokenizer.json`, where there is one.
    pub tokenizer: Option<Vec<u8>>,
    /// The weights by name.
    pub tensors: BTreeMap<String, RawTensor>,
}

impl ModelSource {
    /// What a folder holds. Its weights stay in the mapped file.
    pub fn of(folder: &ModelFolder) -> Self {
        let weight = |(name, ..): (&str, _, _)| Some((name.to_owned(), folder.tensor(name)?));
        Self {
            config: folder.config().clone(),
            tokenizer: folder.tokenizer().map(<[u8]>::to_vec),
            tensors: folder.tensors().iter().filter_map(weight).collect(),
        }
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// A text that is none.
    pub fn read_tokenizer(&self) -> Result<Option<Tokenizer>> {
        let text = &self.config.text_encoder;
        let read = |bytes: &Vec<u8>| Tokenizer::from_bytes(bytes, &text.template, text.context_length, text.vocab_size);
        Ok(self.tokenizer.as_ref().map(read).transpose()?)
    }
}

/// Opens a model on the device the options name.
///
/// `cpu` is the built-in engine. `NAME:...` is a device of the plugin NAME. `auto` is the first accelerator of a plugin that
/// works, else `cpu`; the log says which, and why not those before it.
///
/// # Errors
/// An unknown device; a plugin that is not there or cannot be loaded; what the engine fails with.
#[cfg(feature = "flex")]
pub fn open(model: &ModelSource, options: &EngineOptions) -> Result<Box<dyn Engine>> {
    match options.device.split_once(':') {
        Some((name, _)) => Plugin::find(name, options.plugin.as_deref())?.open(model, options),
        None if options.device == "auto" => best(model, options),
        None => Ok(Box::new(BurnEngine::of(model, options)?)),
    }
}

#[cfg(feature = "flex")]
fn best(model: &ModelSource, options: &EngineOptions) -> Result<Box<dyn Engine>> {
    for plugin in Plugin::all(options.plugin.as_deref()) {
        for device in of_plugin(&plugin).into_iter().filter(|device| device.accelerator) {
            let on_device = EngineOptions { device: device.name.clone(), ..options.clone() };
            match plugin.open(model, &on_device) {
                Ok(engine) => {
                    log::info!("device auto: {} ({})", device.name, device.description);
                    return Ok(engine);
                }
                Err(error) => log::warn!("device auto: {} does not work: {error}", device.name),
            }
        }
    }
    log::info!("device auto: cpu");
    Ok(Box::new(BurnEngine::of(model, options)?))
}

#[cfg(feature = "flex")]
impl Error {
    /// A device that no engine has.
    pub(crate) fn unknown_device(name: &str) -> Self {
        Self::UnknownDevice { name: name.into(), known: devices().into_iter().map(|device| device.name).collect() }
    }
}
