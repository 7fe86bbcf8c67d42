//! What the parity tests share: where the golden bundles are, how they are read, the synthetic weights they were made
//! with, and the tolerances.
//!
//! Bundles are numbers produced by the original PyTorch implementation. They come from the folder named by
//! `ADAPTMEDSEG_GOLDEN`; without it from `../shared/golden` beside the checkout; without that from the compact subset
//! committed beside this file. Volumes come from `ADAPTMEDSEG_DATA`, else `../shared/data`.

mod bundle;
mod close;
mod fixture;
pub mod ladder;
mod pipeline;
mod training;
mod weights;

pub use bundle::{Bundle, bundles, data_folder, notes, skipped};
pub use close::{assert_close, assert_close_slices, tolerance};
pub use fixture::{write_fixture, write_full_model};
pub use pipeline::pipeline_run;
pub use training::{TrainingCase, plain_name, synthetic_adapter};
pub use weights::{
    Open, built_in, built_in_at, golden_model, golden_network, golden_source, model_of, recipe_tensor, uniform,
    write_synthetic_checkpoint,
};
