//! An opened model: shared between sessions and threads.

use crate::error::{Error, Result};
use adaptmedseg_engine::{self as engine, Engine, EngineOptions, ModelSource, Precision};
use adaptmedseg_model::anatomy::Atlas;
use adaptmedseg_model::checkpoint::{MappedTensors, ModelFolder};
use adaptmedseg_model::config::ModelConfig;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// A loaded model on a device. Cheap to clone: clones share the weights.
#[derive(Clone, Debug)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Box<dyn Engine>,
    description: Description,
    /// The weights' file, for its hash.
    tensors: Option<MappedTensors>,
    atlas: Option<Atlas>,
}

/// What a model is and where it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Name of the model.
    pub name: String,
    /// Licence of its weights.
    pub license: String,
    /// The device it was opened on.
    pub device: String,
    /// The engine that runs it.
    pub engine: String,
    /// Threads it computes with.
    pub threads: usize,
    /// The arithmetic of its large products.
    pub precision: Precision,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Window of the network, (D, H, W) in voxels.
    pub image_size: [usize; 3],
    /// Whether text prompts can be given.
    pub supports_text: bool,
}

impl Model {
    /// Opens a model folder, or the built-in model by the name `builtin`.
    ///
    /// # Errors
    /// A folder that is no model, an unknown device, a precision the device does not have, a number of threads of zero; `builtin` of a library built without it.
    pub fn open(name_or_path: &Path, options: &EngineOptions) -> Result<Self> {
        if options.threads == Some(0) {
            return Err(Error::argument(
                "0 threads cannot compute",
                "leave the number of threads out to use all cores",
            ));
        }
        let folder = ModelFolder::named(name_or_path)?;
        let engine = engine::open(&ModelSource::of(&folder), options)?;
        let config = folder.config();
        let info = engine.info().clone();
        let description = Description {
            name: config.name.clone(),
            license: config.license.clone(),
            device: info.device,
            engine: info.engine,
            threads: info.threads,
            precision: info.precision,
            parameters: folder.parameters(),
            weight_bytes: folder.weight_bytes(),
            image_size: config.image_encoder.image_size,
            supports_text: folder.tokenizer().is_some(),
        };
        let (tensors, atlas) = folder.into_parts();
        let atlas = atlas.filter(|atlas| !atlas.is_empty());
        Ok(Self(Arc::new(Inner { engine, description, tensors: Some(tensors), atlas })))
    }

    /// A model on an engine of the caller's.
    pub fn with_engine(engine: Box<dyn Engine>, description: Description) -> Self {
        Self(Arc::new(Inner { engine, description, tensors: None, atlas: None }))
    }

    /// SHA-256 of the weights' file, in hexadecimal: what ties an adapter to its base. Empty for a model that was not
    /// opened from a folder. Computed when first asked for, which reads the whole file.
    pub fn hash(&self) -> &str {
        self.0.tensors.as_ref().map_or("", MappedTensors::hash)
    }

    /// Whether both are one model.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What the model is and where it runs.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        self.engine().config()
    }

    /// Shapes of known anatomy, where the model has them.
    pub fn atlas(&self) -> Option<&Atlas> {
        self.0.atlas.as_ref()
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &dyn Engine {
        self.0.engine.as_ref()
    }
}
