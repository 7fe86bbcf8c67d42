//! An adapter made part of its base: a model folder of its own.

use super::Adapter;
use crate::checkpoint::{Companions, ModelFolder, Precision, write_model};
use crate::error::{Error, Result};
use crate::parameters;
use crate::segvol::SegVol;
use burn::tensor::Device;
use std::path::Path;

impl Adapter {
    /// Writes a model folder whose weights are those of `base` with the corrections added.
    ///
    /// The folder appears whole or not at all.
    ///
    /// # Errors
    /// An adapter with a context prior, which is no correction of a weight; one that does not fit the base; a name that
    /// is taken; a folder that cannot be written.
    pub fn merge_into(&self, base: &ModelFolder, out: &Path, overwrite: bool) -> Result<()> {
        if self.config.prior.is_some() {
            return Err(Error::Unsupported {
                message: "a context prior cannot be merged: it depends on the modality and the task".into(),
                hint: Some("use the adapter beside its model".into()),
            });
        }
        let device = Device::default();
        let network: SegVol = base.config().init(&device).load(&device, |name| base.tensor(name))?;
        let merged = parameters::export(&network.with_adapter(self)?.merged());
        let mut config = base.config().clone();
        let name = if self.config.name.is_empty() { "adapter" } else { &self.config.name };
        config.name = format!("{} + {name}", config.name);
        let card = format!(
            "# {}\n\nThe weights of `{}` with the corrections of the adapter `{name}` added. What is said of both holds \
             for this model.\n\n* SHA-256 of the base's weights: `{}`\n* Licence of the base: {}\n* Licence of the \
             adapter: {}\n",
            config.name,
            base.config().name,
            base.tensors().hash(),
            base.config().license,
            if self.config.license.is_empty() { "unknown" } else { &self.config.license },
        );
        let companions = Companions { tokenizer: base.tokenizer(), atlas: base.atlas(), card: &card };
        write_model(out, overwrite, &config, &merged, companions, Precision::Full)
    }
}
