//! The trainer of engines on Burn: the model crate's learner, on the engine's own threads.

use crate::burn_engine::{Encoded, elements, image_tensor, model_prompts, window_tensor};
use crate::error::{Error, Result};
use crate::threads::Threads;
use crate::training::{Evaluation, Learns, StepReport, Trainer, TrainerConfig, TrainerState, TrainingSample};
use adaptmedseg_model::adapter::Adapter;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::dense_prompt::channels_without;
use adaptmedseg_model::train::{Learner, LearnerConfig, Sample};
use adaptmedseg_model::{Device, NamedTensors, SegVol};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Samples that a device is given at a time while others prepare more.
const PART: usize = 16;

/// A learner and the threads it computes on.
pub(crate) struct BurnTrainer {
    learner: Learner,
    maker: Maker,
    pool: Arc<Threads>,
}

impl BurnTrainer {
    /// Threads that call Burn, and those that prepare what learns.
    pub(crate) fn new(
        base: SegVol,
        model: ModelConfig,
        learns: Learns,
        config: TrainerConfig,
        device: &Device,
        [pool, workers]: [Arc<Threads>; 2],
    ) -> Result<Self> {
        let (adapter, base_learns) = match learns {
            Learns::Adapter(adapter) => (Some(pool.install(|| adapter.to_device(device))), Vec::new()),
            Learns::Weights(names) => (None, names),
        };
        let maker =
            Maker { model: model.clone(), device: device.clone(), threads: workers, cue_dropout: config.cue_dropout };
        let config = LearnerConfig {
            loss: config.loss,
            optimiser: config.optimiser,
            gradient_checkpointing: config.gradient_checkpointing,
            parallel_samples: config.parallel_samples,
            average: config.average,
            modality_loss_weight: config.modality_loss_weight,
            base: base_learns,
        };
        let learner = pool.install(|| Learner::new(base, model, adapter, config, device.clone()))?;
        Ok(Self { learner, maker, pool })
    }
}

/// Makes tensors of samples.
struct Maker {
    model: ModelConfig,
    device: Device,
    threads: Arc<Threads>,
    cue_dropout: Option<f64>,
}

impl Maker {
    /// Samples to learn from, the first of which is number `first` of the run. Each lacks the cues that its number says.
    fn samples(&self, samples: &[TrainingSample], first: u64) -> Result<Vec<Sample>> {
        let dropout = self.cue_dropout.unwrap_or(0.0);
        let one = |(index, sample): (usize, &TrainingSample)| {
            let without = |cue| chance(3 * (first + index as u64) + cue) < dropout;
            let [nearness, regions, proposal] = [0, 1, 2].map(without);
            let mut made = self.sample(sample, !regions && !proposal)?;
            if nearness || regions {
                let kept = channels_without(nearness, regions);
                let kept = Tensor::<1>::from_data(TensorData::from(kept), &self.device).unsqueeze::<3>();
                for prompts in &mut made.prompts {
                    prompts.dense = prompts.dense.take().map(|volume| volume * kept.clone());
                }
            }
            Ok(made)
        };
        self.threads.install(|| samples.par_iter().enumerate().map(one).collect())
    }

    /// `propose` as in [`DenseInput`](adaptmedseg_model::dense_prompt::DenseInput).
    fn sample(&self, sample: &TrainingSample, propose: bool) -> Result<Sample> {
        let Self { model, device, .. } = self;
        let embedding = match &sample.embedding {
            Some(embedding) => {
                let foreign = || Error::Internal("an embedding of another engine".into());
                Some(embedding.get::<Encoded>().ok_or_else(foreign)?.tokens.clone())
            }
            None => None,
        };
        let prompts = |prompts: &_| model_prompts(prompts, model, &sample.image, propose, device);
        Ok(Sample {
            image: image_tensor(&sample.image, model, device)?,
            target: window_tensor(&sample.target, model.image_encoder.image_size, device)?,
            prompts: sample.prompts.iter().map(prompts).collect::<Result<_>>()?,
            context: sample.context.clone(),
            embedding,
        })
    }
}

/// A number from 0 to 1 that seems drawn, the same for every run (SplitMix64; Steele et al. 2014).
fn chance(number: u64) -> f64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

impl Trainer for BurnTrainer {
    fn step(&mut self, samples: &[TrainingSample], learning_rate: f64) -> Result<StepReport> {
        let Self { learner, maker, pool } = self;
        let first = learner.steps() * samples.len() as u64;
        let (losses, gradient_norm) = if Arc::ptr_eq(&maker.threads, pool) {
            let samples = maker.samples(samples, first)?;
            pool.install(|| learner.step(&samples, learning_rate))?
        } else {
            // While one part is on the device, the next is made.
            std::thread::scope(|scope| {
                let (send, parts) = sync_channel(1);
                let maker = &*maker;
                scope.spawn(move || {
                    // Until an error ends the step.
                    let parts = samples.chunks(PART).zip((first..).step_by(PART));
                    parts.map(|(part, first)| maker.samples(part, first)).try_for_each(|part| send.send(part))
                });
                pool.install(|| learner.step_in_parts(parts, learning_rate))
            })?
        };
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
        let sample = self.maker.sample(sample, true)?;
        self.pool.install(|| {
            let (losses, logits) = self.learner.evaluate(&sample)?;
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
