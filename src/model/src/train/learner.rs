//! A network that learns: gradients stage by stage, so that memory holds one stage at a time.
//!
//! A step goes forward through encoder and context prior, cuts the graph, decodes each combination of prompts by itself
//! and adds up what it asks of the image, then goes back through prior and encoder. The numbers are those of one big
//! graph; the activations of six decoder passes never exist at once, and with checkpointing those of one encoder block.

mod gradients;

use super::loss::{LossKind, window_loss};
use super::optimiser::{Optimiser, OptimiserConfig, diverged, numbers};
use crate::adapter::{Adapter, AdapterContext};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::parameters::{self, NamedGradients, NamedTensors};
use crate::segvol::{Prompts, SegVol};
use burn::tensor::{Device, Tensor};
use gradients::Pending;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// How a network learns.
#[derive(Clone, Debug)]
pub struct LearnerConfig {
    /// What the gradients are taken of.
    pub loss: LossKind,
    /// AdamW and gradient clipping.
    pub optimiser: OptimiserConfig,
    /// Compute each block of the encoder again on the way back, instead of keeping its activations.
    pub gradient_checkpointing: bool,
    /// Compute the samples of a step together, for the memory of all of them at once: side by side on the processor, which is
    /// faster for a small network; on other devices as one batch, where nothing but the base learns and each sample has
    /// one combination of prompts.
    pub parallel_samples: bool,
    /// How much of the running average of the base's weights stays after a step, such as 0.998; none: no average. Where there
    /// is one, it is what is evaluated and saved: it lacks the noise of single steps (Polyak and Juditsky 1992).
    pub average: Option<f64>,
    /// Weight of the loss that asks a prior's modality tokens which modality they are; 0 for none.
    pub modality_loss_weight: f64,
    /// Beginnings of the names of those base weights that learn too: none for an adapter, `""` for all. The text encoder
    /// never learns (quirk 20 of the reference).
    pub base: Vec<String>,
}

/// One window, its target and the prompts it is to be found by. Tensors outside autodiff.
#[derive(Clone, Debug)]
pub struct Sample {
    /// `[1, 1, D, H, W]`, the configured window.
    pub image: Tensor<5>,
    /// `[1, 1, D, H, W]`, from 0 to 1.
    pub target: Tensor<5>,
    /// Combinations of prompts; the loss is the sum over them.
    pub prompts: Vec<Prompts>,
    /// For context priors.
    pub context: AdapterContext,
    /// The encoded window `[1, tokens, embed_dim]`, where the encoder does not learn.
    pub embedding: Option<Tensor<3>>,
}

/// The losses of one sample, or of several averaged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// The sum over the combinations of prompts, with the weighted modality loss.
    pub total: f64,
    /// Dice loss and cross-entropy of each combination.
    pub parts: Vec<(f64, f64)>,
    /// The modality loss before its weight.
    pub modality: f64,
}

/// A base, an adapter or none, and the optimiser's memory.
#[derive(Debug)]
pub struct Learner {
    config: LearnerConfig,
    model: ModelConfig,
    device: Device,
    base: SegVol,
    /// The running average of `base`.
    average: Option<SegVol>,
    adapter: Option<Adapter>,
    optimiser: Optimiser,
}

impl Learner {
    /// A base with an adapter that learns, or without one, where `config.base` says what learns.
    ///
    /// # Errors
    /// Nothing that learns; an adapter that does not fit.
    pub fn new(
        base: SegVol,
        model: ModelConfig,
        adapter: Option<Adapter>,
        config: LearnerConfig,
        device: Device,
    ) -> Result<Self> {
        if adapter.is_none() && config.base.is_empty() {
            return Err(Error::config("nothing would learn: neither an adapter nor weights of the base"));
        }
        if let Some(adapter) = &adapter {
            base.with_adapter(adapter)?;
        }
        let optimiser = Optimiser::new(config.optimiser.clone());
        let base = base.without_adapter();
        let average = config.average.map(|_| base.clone());
        Ok(Self { config, model, device, base, average, adapter, optimiser })
    }

