//! AdamW over weights known by name, with clipping of the gradient's norm.

use crate::error::{Error, Result};
use crate::parameters::{NamedGradients, NamedTensors};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How weights follow their gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimiserConfig {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).
    pub weight_decay: f32,
    /// Longest gradient, as the norm over everything that learns; none: as it comes.
    pub clip_norm: Option<f64>,
}

impl Default for OptimiserConfig {
    /// PyTorch's AdamW; a gradient of norm 0.5 at most, as the SegVol adaptation trains.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(0.5) }
    }
}

/// The optimiser and what it remembers of each weight.
pub(super) struct Optimiser {
    config: OptimiserConfig,
    adamw: AdamW,
    memory: BTreeMap<String, AdamWState<1>>,
    steps: u64,
}

impl fmt::Debug for Optimiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Optimiser").field("config", &self.config).field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// What the names of a state begin with.
const MOMENT_1: &str = "moment1.";
const MOMENT_2: &str = "moment2.";
const UPDATES: &str = "updates.";
const STEPS: &str = "steps";

/// Numbers that lie on the device, each `[1]`: read at once, since every read waits for all that was asked before.
pub(super) fn numbers(scalars: Vec<Tensor<1>>) -> Vec<f32> {
    if scalars.is_empty() {
        return Vec::new();
    }
    Tensor::cat(scalars, 0).into_data().try_into_vec().expect("float32")
}

impl Optimiser {
    pub(super) fn new(config: OptimiserConfig) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(config.beta1)
            .with_beta_2(config.beta2)
            .with_epsilon(config.epsilon)
            .with_weight_decay(config.weight_decay)
            .build();
        Self { config, adamw, memory: BTreeMap::new(), steps: 0 }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// Shortens the gradient as a whole to the longest there may be; returns its norm before.
    pub(super) fn clip(&self, gradients: &mut NamedGradients) -> f64 {
        let squares: Vec<Tensor<1>> = gradients.values().map(|gradient| gradient.clone().square().sum()).collect();
        let norm = numbers(squares).into_iter().map(f64::from).sum::<f64>().sqrt();
        if let Some(limit) = self.config.clip_norm.filter(|&limit| norm > limit) {
            // As PyTorch's clip_grad_norm_ does it.
            let factor = limit / (norm + 1e-6);
            gradients.values_mut().for_each(|gradient| *gradient = gradient.clone() * factor);
        }
        norm
    }

    /// A weight after one step.
    pub(super) fn update(
        &mut self,
        name: &str,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let (weight, memory) = self.adamw.step(learning_rate, weight, gradient, self.memory.remove(name));
        if let Some(memory) = memory {
            self.memory.insert(name.to_owned(), memory);
        }
        weight
    }

    pub(super) fn state(&self) -> NamedTensors {
        let mut state = NamedTensors::from([(STEPS.to_owned(), (vec![1], vec![self.steps as f32]))]);
        for (name, memory) in &self.memory {
            let moment = &memory.momentum;
            for (kind, tensor) in [(MOMENT_1, &moment.moment_1), (MOMENT_2, &moment.moment_2)] {
                let elements: Vec<f32> = tensor.clone().into_data().try_into_vec().expect("float32");
                state.insert(format!("{kind}{name}"), (vec![elements.len()], elements));
            }
            state.insert(format!("{UPDATES}{name}"), (vec![1], vec![moment.time as f32]));
        }
        state
    }

    pub(super) fn restored(config: OptimiserConfig, state: &NamedTensors, device: &Device) -> Result<Self> {
        let mut optimiser = Self::new(config);
        let find = |name: &str| {
            let absent = || Error::Unsupported { message: format!("the state has no {name}"), hint: None };
            state.get(name).map(|(_, elements)| elements).ok_or_else(absent)
        };
        // Counts are exact in float32 up to 16 million steps.
        optimiser.steps = find(STEPS)?.first().copied().unwrap_or(0.0) as u64;
        for name in state.keys().filter_map(|name| name.strip_prefix(UPDATES)) {
            let moment = |kind: &str| {
                let elements = find(&format!("{kind}{name}"))?.clone();
                let count = elements.len();
                Ok(Tensor::from_data(TensorData::new(elements, [count]), device))
            };
            let time = find(&format!("{UPDATES}{name}"))?.first().copied().unwrap_or(0.0) as usize;
            let momentum = AdaptiveMomentumState::new(time, moment(MOMENT_1)?, moment(MOMENT_2)?);
            optimiser.memory.insert(name.to_owned(), AdamWState::new(momentum));
        }
        Ok(optimiser)
    }
}
