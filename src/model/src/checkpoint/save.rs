//! Writing a model folder.

use super::expected::expected_tensors;
use super::folder::{ANATOMY_FILE, CARD_FILE, CONFIG_FILE, ModelFolder, TOKENIZER_FILE, WEIGHTS_FILE};
use super::staging::Staging;
use crate::NamedTensors;
use crate::anatomy::Atlas;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use std::fs;
use std::path::Path;

/// How weights are stored. The network always computes in float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// float32.
    Full,
    /// float16: half the size; weights are rounded to three to four digits.
    Half,
}

/// What a model folder holds beside architecture and weights.
#[derive(Clone, Copy, Debug)]
pub struct Companions<'a> {
    /// The text of `tokenizer.json`.
    pub tokenizer: Option<&'a [u8]>,
    /// Shapes of known anatomy.
    pub atlas: Option<&'a Atlas>,
    /// What the model is, for people.
    pub card: &'a str,
}

/// Writes a model folder, whole or not at all. With `overwrite` it may replace another.
///
/// # Errors
/// A name that is taken; a weight that is absent, of another shape, or too large for its precision; a folder that cannot be
/// written.
pub fn write_model(
    out: &Path,
    overwrite: bool,
    config: &ModelConfig,
    weights: &NamedTensors,
    companions: Companions,
    precision: Precision,
) -> Result<()> {
    let staging = Staging::plan(out, overwrite, CONFIG_FILE)?;
    let mut tensors = Vec::new();
    for expected in expected_tensors(config) {
        let wrong = |what: &str| Error::Internal { message: format!("tensor {} {what}", expected.name) };
        let (shape, data) = weights.get(&expected.name).ok_or_else(|| wrong("is absent"))?;
        if *shape != expected.shape {
            return Err(wrong("has another shape"));
        }
        let bytes: Vec<u8> = match precision {
            Precision::Full => data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Precision::Half => data.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect(),
        };
        if precision == Precision::Half && data.iter().any(|&value| !half::f16::from_f32(value).is_finite()) {
            return Err(wrong("holds a number that half precision cannot"));
        }
        tensors.push((expected.name, shape.clone(), bytes));
    }
    let dtype = if precision == Precision::Full { Dtype::F32 } else { Dtype::F16 };
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(dtype, shape.clone(), bytes).expect("as many bytes as the shape says"))
    });
    let folder = staging.create()?;
    let path = folder.join(WEIGHTS_FILE);
    let bytes = safetensors::serialize(views, None)
        .map_err(|error| Error::Internal { message: format!("{}: {error}", path.display()) })?;
    fs::write(&path, bytes).map_err(|error| Error::io(&path, error))?;
    let config = config.to_json();
    let Companions { tokenizer, atlas, card } = companions;
    let anatomy = atlas.map(Atlas::to_bytes);
    let files = [
        (CONFIG_FILE, Some(config.as_bytes())),
        (TOKENIZER_FILE, tokenizer),
        (ANATOMY_FILE, anatomy.as_deref()),
        (CARD_FILE, Some(card.as_bytes())),
    ];
    for (name, bytes) in files {
        if let Some(bytes) = bytes {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(|error| Error::io(&path, error))?;
        }
    }
    ModelFolder::open(folder)?;
    staging.commit()
}
