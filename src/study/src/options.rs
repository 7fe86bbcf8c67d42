//! How a run is to go.

use crate::error::{Error, Result};
use crate::pairs::TrainingPair;
use adaptmedseg_model::adapter::{Adapter, AdapterConfig, LoraConfig};
use adaptmedseg_model::prior::{PriorConfig, Variant};
use adaptmedseg_model::train::{LossKind, OptimiserConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;

/// What learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Low-rank corrections of linear layers.
    #[default]
    #[serde(rename = "lora")]
    Lora,
    /// A context prior.
    #[serde(rename = "prior")]
    Prior,
    /// Both.
    #[serde(rename = "lora+prior")]
    LoraPrior,
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "lora" => Ok(Self::Lora),
            "prior" => Ok(Self::Prior),
            "lora+prior" | "prior+lora" => Ok(Self::LoraPrior),
            _ => Err(format!("unknown method {text:?}: lora, prior or lora+prior")),
        }
    }
}

/// How a run is to go. A resumed run must be given the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FineTuneOptions {
    /// Optimiser steps.
    pub steps: u64,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end, as a share of the highest.
    pub final_share: f64,
    /// Steps in which the learning rate climbs.
    pub warmup_steps: u64,
    /// Samples of a step.
    pub accumulation: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Steps between validations.
    pub validate_every: u64,
    /// Validations without a better loss after which the run ends; 0: never.
    pub patience: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Share of the subjects held out where the pairs do not say.
    pub validation_share: f64,
    /// Whether windows are flipped, scaled and shifted.
    pub augment: bool,
    /// How much of the original's jitter boxes get, from 0 to 1.
    pub box_jitter: f64,
    /// Where the image encoder does not learn, keep encoded windows: each is then taken from a fixed grid, without
    /// augmentation.
    pub cache_embeddings: bool,
    /// Memory for them, in megabytes.
    pub cache_megabytes: u64,
    /// What is minimised.
    pub loss: LossKind,
    /// AdamW and gradient clipping.
    pub optimiser: OptimiserConfig,
    /// Compute the encoder's blocks again on the way back, for memory.
    pub gradient_checkpointing: bool,
    /// Weight of the loss that asks a prior's modality tokens which modality they are.
    pub modality_loss_weight: f64,
}

impl Default for FineTuneOptions {
    /// As the SegVol adaptation trains where it says; otherwise what suits a few volumes.
    fn default() -> Self {
        Self {
            steps: 200,
            learning_rate: 5e-4,
            final_share: 0.01,
            warmup_steps: 10,
            accumulation: 1,
            seed: 0,
            validate_every: 20,
            patience: 5,
            checkpoint_every: 20,
            validation_share: 0.2,
            augment: true,
            box_jitter: 1.0,
            cache_embeddings: true,
            cache_megabytes: 512,
            loss: LossKind::SegVol,
            optimiser: OptimiserConfig::default(),
            gradient_checkpointing: true,
            modality_loss_weight: 0.01,
        }
    }
}

impl FineTuneOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        let rate = self.learning_rate.is_finite() && self.learning_rate > 0.0;
        let shares = [self.final_share, self.validation_share, self.box_jitter];
        let wrong = if self.steps == 0 {
            "no steps"
        } else if !rate {
            "a learning rate that is not above zero"
        } else if self.accumulation == 0 {
            "no samples in a step"
        } else if self.validate_every == 0 || self.checkpoint_every == 0 {
            "validations and checkpoints every 0 steps"
        } else if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            "a share that is not from 0 to 1"
        } else if !self.modality_loss_weight.is_finite() || self.modality_loss_weight < 0.0 {
            "a negative weight of the modality loss"
        } else {
            return Ok(());
        };
        Err(Error::argument(format!("options: {wrong}"), "change the options of the run"))
    }
}

/// An adapter that is to learn further, with the modalities and tasks of these pairs in its pool.
///
/// # Errors
/// Names that are empty.
pub fn with_pairs(adapter: Adapter, pairs: &[TrainingPair]) -> Result<Adapter> {
    let (modalities, tasks) = (names(pairs, |pair| pair.modality.as_ref()), names(pairs, |pair| pair.task.as_ref()));
    Ok(adapter.extended(&modalities, &tasks)?)
}

/// What the pairs say, each once.
fn names(pairs: &[TrainingPair], pick: fn(&TrainingPair) -> Option<&String>) -> Vec<String> {
    pairs.iter().filter_map(pick).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The adapter that a method trains for these pairs: a prior has tokens for their modalities and tasks.
pub fn adapter_config(method: Method, variant: Variant, lora: LoraConfig, pairs: &[TrainingPair]) -> AdapterConfig {
    let (modalities, tasks) = (names(pairs, |pair| pair.modality.as_ref()), names(pairs, |pair| pair.task.as_ref()));
    let mut prior = PriorConfig { variant, tasks: tasks.clone(), ..PriorConfig::default() };
    for modality in &modalities {
        if !prior.knows_modality(modality) {
            prior.modalities.push(modality.clone());
        }
    }
    AdapterConfig {
        lora: (method != Method::Prior).then_some(lora),
        prior: (method != Method::Lora).then_some(prior),
        modalities,
        tasks,
        ..AdapterConfig::default()
    }
}