    /// Every weight of the base by name: their average where there is one, else as they stand.
    pub fn weights(&self) -> NamedTensors {
        parameters::export(self.average.as_ref().unwrap_or(&self.base))
    }

    /// The adapter as it stands.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The network as it stands, its base averaged where it is, outside autodiff.
    ///
    /// # Errors
    /// None that [`new`](Self::new) has not had.
    pub fn network(&self) -> Result<SegVol> {
        let base = self.average.as_ref().unwrap_or(&self.base);
        match &self.adapter {
            Some(adapter) => base.with_adapter(adapter),
            None => Ok(base.clone()),
        }
    }

    /// Whether the image encoder learns, so that encoded windows cannot be kept from step to step.
    pub fn encoder_learns(&self) -> bool {
        self.adapter.as_ref().is_some_and(Adapter::changes_encoder) || self.learns("image_encoder.")
    }

    /// Whether a weight of the base learns, or one of those whose names begin so. The original's random Fourier features
    /// are no parameter of its.
    fn learns(&self, name: &str) -> bool {
        !["text_encoder.", "prompt_encoder.pe_layer."].iter().any(|fixed| name.starts_with(fixed))
            && self.config.base.iter().any(|prefix| name.starts_with(prefix.as_str()) || prefix.starts_with(name))
    }

    /// Losses of a sample and the gradients of everything that learns, by name and in the layout of a checkpoint.
    ///
    /// # Errors
    /// A loss that is not a number.
    pub fn gradients(&self, sample: &Sample) -> Result<(Losses, NamedTensors)> {
        let mut sums = NamedGradients::new();
        let losses = self.add_gradients(&self.tape()?, sample, &mut sums);
        let losses = self.read(vec![losses])?.remove(0);
        let mut shapes = parameters::shapes(&self.base);
        shapes.extend(self.adapter.iter().flat_map(|adapter| parameters::shapes(adapter.weights())));
        let public = |(name, tensor): (String, _)| {
            (self.adapter.as_ref().map_or_else(|| name.clone(), |adapter| adapter.public_name(&name)), tensor)
        };
        Ok((losses, parameters::named(shapes, sums).into_iter().map(public).collect()))
    }

    /// Waits for the losses of some samples.
    fn read(&self, samples: Vec<Pending>) -> Result<Vec<Losses>> {
        let sizes: Vec<(usize, bool)> =
            samples.iter().map(|losses| (losses.parts.len(), losses.modality.is_some())).collect();
        let scalars = samples.into_iter().flat_map(|losses| losses.parts.into_iter().flatten().chain(losses.modality));
        let values = numbers(scalars.collect());
        if values.iter().any(|value| !value.is_finite()) {
            return Err(diverged("the loss"));
        }
        let mut values = values.into_iter();
        let mut next = || values.next().expect("a number for each scalar");
        let read = |(parts, modality): (usize, bool)| {
            let mut losses = Losses::default();
            for _ in 0..parts {
                let (dice, bce) = (next(), next());
                losses.parts.push((dice.into(), bce.into()));
                losses.total += f64::from(dice + bce);
            }
            if modality {
                losses.modality = next().into();
                losses.total += self.config.modality_loss_weight * losses.modality;
            }
            losses
        };
        Ok(sizes.into_iter().map(read).collect())
    }

    /// The row a sample's modality tokens should be recognised as; none where the modality is unknown.
    fn modality_target(&self, context: &AdapterContext) -> Option<usize> {
        let prior = self.adapter.as_ref()?.config().prior.as_ref()?;
        let row = prior.modality_row(context.modality.as_deref());
        (row < prior.modalities.len()).then_some(row)
    }

    /// One optimiser step on the mean loss of `samples`; the losses, averaged, and the gradient's norm before clipping.
    ///
    /// # Errors
    /// A loss that is not a number; then nothing has changed.
    pub fn step(&mut self, samples: &[Sample], learning_rate: f64) -> Result<(Losses, f64)> {
        self.step_in_parts([Ok(samples.to_vec())], learning_rate)
    }

