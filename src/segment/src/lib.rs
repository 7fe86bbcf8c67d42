//! Prompts, sessions and zoom-out-zoom-in inference over whole volumes.
//!
//! A [`Session`] is a [`Model`] looking at one image. It keeps the image's encoded windows, so that a further prompt
//! costs only the decoder, and the steps taken, so that they can be undone. Masks come back on the image's own grid.

mod adapter;
mod cache;
mod error;
mod focus;
mod guided;
mod guided_filter;
mod hooks;
mod memory;
mod model;
mod outcome;
mod prepare;
mod prompt;
pub mod reference;
mod resample;
mod run;
mod session;
mod windows;

pub use adapter::LoadedAdapter;
pub use adaptmedseg_engine::{
    DeviceInfo, EngineOptions, Evaluation, Precision, StepReport, Trainer, TrainerConfig, TrainerState, TrainingSample,
    devices,
};
pub use adaptmedseg_model::adapter as adapters;
pub use adaptmedseg_model::checkpoint;
pub use adaptmedseg_model::config::ModelConfig;
pub use adaptmedseg_model::prior;
pub use adaptmedseg_model::train;
pub use adaptmedseg_volume as volume;
pub use error::{Error, ErrorKind, Result};
pub use hooks::{CancelToken, Hooks, Progress, Stage};
pub use memory::{MemoryEstimate, peak_memory_bytes};
pub use model::{Description, Model};
pub use outcome::{Outcome, Report, Seconds};
pub use prepare::TrainingVolume;
pub use prompt::{BoxPrompt, Modality, Mode, Point, PromptSet, Space};
pub use session::Session;
