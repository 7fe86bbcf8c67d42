//! Data sets and fine-tuning runs: from what was downloaded to pairs of image and mask, and from those to an adapter.
//!
//! [`prepare()`] turns downloaded data sets into one on disk.
//!
//! [`finetune`] drives a [`Trainer`](adaptmedseg_engine::Trainer) and knows nothing of how it computes. Every random
//! choice of a step comes from the run's seed and the number of the step alone, so that a run which was killed and
//! resumed is the run that was not.

mod data;
mod dataset;
mod error;
mod evaluate;
mod options;
mod pairs;
mod partial;
mod phantom;
mod prepare;
mod pretrain;
mod prompts;
mod random;
mod run;
mod sampling;
mod schedule;

pub use dataset::{DATASET_FILE, Dataset, DatasetCase, DatasetFile, DatasetMask, Normalisation, Part};
pub use error::{Error, Result};
pub use options::{FineTuneOptions, Method, adapter_config, with_pairs};
pub use pairs::{Split, TrainingPair, read_pairs};
pub use phantom::{Phantom, PhantomModality};
pub use prepare::{
    CaseNotes, Class, Classes, Foreground, Layout, PrepareHooks, PrepareOptions, PrepareProgress, PrepareReport,
    Shares, prepare,
};
pub use pretrain::{
    PretrainHooks, PretrainOptions, PretrainProgress, PretrainReport, PretrainValidation, pretrain, small_config,
};
pub use run::{FineTuneHooks, FineTuneProgress, FineTuneReport, Start, Validation, finetune};
