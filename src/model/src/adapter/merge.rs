//! An adapter made part of its base: a model folder of its own.

use super::Adapter;
use crate::checkpoint::staging::Staging;
use crate::checkpoint::{CARD_FILE, CONFIG_FILE, ModelFolder, TOKENIZER_FILE, WEIGHTS_FILE};
use crate::error::{Error, Result};
use crate::parameters;
use crate::segvol::SegVol;
use burn::tensor::Device;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
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
        let staging = Staging::plan(out, overwrite, CONFIG_FILE)?;
        let device = Device::flex();
        let network: SegVol = base.config().init(&device).load(&device, |name| base.tensor(name))?;
        let merged = parameters::export(&network.with_adapter(self)?.merged());
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = merged
            .iter()
            .map(|(name, (shape, data))| (name, shape, data.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes).expect("as many bytes as the shape says");
            (name, view)
        });
        let folder = staging.create()?;
        let weights = folder.join(WEIGHTS_FILE);
        safetensors::serialize_to_file(views, None, &weights)
            .map_err(|error| Error::io(&weights, std::io::Error::other(error.to_string())))?;
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
        for (file, text) in [(CONFIG_FILE, config.to_json()), (CARD_FILE, card)] {
            let path = folder.join(file);
            std::fs::write(&path, text).map_err(|error| Error::io(&path, error))?;
        }
        if let Some(tokenizer) = base.tokenizer() {
            std::fs::copy(tokenizer, folder.join(TOKENIZER_FILE)).map_err(|error| Error::io(tokenizer, error))?;
        }
        ModelFolder::open(folder)?;
        staging.commit()
    }
}
