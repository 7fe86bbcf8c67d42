//! The trainer of engines on Burn: the model crate's learner, on the engine's own threads.

use crate::burn_engine::{Encoded, elements, image_tensor, model_prompts, window_tensor};
use crate::error::{Error, Result};
use crate::threads::Threads;
use crate::training::{Evaluation, Learns, StepReport, Trainer, TrainerConfig, TrainerState, TrainingSample};
use adaptmedseg_model::adapter::Adapter;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::train::{Learner, LearnerConfig, Sample};
use adaptmedseg_model::{Device, NamedTensors, SegVol};
use rayon::prelude::*;
use std::sync::Arc;

/// A learner and the threads it computes with.
pub(crate) struct BurnTrainer {
    learner: Learner,
    model: ModelConfig,
    device: Device,
    pool: Arc<Threads>,
}

impl BurnTrainer {
    pub(crate) fn new(
        base: SegVol,
        model: ModelConfig,
        learns: Learns,
        config: TrainerConfig,
        device: &Device,
        pool: Arc<Threads>,
    ) -> Result<Self> {
        let (adapter, base_learns) = match learns {
            Learns::Adapter(adapter) => (Some(pool.install(|| adapter.to_device(device))), Vec::new()),
            Learns::Weights(names) => (None, names),
        };
        let config = LearnerConfig {
            loss: config.loss,
            optimiser: config.optimiser,
            gradient_checkpointing: config.gradient_checkpointing,
            parallel_samples: config.parallel_samples,
            average: config.average,
            modality_loss_weight: config.modality_loss_weight,
            base: base_learns,
        };
        let learner = pool.install(|| Learner::new(base, model.clone(), adapter, config, device.clone()))?;
        Ok(Self { learner, model, device: device.clone(), pool })
    }

    fn sample(&self, sample: &TrainingSample) -> Result<Sample> {
        let embedding = match &sample.embedding {
            Some(embedding) => {
                let foreign = || Error::Internal("an embedding of another engine".into());
                Some(embedding.get::<Encoded>().ok_or_else(foreign)?.tokens.clone())
            }
            None => None,
        };
        let size = self.model.image_encoder.image_size;
        let prompts = |prompts: &_| model_prompts(prompts, &self.model, &sample.image, &self.device);
        Ok(Sample {
            image: image_tensor(&sample.image, &self.model, &self.device)?,
            target: window_tensor(&sample.target, size, &self.device)?,
            prompts: sample.prompts.iter().map(prompts).collect::<Result<_>>()?,
            context: sample.context.clone(),
            embedding,
        })
    }
}

impl Trainer for BurnTrainer {
    fn step(&mut self, samples: &[TrainingSample], learning_rate: f64) -> Result<StepReport> {
        let samples =
            self.pool.install(|| samples.par_iter().map(|sample| self.sample(sample)).collect::<Result<Vec<_>>>())?;
        let Self { learner, pool, .. } = self;
        let (losses, gradient_norm) = pool.install(|| learner.step(&samples, learning_rate))?;
        let count = losses.parts.len().max(1) as f64;
        Ok(StepReport {
            loss: losses.total,
            dice: losses.parts.iter().map(|part| part.0).sum::<f64>() / count,
            bce: losses.parts.iter().map(|part| part.1).sum::<f64>() / count,
            modality: losses.modality,
            gradient_norm,
        })
    }

    fn evaluate(&self, sample: &TrainingSample) -> Result<Evaluation> {
        self.pool.install(|| {
            let (losses, logits) = self.learner.evaluate(&self.sample(sample)?)?;
            Ok(Evaluation { loss: losses.total, logits: logits.into_iter().map(elements).collect::<Result<_>>()? })
        })
    }

    fn encoder_learns(&self) -> bool {
        self.learner.encoder_learns()
    }

    fn weights(&self) -> Result<NamedTensors> {
        Ok(self.pool.install(|| self.learner.weights()))
    }

    fn adapter(&self) -> Result<Adapter> {
        let absent = || Error::Internal("a trainer without an adapter".into());
        let adapter = self.learner.adapter().ok_or_else(absent)?;
        // Where files are made of it.
        Ok(self.pool.install(|| adapter.to_device(&Device::default())))
    }

    fn state(&self) -> Result<TrainerState> {
        let tensors = self.pool.install(|| self.learner.state());
        Ok(TrainerState { steps: self.learner.steps(), tensors })
    }

    fn restore(&mut self, state: &TrainerState) -> Result<()> {
        let Self { learner, pool, .. } = self;
        Ok(pool.install(|| learner.restore(&state.tensors))?)
    }
}
