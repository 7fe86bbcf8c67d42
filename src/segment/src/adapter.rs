//! Adapters of a model: loaded beside it, chosen per session, learning from it.

use crate::error::{Error, Result};
use crate::model::Model;
use crate::prompt::Modality;
use adaptmedseg_engine::{AttachedAdapter, Learns, Trainer, TrainerConfig};
use adaptmedseg_model::Device;
use adaptmedseg_model::adapter::{Adapter, AdapterConfig};
use std::path::Path;
use std::sync::Arc;

/// An adapter that sessions of its model can use. Cheap to clone: clones share the weights.
#[derive(Clone, Debug)]
pub struct LoadedAdapter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    model: Model,
    attached: AttachedAdapter,
    config: AdapterConfig,
    changes_encoder: bool,
}

impl LoadedAdapter {
    /// What the adapter is.
    pub fn config(&self) -> &AdapterConfig {
        &self.0.config
    }

    /// Whether it was loaded for this model.
    pub fn belongs_to(&self, model: &Model) -> bool {
        self.0.model.is(model)
    }

    /// Whether windows encoded with it differ from those encoded without.
    pub(crate) fn changes_encoder(&self) -> bool {
        self.0.changes_encoder
    }

    pub(crate) fn attached(&self) -> &AttachedAdapter {
        &self.0.attached
    }

    /// Whether both are one adapter.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Model {
    /// Opens an adapter folder for this model.
    ///
    /// `merge` adds its corrections to copies of the weights they correct: faster, for that much memory.
    ///
    /// # Errors
    /// A folder that is no adapter, a damaged one, one that was made for another base.
    pub fn load_adapter(&self, folder: &Path, merge: bool) -> Result<LoadedAdapter> {
        self.attach(&self.open_adapter(folder)?, merge)
    }

    /// Opens an adapter folder for this model, to train it further or to write it elsewhere.
    ///
    /// # Errors
    /// As [`load_adapter`](Self::load_adapter).
    pub fn open_adapter(&self, folder: &Path) -> Result<Adapter> {
        let adapter = Adapter::open(folder, self.config(), &Device::flex())?;
        self.check_base(adapter.config()).map_err(|error| match error {
            Error::Unsupported { message, hint } => {
                Error::Unsupported { message: format!("{}: {message}", folder.display()), hint }
            }
            error => error,
        })?;
        Ok(adapter)
    }

    /// An untrained adapter of this model; see [`Adapter::new`].
    ///
    /// # Errors
    /// A configuration that does not fit the model.
    pub fn new_adapter(&self, mut config: AdapterConfig, seed: u64) -> Result<Adapter> {
        config.base = self.hash().to_owned();
        config.base_name.clone_from(&self.description().name);
        Ok(Adapter::new(config, self.config(), seed, &Device::flex())?)
    }

    /// Puts an adapter beside this model.
    ///
    /// # Errors
    /// An adapter of another base.
    pub fn attach(&self, adapter: &Adapter, merge: bool) -> Result<LoadedAdapter> {
        self.check_base(adapter.config())?;
        Ok(LoadedAdapter(Arc::new(Inner {
            model: self.clone(),
            attached: self.engine().attach(adapter, merge)?,
            config: adapter.config().clone(),
            changes_encoder: adapter.changes_encoder(),
        })))
    }

    /// Lets an adapter learn; the model itself does not change.
    ///
    /// # Errors
    /// An adapter of another base.
    pub fn trainer(&self, adapter: Adapter, config: TrainerConfig) -> Result<Box<dyn Trainer>> {
        self.check_base(adapter.config())?;
        Ok(self.engine().trainer(Learns::Adapter(Box::new(adapter)), config)?)
    }

    fn check_base(&self, adapter: &AdapterConfig) -> Result<()> {
        if adapter.base.is_empty() || adapter.base == self.hash() {
            return Ok(());
        }
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        Err(Error::Unsupported {
            message: format!(
                "the adapter was made for {:?} ({}), not for this model, {:?} ({})",
                adapter.base_name,
                short(&adapter.base),
                self.description().name,
                short(self.hash())
            ),
            hint: Some("open the model it was made for".into()),
        })
    }
}

impl Modality {
    /// What a context prior calls it; none where it is unknown.
    pub fn prior_name(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Ct => Some("CT"),
            Self::Mr => Some("MR"),
        }
    }
}