    /// [`step`](Self::step) with samples that come in parts, of which the device need not hold more than one at a time.
    ///
    /// # Errors
    /// As [`step`](Self::step), and the error of a part; then nothing has changed either.
    pub fn step_in_parts<E: From<Error>>(
        &mut self,
        parts: impl IntoIterator<Item = Result<Vec<Sample>, E>>,
        learning_rate: f64,
    ) -> Result<(Losses, f64), E> {
        let mut sums = NamedGradients::new();
        let mut all = Vec::new();
        for samples in parts {
            all.extend(self.add_part(&samples?, &mut sums)?);
        }
        Ok(self.follow(sums, all, learning_rate)?)
    }

    /// Adds the gradients of some samples.
    fn add_part(&self, samples: &[Sample], sums: &mut NamedGradients) -> Result<Vec<Pending>> {
        let mut all = Vec::with_capacity(samples.len());
        if self.as_batch(samples) {
            all.push(self.add_batch_gradients(&self.tape()?, samples, sums));
        } else if self.config.parallel_samples {
            // Each with a graph of its own: graphs that share a leaf wait for one another.
            let one = |sample: &Sample| {
                let mut sums = NamedGradients::new();
                let losses = self.add_gradients(&self.tape()?, sample, &mut sums);
                Ok((losses, sums))
            };
            // Added up in the order of the samples, whoever was done first.
            for (losses, gradients) in samples.par_iter().map(one).collect::<Result<Vec<_>>>()? {
                all.push(losses);
                for (name, gradient) in gradients {
                    let sum = match sums.remove(&name) {
                        Some(sum) => sum + gradient,
                        None => gradient,
                    };
                    sums.insert(name, sum);
                }
            }
        } else {
            let tape = self.tape()?;
            for sample in samples {
                all.push(self.add_gradients(&tape, sample, sums));
            }
        }
        Ok(all)
    }

    /// Moves the weights after the mean of gradients that were added up.
    fn follow(&mut self, sums: NamedGradients, all: Vec<Pending>, learning_rate: f64) -> Result<(Losses, f64)> {
        let count: usize = all.iter().map(|pending| pending.samples).sum();
        let counts: Vec<f64> = all.iter().map(|pending| pending.samples as f64).collect();
        let all = self.read(all)?;
        let share = 1.0 / count.max(1) as f64;
        let mut weights = BTreeMap::new();
        // Looks at the weights, and replaces none.
        let mut gather = |name: &str, flat: Tensor<1>| {
            if sums.contains_key(name) {
                weights.insert(name.to_owned(), flat);
            }
            None
        };
        if let Some(adapter) = &self.adapter {
            parameters::update(adapter.weights().clone(), &mut gather);
        }
        if !self.config.base.is_empty() {
            parameters::update(self.base.clone(), &mut gather);
        }
        let (mut changed, norm) = self.optimiser.step(weights, sums, share, learning_rate)?;
        let mut change = |name: &str, _| changed.remove(name);
        if let Some(adapter) = &self.adapter {
            self.adapter = Some(adapter.with_weights(parameters::update(adapter.weights().clone(), &mut change)));
        }
        if !self.config.base.is_empty() {
            let mut fresh = NamedGradients::new();
            self.base = parameters::update(self.base.clone(), |name, flat| {
                let changed = change(name, flat)?;
                if self.config.average.is_some() {
                    fresh.insert(name.to_owned(), changed.clone());
                }
                Some(changed)
            });
            if let (Some(average), Some(most)) = (&self.average, self.config.average) {
                // Less at first, when the weights are still far from where they will be.
                let steps = self.optimiser.steps() as f64;
                let kept = most.min((1.0 + steps) / (10.0 + steps));
                self.average = Some(parameters::update(average.clone(), |name, flat| {
                    Some(flat * kept + fresh.remove(name)? * (1.0 - kept))
                }));
            }
        }
        let mean = |of: &dyn Fn(&Losses) -> f64| {
            all.iter().zip(&counts).map(|(losses, count)| count * of(losses)).sum::<f64>() * share
        };
        let parts = all.first().map_or(0, |losses| losses.parts.len());
        let part = |index: usize| {
            let of = |pick: fn(&(f64, f64)) -> f64| mean(&|losses| losses.parts.get(index).map_or(0.0, pick));
            (of(|part| part.0), of(|part| part.1))
        };
        let losses = Losses {
            total: mean(&|losses| losses.total),
            parts: (0..parts).map(part).collect(),
            modality: mean(&|losses| losses.modality),
        };
        Ok((losses, norm))
    }

