//! A trainer whose model runs in a plugin.

use super::abi::*;
use super::call;
use super::host::{Plugin, slot};
use super::remote::{Context, Handle, Prompts, own};
use super::wire::{Arrays, c_text};
use crate::error::{Error, Result};
use crate::training::{Evaluation, StepReport, Trainer, TrainerState, TrainingSample};
use adaptmedseg_model::adapter::Adapter;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::{Device, NamedTensors};
use std::ptr;
use std::sync::Arc;

/// A trainer in a plugin. `Trainer` is used by one thread at a time, as the contract wants it.
pub(super) struct PluginTrainer {
    plugin: Plugin,
    trainer: Handle<ams_plugin_trainer>,
    model: Arc<Handle<ams_plugin_model>>,
    config: ModelConfig,
}

impl PluginTrainer {
    pub(super) fn new(
        plugin: Plugin,
        model: &Arc<Handle<ams_plugin_model>>,
        config: &ModelConfig,
        adapter: Option<&Adapter>,
        options: &str,
    ) -> Result<Self> {
        let table = plugin.table();
        let options = c_text(options);
        let description = adapter.map(|adapter| c_text(serde_json::to_string(adapter.config()).expect("plain data")));
        let tensors = adapter.map(Adapter::tensors).unwrap_or_default();
        let arrays = Arrays::named(&tensors);
        let (list, count) = arrays.parts();
        let description = super::wire::c_pointer(description.as_ref());
        let trainer = Handle::make(slot(table.trainer_free), Some(model), |out, call| {
            // SAFETY: everything handed over lives until the call is over.
            unsafe { slot(table.trainer_new)(model.get(), options.as_ptr(), description, list, count, out, call) }
        })?;
        Ok(Self { plugin, trainer, model: model.clone(), config: config.clone() })
    }

    /// Hands samples over as they cross.
    fn cross<R>(&self, samples: &[TrainingSample], body: impl FnOnce(&[ams_plugin_sample]) -> Result<R>) -> Result<R> {
        let size = self.config.image_encoder.image_size;
        let mut arrays = Arrays::default();
        for sample in samples {
            for (what, volume) in [("image", &sample.image), ("target", &sample.target)] {
                if volume.len() != size.iter().product::<usize>() {
                    return Err(Error::Internal(format!("{what}: {} voxels, not {size:?}", volume.len())));
                }
                arrays.floats(what, &size, volume);
            }
        }
        let crossing: Vec<Vec<Prompts>> =
            samples.iter().map(|sample| sample.prompts.iter().map(Prompts::new).collect()).collect();
        let raw: Vec<Vec<ams_plugin_prompts>> = crossing
            .iter()
            .zip(samples)
            .map(|(crossing, sample)| {
                crossing
                    .iter()
                    .zip(&sample.prompts)
                    .map(|(crossing, prompts)| crossing.raw(prompts, &self.model))
                    .collect()
            })
            .collect::<Result<_>>()?;
        let contexts: Vec<Context> = samples.iter().map(|sample| Context::new(&sample.context)).collect();
        let list = samples.iter().enumerate().map(|(index, sample)| {
            let embedding = match &sample.embedding {
                None => ptr::null_mut(),
                Some(embedding) => own(&self.model, embedding.get::<Handle<ams_plugin_embedding>>(), "an embedding")?,
            };
            Ok(ams_plugin_sample {
                image: arrays.list()[2 * index],
                target: arrays.list()[2 * index + 1],
                prompts: raw[index].as_ptr(),
                prompt_count: raw[index].len(),
                context: contexts[index].raw(),
                embedding,
            })
        });
        body(&list.collect::<Result<Vec<_>>>()?)
    }
}

impl Trainer for PluginTrainer {
    fn step(&mut self, samples: &[TrainingSample], learning_rate: f64) -> Result<StepReport> {
        let (table, trainer) = (self.plugin.table(), self.trainer.get());
        let mut step = ams_plugin_step::default();
        self.cross(samples, |samples| {
            call::with(|call| {
                let (list, count) = (samples.as_ptr(), samples.len());
                // SAFETY: everything handed over lives until the call is over.
                unsafe { slot(table.trainer_step)(trainer, list, count, learning_rate, &raw mut step, call) }
            })
        })?;
        let ams_plugin_step { loss, dice, bce, modality, gradient_norm } = step;
        Ok(StepReport { loss, dice, bce, modality, gradient_norm })
    }

    fn evaluate(&self, sample: &TrainingSample) -> Result<Evaluation> {
        let (table, trainer) = (self.plugin.table(), self.trainer.get());
        let mut loss = f64::NAN;
        let reply = self.cross(std::slice::from_ref(sample), |samples| {
            // SAFETY: everything handed over lives until the call is over.
            call::with(|call| unsafe { slot(table.trainer_evaluate)(trainer, samples.as_ptr(), &raw mut loss, call) })
        })?;
        let voxels: usize = self.config.image_encoder.image_size.iter().product();
        let fits = |elements: &Vec<f32>| elements.len() == voxels;
        let logits: Vec<Vec<f32>> = reply.tensors.into_iter().map(|(_, _, elements)| elements).collect();
        if logits.len() != sample.prompts.len() || !logits.iter().all(fits) {
            return Err(call::broken("it evaluated other prompts than it was given"));
        }
        Ok(Evaluation { loss, logits })
    }

    fn encoder_learns(&self) -> bool {
        // SAFETY: a trainer of this plugin.
        unsafe { slot(self.plugin.table().trainer_encoder_learns)(self.trainer.get()) }
    }

    fn weights(&self) -> Result<NamedTensors> {
        // SAFETY: a trainer of this plugin.
        let reply = call::with(|call| unsafe { slot(self.plugin.table().trainer_weights)(self.trainer.get(), call) })?;
        Ok(reply.named())
    }

    fn adapter(&self) -> Result<Adapter> {
        let mut reply =
            // SAFETY: a trainer of this plugin.
            call::with(|call| unsafe { slot(self.plugin.table().trainer_adapter)(self.trainer.get(), call) })?;
        let config = reply.json()?;
        Ok(Adapter::from_tensors(config, &self.config, &reply.named(), &Device::default())?)
    }

    fn state(&self) -> Result<TrainerState> {
        let mut steps = 0;
        let reply = call::with(|call| {
            // SAFETY: a trainer of this plugin.
            unsafe { slot(self.plugin.table().trainer_state)(self.trainer.get(), &raw mut steps, call) }
        })?;
        Ok(TrainerState { steps, tensors: reply.named() })
    }

    fn restore(&mut self, state: &TrainerState) -> Result<()> {
        let arrays = Arrays::named(&state.tensors);
        let (list, count) = arrays.parts();
        call::with(|call| {
            // SAFETY: a trainer of this plugin, and arrays that live until the call is over.
            unsafe { slot(self.plugin.table().trainer_restore)(self.trainer.get(), state.steps, list, count, call) }
        })?;
        Ok(())
    }
}
