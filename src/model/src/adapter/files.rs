//! Adapter folders: `adapter.json` and `adapter.safetensors`.

use super::{Adapter, AdapterConfig};
use crate::checkpoint::staging::Staging;
use crate::checkpoint::{ElementType, MappedTensors};
use crate::config::ModelConfig;
use crate::error::{Error, Misshaped, Result, TensorMismatch};
use crate::parameters::{self, NamedTensors};
use burn::tensor::Device;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// What the adapter is, see [`AdapterConfig`].
pub const ADAPTER_CONFIG_FILE: &str = "adapter.json";
/// Its weights.
pub const ADAPTER_WEIGHTS_FILE: &str = "adapter.safetensors";

/// A description longer than this is none.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

impl Adapter {
    /// Opens an adapter folder for models of this architecture.
    ///
    /// # Errors
    /// A folder without its files; a malformed file; one that does not fit the architecture; [`Error::Tensors`] naming
    /// every tensor that is missing, unexpected or of the wrong shape.
    pub fn open(folder: &Path, model: &ModelConfig, device: &Device) -> Result<Self> {
        let config = read_config(folder)?;
        let path = folder.join(ADAPTER_WEIGHTS_FILE);
        let tensors = MappedTensors::open(&path)?;
        let adapter = Self::shaped(config, model, device)?;
        adapter.compare(&tensors)?;
        let source = |name: &str| tensors.get(&adapter.public_name(name));
        Ok(adapter.with_weights(parameters::load(adapter.weights().clone(), device, source)?))
    }

    /// Names every tensor of a file that is not as this adapter needs it.
    fn compare(&self, tensors: &MappedTensors) -> Result<()> {
        let mut found: HashMap<&str, (ElementType, &[usize])> =
            tensors.iter().map(|(name, element, shape)| (name, (element, shape))).collect();
        let mut mismatch = TensorMismatch { path: tensors.path().to_owned(), ..TensorMismatch::default() };
        for (name, shape) in self.shapes() {
            match found.remove(name.as_str()) {
                None => mismatch.missing.push(name),
                Some((ElementType::F32 | ElementType::F16 | ElementType::BF16, found)) if found == shape => {}
                Some((element, found)) => mismatch.misshaped.push(Misshaped {
                    name,
                    expected: format!("F32 {shape:?}"),
                    found: format!("{} {found:?}", element.name()),
                }),
            }
        }
        mismatch.unexpected = found.into_keys().map(str::to_owned).collect();
        mismatch.unexpected.sort();
        if mismatch.is_empty() {
            return Ok(());
        }
        mismatch.hint = Some("the adapter is damaged, or belongs to a model of another size".into());
        Err(Error::Tensors(Box::new(mismatch)))
    }

    /// Writes the adapter as a folder that appears whole or not at all. With `overwrite` an adapter folder of this name
    /// is replaced; anything else is left alone.
    ///
    /// # Errors
    /// A name that is taken; a folder that cannot be written.
    pub fn save(&self, folder: &Path, overwrite: bool) -> Result<()> {
        let staging = Staging::plan(folder, overwrite, ADAPTER_CONFIG_FILE)?;
        let temporary = staging.create()?;
        let text = serde_json::to_string_pretty(&self.config).expect("a description is plain data") + "\n";
        let path = temporary.join(ADAPTER_CONFIG_FILE);
        std::fs::write(&path, text).map_err(|error| Error::io(&path, error))?;
        write_tensors(&temporary.join(ADAPTER_WEIGHTS_FILE), &self.tensors())?;
        staging.commit()
    }
}

/// Reads `adapter.json` alone: what an adapter is, without its weights.
///
/// # Errors
/// A folder that is no adapter; a malformed file.
pub(super) fn read_config(folder: &Path) -> Result<AdapterConfig> {
    let path = folder.join(ADAPTER_CONFIG_FILE);
    if !path.is_file() {
        return Err(Error::Format {
            path: folder.to_owned(),
            message: format!("not an adapter folder: it has no {ADAPTER_CONFIG_FILE}"),
            hint: Some("`adaptmedseg finetune` makes one; PEFT's format can be imported".into()),
        });
    }
    serde_json::from_slice(&read_small(&path, MAX_CONFIG_BYTES)?)
        .map_err(|error| Error::format(&path, error.to_string()))
}

/// A file of at most `limit` bytes.
pub(super) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |error| Error::io(path, error);
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(Error::format(path, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Writes float32 tensors to a safetensors file, which is on the disk when this returns.
///
/// # Errors
/// A file that cannot be written.
pub fn write_tensors(path: &Path, tensors: &NamedTensors) -> Result<()> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, data))| (name, shape, data.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes).expect("as many bytes as the shape says");
        (name, view)
    });
    // The one piece of metadata that PEFT asks for.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| Error::Internal { message: format!("{}: {error}", path.display()) })?;
    let file = File::create(path).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    file.map_err(|error| Error::io(path, error))
}

/// Reads what [`write_tensors`] wrote.
///
/// # Errors
/// A file that cannot be read, is malformed, or holds anything but float32.
pub fn read_tensors(path: &Path) -> Result<NamedTensors> {
    let file = MappedTensors::open(path)?;
    let read = |(name, element, shape): (&str, ElementType, &[usize])| {
        let tensor = file.get(name).filter(|_| element == ElementType::F32);
        let tensor = tensor.ok_or_else(|| Error::format(path, format!("{name} is not float32")))?;
        let (words, _) = tensor.bytes.as_chunks::<4>();
        Ok((name.to_owned(), (shape.to_vec(), words.iter().map(|&word| f32::from_le_bytes(word)).collect())))
    };
    file.iter().map(read).collect()
}
