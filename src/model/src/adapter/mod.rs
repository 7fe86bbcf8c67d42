//! Adapters: what is learned beside a base model, whose own weights never change.
//!
//! An adapter holds low-rank corrections of linear layers (LoRA), a context prior, or both. Attaching it makes a network
//! that shares every weight with the base; detaching it is dropping that network.

mod files;
mod lora;
mod merge;
mod peft;

pub use files::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, read_tensors, write_tensors};
pub use lora::{LoraConfig, LoraTarget};
pub use peft::{PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::linear::Lora;
use crate::parameters::{self, NamedTensors, RawTensor};
use crate::prior::{ContextPrior, PriorConfig};
use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Mutex;

/// What an adapter is: `adapter.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// SHA-256 of the base's `model.safetensors`, in lower-case hexadecimal; empty: any base of the right shapes.
    #[serde(default)]
    pub base: String,
    /// Name of the base, for messages.
    #[serde(default)]
    pub base_name: String,
    /// Licence of the adapter's weights.
    #[serde(default)]
    pub license: String,
    /// Modalities it was trained on, for people; a prior has its own list.
    #[serde(default)]
    pub modalities: Vec<String>,
    /// Tasks it was trained on, for people; a prior has its own list.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// The low-rank corrections, if any.
    #[serde(default)]
    pub lora: Option<LoraConfig>,
    /// The context prior, if any.
    #[serde(default)]
    pub prior: Option<PriorConfig>,
}

/// What the caller says about an image and what is looked for in it: context priors choose their tokens by it. Neither is
/// ever guessed from the text prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AdapterContext {
    /// The modality, such as `MR`; none: unknown.
    pub modality: Option<String>,
    /// The task, such as `prostate`; none: unknown.
    pub task: Option<String>,
}

/// An adapter's weights with their description.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: AdapterConfig,
    /// Names of the corrected layers, in the order of `weights.lora`.
    layers: Vec<String>,
    weights: Weights,
}

/// What learns.
#[derive(Module, Debug)]
pub(crate) struct Weights {
    pub(crate) lora: Vec<Lora>,
    pub(crate) prior: Option<ContextPrior>,
}

/// Burn draws random numbers from one generator per process; who seeds it must not be interrupted.
static DRAWING: Mutex<()> = Mutex::new(());

impl Adapter {
    /// An untrained adapter for models of this architecture: attached, it changes nothing, bit for bit.
    ///
    /// The same seed gives the same adapter.
    ///
    /// # Errors
    /// A configuration without any part, or one that does not fit the architecture.
    pub fn new(config: AdapterConfig, model: &ModelConfig, seed: u64, device: &Device) -> Result<Self> {
        let adapter = Self::shaped(config.clone(), model, device)?;
        let _guard = DRAWING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let draw = || -> Result<NamedTensors> {
            device.seed(seed);
            // Burn draws a weight when it is first looked at: look at all of them, in order.
            Ok(parameters::export(&Self::shaped(config.clone(), model, device)?.weights))
        };
        // Who draws elsewhere in the process does not ask for the lock: what is drawn twice alike was not disturbed.
        let mut drawn = draw()?;
        loop {
            let again = draw()?;
            if again == drawn {
                break;
            }
            drawn = again;
        }
        let raw = |name: &str| drawn.get(name).map(|(shape, data)| RawTensor::from_f32(shape.clone(), data));
        Ok(adapter.with_weights(parameters::load(adapter.weights.clone(), device, raw)?))
    }

    /// The adapter's modules, with weights that are drawn when first used.
    fn shaped(config: AdapterConfig, model: &ModelConfig, device: &Device) -> Result<Self> {
        if config.lora.is_none() && config.prior.is_none() {
            return Err(Error::config("an adapter needs a `lora` or a `prior`"));
        }
        let targets = match &config.lora {
            Some(lora) => lora.targets_in(model)?,
            None => Vec::new(),
        };
        let lora = config.lora.as_ref();
        let corrections = targets.iter().map(|target| lora.expect("targets come of it").init(target, device)).collect();
        if let Some(prior) = &config.prior {
            prior.validate()?;
        }
        let prior = config.prior.as_ref().map(|prior| {
            let channels = model.mask_channels();
            prior.init(model.image_encoder.embed_dim, model.mask_decoder.num_mask_tokens, channels, device)
        });
        let layers = targets.into_iter().map(|target| target.layer).collect();
        Ok(Self { config, layers, weights: Weights { lora: corrections, prior } })
    }