    /// The losses of a sample and the logits `[1, 1, D, H, W]` of each combination of prompts. Nothing changes.
    ///
    /// # Errors
    /// A loss that is not a number.
    pub fn evaluate(&self, sample: &Sample) -> Result<(Losses, Vec<Tensor<5>>)> {
        let network = self.network()?;
        let embedding = match &sample.embedding {
            Some(embedding) => embedding.clone(),
            None => network.image_encoder().forward(sample.image.clone()),
        };
        let fused = network.fuse(embedding, &sample.context);
        let mut losses = Pending::default();
        let mut all = Vec::with_capacity(sample.prompts.len());
        for prompts in &sample.prompts {
            let masks = network.decode(fused.image.clone(), self.model.image_encoder.grid(), prompts, &fused.effect);
            let logits = SegVol::upsample(masks.low_res, self.model.image_encoder.image_size);
            let loss = window_loss(self.config.loss, logits.clone(), sample.target.clone());
            losses.parts.push([loss.dice, loss.bce]);
            all.push(logits);
        }
        Ok((self.read(vec![losses])?.remove(0), all))
    }

    /// Everything that changes, by name: weights, the optimiser's moments and its count of steps.
    pub fn state(&self) -> NamedTensors {
        let mut state = self.optimiser.state();
        let mut add = |weights: NamedTensors| {
            state.extend(weights.into_iter().map(|(name, tensor)| (format!("{PARAMETER}{name}"), tensor)));
        };
        if let Some(adapter) = &self.adapter {
            add(parameters::export(adapter.weights()));
        }
        if !self.config.base.is_empty() {
            let learning = |network: &SegVol| {
                let mut weights = parameters::export(network);
                weights.retain(|name, _| self.learns(name));
                weights
            };
            add(learning(&self.base));
            let average = self.average.iter().flat_map(learning);
            state.extend(average.map(|(name, tensor)| (format!("{AVERAGE}{name}"), tensor)));
        }
        state
    }

    /// Goes back to a [`state`](Self::state) of a learner of the same weights.
    ///
    /// # Errors
    /// A weight that is absent or has another size; then nothing has changed.
    pub fn restore(&mut self, state: &NamedTensors) -> Result<()> {
        let kept = |kind: &str, name: &str| {
            let (shape, data) = state.get(&format!("{kind}{name}"))?;
            Some(crate::RawTensor::from_f32(shape.clone(), data))
        };
        let raw = |name: &str| kept(PARAMETER, name);
        let adapter = match &self.adapter {
            Some(adapter) => {
                Some(adapter.with_weights(parameters::load(adapter.weights().clone(), &self.device, raw)?))
            }
            None => None,
        };
        let fixed = parameters::export(&self.base);
        let load = |kind: &str| {
            let either = |name: &str| {
                kept(kind, name).or_else(|| {
                    let (shape, data) = fixed.get(name).filter(|_| !self.learns(name))?;
                    Some(crate::RawTensor::from_f32(shape.clone(), data))
                })
            };
            parameters::load(self.base.clone(), &self.device, either)
        };
        let base = if self.config.base.is_empty() { self.base.clone() } else { load(PARAMETER)? };
        let average = self.average.as_ref().map(|_| load(AVERAGE)).transpose()?;
        let optimiser = Optimiser::restored(self.config.optimiser.clone(), state, &self.device)?;
        (self.adapter, self.base, self.average, self.optimiser) = (adapter, base, average, optimiser);
        Ok(())
    }

    /// Optimiser steps taken.
    pub fn steps(&self) -> u64 {
        self.optimiser.steps()
    }
}

/// What a state's weights are called by, before their names.
pub(super) const PARAMETER: &str = "parameter.";
/// And their averages.
const AVERAGE: &str = "average.";

#[cfg(test)]
mod tests;
