//! A model folder, opened: its configuration, and its weights where they lie in the mapped file.

use super::expected;
use super::safetensors_file;
use super::tensor_file::{ElementType, Entry, map_file};
use crate::RawTensor;
use crate::anatomy::Atlas;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use burn::tensor::DType;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Architecture numbers, see [`ModelConfig`].
pub const CONFIG_FILE: &str = "config.json";
/// The weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The text model's tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Shapes of known anatomy, where the model was trained beside them: see [`Atlas`].
pub(super) const ANATOMY_FILE: &str = "anatomy.safetensors.gz";
/// What the model is, for people.
pub const CARD_FILE: &str = "MODEL_CARD.md";

/// The name of the model that is built into the library.
pub const BUILTIN: &str = "builtin";

/// The weights of the built-in model, aligned as its elements want it.
#[cfg(feature = "builtin")]
static WEIGHTS: &Aligned<[u8]> = &Aligned { _align: [], bytes: *include_bytes!("../../builtin/model.safetensors") };

/// Bytes that start where a float32 may.
#[cfg(feature = "builtin")]
#[repr(C)]
struct Aligned<T: ?Sized> {
    _align: [f32; 0],
    bytes: T,
}

/// A file beside the weights that is larger than this is refused; CLIP's tokenizer has 2.2 MB.
const MAX_SMALL_BYTES: u64 = 64 << 20;

/// The tensors of a mapped safetensors file. Those it gives out keep the map alive.
#[derive(Debug)]
pub struct MappedTensors {
    path: PathBuf,
    file: Bytes,
    entries: BTreeMap<String, Entry>,
    hash: OnceLock<String>,
}

impl MappedTensors {
    /// Maps a safetensors file and checks its header.
    ///
    /// # Errors
    /// A file that cannot be read or is malformed, and one with a tensor of a type no weight has.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let file = Bytes::from_owner(map_file(&path)?);
        Self::new(path, file)
    }

    /// The tensors of a safetensors file in memory; `path` names it in messages.
    fn new(path: PathBuf, file: Bytes) -> Result<Self> {
        let contents = safetensors_file::read(&file).map_err(|problem| problem.at(&path))?;
        if let Some((name, what)) = contents.others.first_key_value() {
            return Err(Error::format(&path, format!("{name} is {what}, which cannot be a weight")));
        }
        // A map starts at a page (and what is built in as it should), so an offset in the file is aligned as an address is.
        let skewed = |entry: &Entry| !entry.range().start.is_multiple_of(entry.element().size());
        if let Some((name, _)) = contents.tensors.iter().find(|(_, entry)| skewed(entry)) {
            return Err(Error::Format {
                message: format!("tensor {name} does not start at a multiple of its element's size"),
                hint: Some("import the file: that writes it aligned".into()),
                path,
            });
        }
        Ok(Self { path, file, entries: contents.tensors, hash: OnceLock::new() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names, element types and shapes, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, ElementType, &[usize])> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry.element(), entry.shape()))
    }

    /// A tensor, shared with the mapped file; `None` if there is none of this name, or if it holds no floats of at
    /// most 32 bits.
    pub fn get(&self, name: &str) -> Option<RawTensor> {
        let entry = self.entries.get(name)?;
        let dtype = match entry.element() {
            ElementType::F32 => DType::F32,
            ElementType::F16 => DType::F16,
            ElementType::BF16 => DType::BF16,
            _ => return None,
        };
        Some(RawTensor { dtype, shape: entry.shape().to_vec(), bytes: self.file.slice(entry.range()) })
    }

    /// Number of elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.iter().map(|(_, _, shape)| shape.iter().map(|&size| size as u64).product::<u64>()).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.range().len() as u64).sum()
    }

    /// SHA-256 of the file, in hexadecimal: what ties an adapter to its base. Computed when first asked for, which
    /// reads the whole file.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| sha256(&self.file))
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model folder whose configuration and tensors have been found to fit together.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    tensors: MappedTensors,
    tokenizer: Option<Vec<u8>>,
    atlas: Option<Atlas>,
    missing: Vec<String>,
}

