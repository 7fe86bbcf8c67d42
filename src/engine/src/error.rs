//! What can go wrong while a model is opened or runs.

use crate::options::Precision;
use adaptmedseg_model as model;
use std::path::{Path, PathBuf};

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
    /// The device has too little memory. Nothing has changed, and what is open stays usable.
    #[error("{message}")]
    OutOfMemory {
        /// What could not be had.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// There is no such plugin.
    #[error("no plugin {name:?}; tried{}", listed(tried))]
    NoPlugin {
        /// What was looked for.
        name: String,
        /// The files it could have been.
        tried: Vec<PathBuf>,
    },
    /// A file that should be a plugin cannot be loaded.
    #[error("{}: the plugin cannot be loaded: {message}", path.display())]
    PluginFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// A plugin brings a library that this process has loaded from another file already.
    #[error(
        "{}: this process has loaded {} already, and the plugin needs its own, {}",
        plugin.display(), other.display(), own.display()
    )]
    PluginCollision {
        /// The plugin.
        plugin: PathBuf,
        /// The library it brings.
        own: PathBuf,
        /// The library that is loaded.
        other: PathBuf,
    },
    /// What a plugin answers.
    #[error("{message}")]
    Plugin {
        /// The coarse class.
        kind: ErrorKind,
        /// What it says.
        message: String,
        /// What it says to do about it.
        hint: Option<String>,
    },
    /// The engine was called wrongly.
    #[error("engine: {0}")]
    Internal(String),
}

/// The coarse class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller passed something that cannot be used.
    InvalidArgument,
    /// Reading or writing failed.
    Io,
    /// Data are malformed or do not fit together.
    Format,
    /// Not supported by this version, this device or this process.
    Unsupported,
    /// Too little memory.
    OutOfMemory,
    /// A mistake in this library or a plugin.
    Internal,
}

/// Each on a line of its own.
fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("\n    {}", path.display())).collect()
}

impl Error {
    pub(crate) fn plugin_file(path: impl AsRef<Path>, message: String) -> Self {
        Self::PluginFile { path: path.as_ref().to_owned(), message }
    }

    /// The coarse class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Model(error) => match error.kind() {
                model::ErrorKind::Io => ErrorKind::Io,
                model::ErrorKind::Format => ErrorKind::Format,
                model::ErrorKind::Unsupported => ErrorKind::Unsupported,
                model::ErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
                _ => ErrorKind::Internal,
            },
            Self::UnknownDevice { .. } => ErrorKind::InvalidArgument,
            Self::UnsupportedPrecision { .. }
            | Self::NoText
            | Self::PluginFile { .. }
            | Self::PluginCollision { .. } => ErrorKind::Unsupported,
            Self::NoPlugin { .. } => ErrorKind::InvalidArgument,
            Self::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Self::Plugin { kind, .. } => *kind,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

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
            Self::OutOfMemory { hint, .. } | Self::Plugin { hint, .. } => hint.clone(),
            Self::NoPlugin { .. } => Some(
                "install the plugin beside the library or in a folder of ADAPTMEDSEG_PLUGIN_PATH, or use the device `cpu`"
                    .into(),
            ),
            Self::PluginFile { .. } => Some(
                "the libraries it was built with must be where they were then; the device `cpu` needs no plugin".into(),
            ),
            Self::PluginCollision { .. } => {
                Some("use the device `cpu` here, or run `adaptmedseg`, which is a process of its own".into())
            }
            Self::Internal(_) => None,
        }
    }
}
