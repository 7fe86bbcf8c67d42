//! The trainer of the built-in engine: the model crate's learner, on the engine's own threads.

use crate::burn_engine::{elements, model_prompts, window_tensor};
use crate::error::{Error, Result};
use crate::threads::Threads;
use crate::training::{Evaluation, StepReport, Trainer, TrainerConfig, TrainerState, TrainingSample};
use adaptmedseg_model::adapter::Adapter;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::train::{Learner, LearnerConfig, Sample};
use adaptmedseg_model::{Device, SegVol};
use burn::tensor::Tensor;
use std::sync::Arc;

/// A learner and the threads it computes with.
pub(crate) struct BurnTrainer {
    learner: Learner,
    size: [usize; 3],
    device: Device,
    pool: Arc<Threads>,
}

impl BurnTrainer {
    pub(crate) fn new(
        base: SegVol,
        model: ModelConfig,
        adapter: Adapter,
        config: TrainerConfig,
        device: &Device,
        pool: Arc<Threads>,
    ) -> Result<Self> {
        let config = LearnerConfig {
            loss: config.loss,
            optimiser: config.optimiser,
            gradient_checkpointing: config.gradient_checkpointing,
            modality_loss_weight: config.modality_loss_weight,
            base: Vec::new(),
        };
        let size = model.image_encoder.image_size;
        let learner = Learner::new(base, model, Some(adapter), config, device.clone())?;
        Ok(Self { learner, size, device: device.clone(), pool })
    }

    fn sample(&self, sample: &TrainingSample) -> Result<Sample> {
        let embedding = match &sample.embedding {
            Some(embedding) => {
                let foreign = || Error::Internal("an embedding of another engine".into());
                Some(embedding.get::<Tensor<3>>().ok_or_else(foreign)?.clone())
            }
            None => None,
        };
        Ok(Sample {
            image: window_tensor(&sample.image, self.size, &self.device)?,
            target: window_tensor(&sample.target, self.size, &self.device)?,
            prompts: sample.prompts.iter().map(model_prompts).collect::<Result<_>>()?,
            context: sample.context.clone(),
            embedding,
        })
    }
}

impl Trainer for BurnTrainer {
    fn step(&mut self, samples: &[TrainingSample], learning_rate: f64) -> Result<StepReport> {
        let samples = samples.iter().map(|sample| self.sample(sample)).collect::<Result<Vec<_>>>()?;
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
        let sample = self.sample(sample)?;
        let (losses, logits) = self.pool.install(|| self.learner.evaluate(&sample))?;
        Ok(Evaluation { loss: losses.total, logits: logits.into_iter().map(elements).collect::<Result<_>>()? })
    }

    fn encoder_learns(&self) -> bool {
        self.learner.encoder_learns()
    }

    fn adapter(&self) -> Result<Adapter> {
        let absent = || Error::Internal("a trainer without an adapter".into());
        self.learner.adapter().cloned().ok_or_else(absent)
    }

    fn state(&self) -> Result<TrainerState> {
        Ok(TrainerState { steps: self.learner.steps(), tensors: self.learner.state() })
    }

    fn restore(&mut self, state: &TrainerState) -> Result<()> {
        Ok(self.learner.restore(&state.tensors)?)
    }
}
