//! Data sets, fine-tuning and evaluation: from what was downloaded to pairs of image and mask, from those to an adapter,
//! and how good a model and its adapters are on a data set, also when its images shift.
//!
//! [`prepare()`] turns downloaded data sets into one on disk; [`evaluate()`] measures on it.
//!
//! [`finetune`] drives a [`Trainer`](adaptmedseg_engine::Trainer) and knows nothing of how it computes. Every random
//! choice of a step comes from the run's seed and the number of the step alone, so that a run which was killed and
//! resumed is the run that was not.

mod bench;
mod complexity;
mod data;
mod dataset;
mod error;
pub mod evaluation;
pub mod metrics;
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
pub mod shift;
pub mod statistics;
mod validation;

pub use bench::{BenchHooks, BenchReport, bench};
pub use complexity::{ImageComplexity, foreground_contrast};
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