    /// What the adapter is.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Names a description.
    pub fn config_mut(&mut self) -> &mut AdapterConfig {
        &mut self.config
    }

    /// The corrected layers by their names in a checkpoint, each with its correction.
    pub fn lora(&self) -> impl ExactSizeIterator<Item = (&str, &Lora)> {
        self.layers.iter().map(String::as_str).zip(&self.weights.lora)
    }

    /// The context prior.
    pub fn prior(&self) -> Option<&ContextPrior> {
        self.weights.prior.as_ref()
    }

    /// This adapter with further modalities and tasks in the pool of its context prior, which start as copies of the
    /// unknown one. What it has learned stays, and so does what it computes for those it knew. Without a context prior
    /// only the description changes.
    ///
    /// # Errors
    /// Names that are empty.
    pub fn extended(mut self, modalities: &[String], tasks: &[String]) -> Result<Self> {
        let add = |names: &mut Vec<String>, more: &[String]| {
            for name in more {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        };
        add(&mut self.config.modalities, modalities);
        add(&mut self.config.tasks, tasks);
        if let (Some(old), Some(prior)) = (self.config.prior.clone(), self.weights.prior.take()) {
            let mut new = old.clone();
            new.modalities.extend(modalities.iter().filter(|name| !old.knows_modality(name)).cloned());
            new.tasks.extend(tasks.iter().filter(|name| !old.knows_task(name)).cloned());
            self.weights.prior = Some(prior.extended(&old, &new)?);
            self.config.prior = Some(new);
        }
        Ok(self)
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        self.weights.num_params() as u64
    }

    /// Whether it changes the image encoder, so that encoded windows depend on it.
    pub fn changes_encoder(&self) -> bool {
        self.layers.iter().any(|layer| layer.starts_with("image_encoder."))
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The same adapter with other weights.
    pub(crate) fn with_weights(&self, weights: Weights) -> Self {
        Self { weights, ..self.clone() }
    }

    /// The same adapter on a device.
    #[must_use]
    pub fn to_device(&self, device: &Device) -> Self {
        self.with_weights(self.weights.clone().to_device(device))
    }

    /// Every weight by its name in `adapter.safetensors`.
    pub fn tensors(&self) -> NamedTensors {
        let named = |(name, tensor): (String, _)| (self.public_name(&name), tensor);
        parameters::export(&self.weights).into_iter().map(named).collect()
    }

    /// `lora.3.a` is the third layer's business: `LAYER.lora_A.weight` says which, in PEFT's words.
    pub(crate) fn public_name(&self, name: &str) -> String {
        let Some(rest) = name.strip_prefix("lora.") else { return name.to_owned() };
        let (index, part) = rest.split_once('.').expect("a list's index and a field");
        let layer = &self.layers[index.parse::<usize>().expect("an index")];
        format!("{layer}.lora_{}.weight", part.to_uppercase())
    }

    /// Names and sizes of [`tensors`](Self::tensors), without looking at the weights.
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shapes = parameters::shapes(&self.weights);
        shapes.into_iter().map(|(name, shape)| (self.public_name(&name), shape)).collect()
    }

    /// What a folder holds, without opening its weights.
    ///
    /// # Errors
    /// A folder that is no adapter; a malformed `adapter.json`.
    pub fn read_config(folder: &Path) -> Result<AdapterConfig> {
        files::read_config(folder)
    }

    /// An adapter with these weights, named as [`tensors`](Self::tensors) names them.
    ///
    /// # Errors
    /// As [`new`](Self::new); a weight that is absent or of another shape.
    pub fn from_tensors(
        config: AdapterConfig,
        model: &ModelConfig,
        tensors: &NamedTensors,
        device: &Device,
    ) -> Result<Self> {
        let adapter = Self::shaped(config, model, device)?;
        let raw = |name: &str| {
            let (shape, elements) = tensors.get(&adapter.public_name(name))?;
            Some(RawTensor::from_f32(shape.clone(), elements))
        };
        Ok(adapter.with_weights(parameters::load(adapter.weights.clone(), device, raw)?))
    }
}

#[cfg(test)]
mod tests;
