//! Where a model runs. [`Engine`] is all that the rest of the product knows of it.
//!
//! The granularity is the model, never the tensor: encode a window, encode a text, decode prompts against an encoded
//! window. What an engine encodes stays where it was made, behind an opaque handle.

#[cfg(feature = "flex")]
mod built_in;
mod burn_engine;
mod burn_trainer;
mod error;
mod open;
mod options;
pub mod plugin;
mod threads;
mod training;

pub use burn_engine::{BurnEngine, BurnPlace};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "flex")]
pub use open::open;
pub use open::{DeviceInfo, ModelSource, devices};
pub use options::{EngineOptions, Precision};
pub use training::{Evaluation, Learns, StepReport, Trainer, TrainerConfig, TrainerState, TrainingSample};

use adaptmedseg_model::adapter::{Adapter, AdapterContext};
use adaptmedseg_model::config::ModelConfig;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A loaded model on a device. Shared between threads; calls may run at the same time.
pub trait Engine: Send + Sync + fmt::Debug {
    /// What the engine is and where it runs.
    fn info(&self) -> &EngineInfo;

    /// The architecture of the model.
    fn config(&self) -> &ModelConfig;

    /// Seconds that the device's own float32 product of `[rows, inner]` with `[inner, columns]` takes, `turns` times after
    /// one that is not counted: what other times are compared with.
    ///
    /// # Errors
    /// A failure of the device.
    fn product_seconds(&self, sizes: [usize; 3], turns: usize) -> Result<Vec<f64>>;

    /// Encodes one window, with an adapter or without.
    ///
    /// `window` has the configured image size, row-major (D, H, W), W fastest, values in `[0, 1]`.
    ///
    /// # Errors
    /// A window of another size; an adapter that another engine attached; a failure of the device.
    fn encode_image(&self, window: &[f32], adapter: Option<&AttachedAdapter>) -> Result<ImageEmbedding>;

    /// Encodes the model's sentence about a structure.
    ///
    /// # Errors
    /// A model without tokenizer, an empty name, one with unknown words, one that is too long.
    fn encode_text(&self, name: &str) -> Result<TextEmbedding>;

    /// Checks a name as [`encode_text`](Self::encode_text) would, without encoding it.
    ///
    /// # Errors
    /// As [`encode_text`](Self::encode_text).
    fn check_text(&self, name: &str) -> Result<()>;

    /// Logits of one window for these prompts, at the window's own size.
    ///
    /// # Errors
    /// No prompt; an embedding or an adapter that another engine made.
    fn decode(&self, image: &ImageEmbedding, prompts: &WindowPrompts, adapted: Option<Adapted>) -> Result<Decoded>;

    /// Puts an adapter beside the model, whose weights it shares: any number may be attached, and each call says which it
    /// means. `merge` adds its corrections to copies of the weights they correct: faster, for that much memory. (An encoder
    /// that computes in bfloat16 has a copy of its own in any case.)
    ///
    /// # Errors
    /// An adapter for layers of other sizes.
    fn attach(&self, adapter: &Adapter, merge: bool) -> Result<AttachedAdapter>;

    /// A trainer of an adapter or of a copy of the weights. The model itself does not change.
    ///
    /// # Errors
    /// An adapter for layers of other sizes; nothing that learns.
    fn trainer(&self, learns: Learns, config: TrainerConfig) -> Result<Box<dyn Trainer>>;

    /// Memory of the device in use, where the device tells.
    fn memory(&self) -> Option<MemoryUse> {
        None
    }

    /// Gives memory that the device's allocator keeps for later back to the system.
    fn release_memory(&self) {}
}

/// An attached adapter, and what its context prior is told.
#[derive(Clone, Copy, Debug)]
pub struct Adapted<'a> {
    /// The adapter.
    pub adapter: &'a AttachedAdapter,
    /// Modality and task.
    pub context: &'a AdapterContext,
}

/// The prompts of one window, coordinates (d, h, w) in voxels of the window, voxel centres at whole numbers.
#[derive(Clone, Debug, Default)]
pub struct WindowPrompts {
    /// Points with their labels: 1 positive, 0 negative, -1 not a point.
    pub points: Vec<([f32; 3], i8)>,
    /// A box (d0, h0, w0, d1, h1, w1), inclusive corners.
    pub bounding_box: Option<[f32; 6]>,
    /// An encoded text.
    pub text: Option<TextEmbedding>,
    /// A previous mask of the window, row-major (D, H, W), from 0 to 1. Only a model with a dense prompt path looks at it,
    /// and it is no prompt by itself.
    pub mask: Option<Vec<f32>>,
    /// How likely each voxel of the window is in the structure by what usually fills such a box, row-major (D, H, W), from 0
    /// to 1: see [`Atlas`](adaptmedseg_model::anatomy::Atlas). As for the mask.
    pub prior: Option<Vec<f32>>,
}

impl WindowPrompts {
    /// Whether there is nothing to go by.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.bounding_box.is_none() && self.text.is_none()
    }
}

/// What [`Engine::decode`] returns.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Logits of mask 0, row-major (D, H, W).
    pub logits: Vec<f32>,
    /// Predicted quality of each mask.
    pub iou: Vec<f32>,
}

/// What an engine is and where it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EngineInfo {
    /// The engine, such as `flex`.
    pub engine: String,
    /// The device, such as `cpu`.
    pub device: String,
    /// Threads it computes with.
    pub threads: usize,
    /// The arithmetic it was opened with.
    pub precision: Precision,
    /// Bytes of one encoded window.
    pub embedding_bytes: u64,
    /// Bytes of working memory a pass needs at its peak, estimated from the architecture.
    pub working_bytes: u64,
}

/// Memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Bytes in use.
    pub allocated_bytes: u64,
    /// Bytes in use, and those its allocator keeps for later.
    pub reserved_bytes: u64,
}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<dyn Any + Send + Sync>);

        impl $name {
            /// Wraps what an engine made.
            pub fn new<T: Any + Send + Sync>(value: T) -> Self {
                Self(Arc::new(value))
            }

            /// What [`new`](Self::new) was given, if it was a `T`.
            pub fn get<T: Any>(&self) -> Option<&T> {
                self.0.downcast_ref()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

opaque!(
    /// An encoded window, on the device of the engine that made it.
    ImageEmbedding
);
opaque!(
    /// A model with an adapter beside it, on the device of the engine that attached it.
    AttachedAdapter
);
opaque!(
    /// An encoded text, on the device of the engine that made it.
    TextEmbedding
);
