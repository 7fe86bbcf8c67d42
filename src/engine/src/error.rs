//! What can go wrong while a model is opened or runs.

use crate::options::Precision;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model's files, or a prompt it cannot take.
    #[error(transparent)]
    Model(#[from] adaptmedseg_model::Error),
    /// No engine has this device.
    #[error("no device {name:?}; there is {}", known.join(", "))]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The device does not compute like this.
    #[error("{device} does not compute in {precision}: {why}")]
    UnsupportedPrecision {
        /// What was asked for.
        precision: Precision,
        /// Of what.
        device: String,
        /// What is in the way.
        why: String,
        /// What it does compute in.
        supported: Vec<Precision>,
    },
    /// The model has no tokenizer, so it takes no text.
    #[error("this model takes no text prompt: it has no tokenizer")]
    NoText,
    /// The engine was called wrongly.
    #[error("engine: {0}")]
    Internal(String),
}

impl Error {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::UnknownDevice { .. } => Some("use `auto` to let the library choose".into()),
            Self::UnsupportedPrecision { supported, .. } => {
                let names: Vec<&str> = supported.iter().map(|precision| precision.name()).collect();
                Some(format!("open the model in {}", names.join(" or ")))
            }
            Self::NoText => Some("use points or a box".into()),
            Self::Internal(_) => None,
        }
    }
}
