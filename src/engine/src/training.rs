//! Adapting a model: what an engine is asked while it learns.

use crate::error::Result;
use crate::{ImageEmbedding, WindowPrompts};
use adaptmedseg_model::NamedTensors;
use adaptmedseg_model::adapter::{Adapter, AdapterContext};
use adaptmedseg_model::train::{LossKind, OptimiserConfig};

/// What a trainer changes.
#[derive(Clone, Debug)]
pub enum Learns {
    /// An adapter, from where it stands; the model itself does not change.
    Adapter(Box<Adapter>),
    /// A copy of the model's own weights, those whose names begin with one of these: `""` for all. The text encoder never
    /// learns.
    Weights(Vec<String>),
}

/// How a trainer changes it.
#[derive(Clone, Debug)]
pub struct TrainerConfig {
    /// What the gradients are taken of.
    pub loss: LossKind,
    /// AdamW and gradient clipping.
    pub optimiser: OptimiserConfig,
    /// Keep only the inputs of the encoder's blocks and compute each block again on the way back: about one block's
    /// activations in memory instead of all, for a third more time.
    pub gradient_checkpointing: bool,
    /// Compute the samples of a step together, for the memory of all of them at once: side by side on the processor, which is
    /// faster for a small network; on other devices as one batch, where it is weights that learn and each sample has one
    /// combination of prompts.
    pub parallel_samples: bool,
    /// How much of the running average of the weights stays after a step; none: no average. Where there is one, it is what
    /// is evaluated and saved.
    pub average: Option<f64>,
    /// Weight of the auxiliary loss that asks the modality's tokens which modality they are; 0 for none.
    pub modality_loss_weight: f64,
    /// For a network that learns to see for itself: the share of windows that learn without what the dense prompt path is told
    /// of nearness and likeness, likewise without connected regions, and likewise without a proposal. None: all is as when masks
    /// are asked for.
    pub cue_dropout: Option<f64>,
}

/// One window with its target and all the prompts it is to be found by.
#[derive(Clone, Debug)]
pub struct TrainingSample {
    /// The window, row-major (D, H, W), values in `[0, 1]` before augmentation.
    pub image: Vec<f32>,
    /// 1 in the structure and 0 elsewhere, of the window's size; fractions where a resampled label has them.
    pub target: Vec<f32>,
    /// Combinations of prompts; the loss is the sum over them.
    pub prompts: Vec<WindowPrompts>,
    /// Modality and task of the context priors.
    pub context: AdapterContext,
    /// The encoded window, where the encoder does not learn: then `image` is not looked at.
    pub embedding: Option<ImageEmbedding>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The loss, averaged over the samples of the step.
    pub loss: f64,
    /// Dice loss, averaged over samples and prompt combinations.
    pub dice: f64,
    /// Cross-entropy, averaged over samples and prompt combinations.
    pub bce: f64,
    /// Auxiliary modality loss before its weight, averaged over samples; 0 without one.
    pub modality: f64,
    /// Norm of the gradient of everything that learns, before clipping.
    pub gradient_norm: f64,
}

/// What an evaluation found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The loss, as training computes it.
    pub loss: f64,
    /// Logits of mask 0 for each combination of prompts, row-major (D, H, W).
    pub logits: Vec<Vec<f32>>,
}

/// Everything a stopped training needs to go on as if it had not stopped: tensors by name, row-major float32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainerState {
    /// Optimiser steps taken.
    pub steps: u64,
    /// The adapter's tensors, and the optimiser's two moments of each: shape and elements.
    pub tensors: NamedTensors,
}

/// A model that learns. Belongs to one thread at a time; the model it was made from is not changed.
pub trait Trainer: Send {
    /// One optimiser step on the mean loss of `samples`.
    ///
    /// # Errors
    /// A sample of another size; a loss that is not a number, after which nothing has changed.
    fn step(&mut self, samples: &[TrainingSample], learning_rate: f64) -> Result<StepReport>;

    /// The loss and the logits of a sample as things stand. Nothing changes.
    ///
    /// # Errors
    /// A sample of another size.
    fn evaluate(&self, sample: &TrainingSample) -> Result<Evaluation>;

    /// Whether the image encoder learns, so that its embeddings cannot be kept from step to step.
    fn encoder_learns(&self) -> bool;

    /// The model's own weights as they stand, by name.
    ///
    /// # Errors
    /// A failure of the device.
    fn weights(&self) -> Result<NamedTensors>;

    /// The adapter as it stands.
    ///
    /// # Errors
    /// A trainer of weights; a failure of the device.
    fn adapter(&self) -> Result<Adapter>;

    /// A copy of everything that changes.
    ///
    /// # Errors
    /// A failure of the device.
    fn state(&self) -> Result<TrainerState>;

    /// Goes back to a state of a trainer of the same adapter.
    ///
    /// # Errors
    /// A state whose tensors are not this trainer's; then nothing has changed.
    fn restore(&mut self, state: &TrainerState) -> Result<()>;
}