impl ModelFolder {
    /// Opens a complete model.
    ///
    /// # Errors
    /// A folder without its files; a malformed file; [`Error::Tensors`] naming every tensor that is missing,
    /// unexpected or of the wrong shape.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), false)
    }

    /// Opens a model folder, or the model that is built into the library by the name `builtin`.
    ///
    /// # Errors
    /// As for [`open`](Self::open); a library that was built without it.
    pub fn named(name_or_path: &Path) -> Result<Self> {
        if name_or_path == Path::new(BUILTIN) { Self::builtin() } else { Self::open(name_or_path) }
    }

    /// The model that is built into the library.
    ///
    /// # Errors
    /// A library that was built without it.
    #[cfg(feature = "builtin")]
    pub fn builtin() -> Result<Self> {
        let path = PathBuf::from(BUILTIN);
        let config = ModelConfig::from_json(include_bytes!("../../builtin/config.json"), &path)?;
        let weights = Bytes::from_static(&WEIGHTS.bytes);
        let tensors = MappedTensors::new(path.clone(), weights)?;
        let tokenizer = Some(include_bytes!("../../builtin/tokenizer.json").to_vec());
        let atlas = Some(Atlas::from_bytes(include_bytes!("../../builtin/anatomy.safetensors.gz"), &path)?);
        Ok(Self { path, config, tensors, tokenizer, atlas, missing: Vec::new() })
    }

    /// The model that is built into the library: here it is not.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "builtin"))]
    pub fn builtin() -> Result<Self> {
        Err(Error::Unsupported {
            message: "this library was built without the built-in model".into(),
            hint: Some("build it with the feature `builtin`, or give a model folder".into()),
        })
    }

    /// Opens a model that may lack tensors, such as an image encoder alone; see [`missing`](Self::missing).
    ///
    /// # Errors
    /// As for [`open`](Self::open), but for missing tensors.
    pub fn open_incomplete(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), true)
    }

    fn open_with(path: &Path, allow_missing: bool) -> Result<Self> {
        check_is_folder(path)?;
        let config = ModelConfig::read(&path.join(CONFIG_FILE))?;
        let tensors = MappedTensors::open(path.join(WEIGHTS_FILE))?;
        // 64-bit floats are narrowed on import, never later.
        let usable = |element: ElementType| element.is_float() && element != ElementType::F64;
        let mut mismatch = expected::compare(tensors.path(), &config, tensors.iter(), usable);
        let missing = if allow_missing { std::mem::take(&mut mismatch.missing) } else { Vec::new() };
        if !mismatch.is_empty() {
            mismatch.hint = Some(hint(&mismatch.missing));
            return Err(Error::Tensors(Box::new(mismatch)));
        }
        let tokenizer = path.join(TOKENIZER_FILE);
        let tokenizer = if tokenizer.is_file() { Some(read_small(&tokenizer)?) } else { None };
        let anatomy = path.join(ANATOMY_FILE);
        let atlas = if anatomy.is_file() { Some(Atlas::from_bytes(&read_small(&anatomy)?, &anatomy)?) } else { None };
        Ok(Self { path: path.to_path_buf(), config, tensors, tokenizer, atlas, missing })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights.
    pub fn tensors(&self) -> &MappedTensors {
        &self.tensors
    }

    /// The weights and the atlas alone.
    pub fn into_parts(self) -> (MappedTensors, Option<Atlas>) {
        (self.tensors, self.atlas)
    }

    /// Shapes of known anatomy, if the folder has any.
    pub fn atlas(&self) -> Option<&Atlas> {
        self.atlas.as_ref()
    }

    /// One of the weights, shared with the mapped file.
    pub fn tensor(&self, name: &str) -> Option<RawTensor> {
        self.tensors.get(name)
    }

    /// The text of `tokenizer.json`, if the folder has one.
    pub fn tokenizer(&self) -> Option<&[u8]> {
        self.tokenizer.as_deref()
    }

    /// Tensors the model lacks; empty unless opened by [`open_incomplete`](Self::open_incomplete).
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        self.tensors.parameters()
    }

    /// Bytes of the weights.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.bytes()
    }
}

fn read_small(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    if size > MAX_SMALL_BYTES {
        return Err(Error::format(path, format!("{size} bytes; at most {MAX_SMALL_BYTES}")));
    }
    std::fs::read(path).map_err(|error| Error::io(path, error))
}

fn check_is_folder(path: &Path) -> Result<()> {
    if !std::fs::metadata(path).map_err(|error| Error::io(path, error))?.is_dir() {
        return Err(Error::Format {
            path: path.to_path_buf(),
            message: "a file, not a model folder".into(),
            hint: Some("turn a checkpoint into a model folder with `adaptmedseg import`".into()),
        });
    }
    for name in [CONFIG_FILE, WEIGHTS_FILE] {
        let file = path.join(name);
        match std::fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Format {
                    path: path.to_path_buf(),
                    message: format!("not a model folder: it has no {name}"),
                    hint: Some("make one from a checkpoint with `adaptmedseg import`".into()),
                });
            }
            Err(error) => return Err(Error::io(file, error)),
            Ok(_) => {}
        }
    }
    Ok(())
}

fn hint(missing: &[String]) -> String {
    let encoder_only = !missing.is_empty() && missing.iter().all(|name| !name.starts_with("image_encoder."));
    if encoder_only && missing.iter().any(|name| name.starts_with("mask_decoder.transformer.")) {
        "this folder holds an image encoder only: it can be fine-tuned from, but not segment".into()
    } else {
        "the folder's config.json and model.safetensors do not belong together: import the checkpoint again".into()
    }
}
