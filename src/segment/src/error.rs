//! What can go wrong while a volume is segmented.

use adaptmedseg_engine as engine;
use adaptmedseg_model as model;
use adaptmedseg_volume as volume;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to open a model or to segment a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// The model's files.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The engine, or a text prompt.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A prompt or an option that cannot be used.
    #[error("{message}")]
    InvalidArgument {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The run was cancelled; nothing has changed.
    #[error("cancelled")]
    Cancelled,
    /// Another thread is using this session.
    #[error("another thread is using this session")]
    Busy,
    /// Not enough memory for what was asked.
    #[error("segmenting this image needs about {needed} MB, {available} MB are available")]
    OutOfMemory {
        /// Megabytes needed.
        needed: u64,
        /// Megabytes there are.
        available: u64,
    },
    /// Something this version does not do.
    #[error("{message}")]
    Unsupported {
        /// What it is.
        message: String,
        /// The way round it.
        hint: Option<String>,
    },
}

/// The coarse class of an [`Error`]: what a C status or an exit code is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument, a prompt or an image that cannot be used.
    InvalidArgument,
    /// Reading or writing failed.
    Io,
    /// A file is malformed.
    Format,
    /// Not supported by this version.
    Unsupported,
    /// The output exists already.
    Exists,
    /// Too little memory.
    OutOfMemory,
    /// Cancelled by the caller.
    Cancelled,
    /// In use by another thread.
    Busy,
    /// A mistake in this library.
    Internal,
}

impl Error {
    pub(crate) fn argument(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::InvalidArgument { message: message.into(), hint: Some(hint.into()) }
    }

    /// The coarse class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Volume(error) => match error.kind() {
                volume::ErrorKind::Io => ErrorKind::Io,
                volume::ErrorKind::Format => ErrorKind::Format,
                volume::ErrorKind::Unsupported => ErrorKind::Unsupported,
                volume::ErrorKind::Exists => ErrorKind::Exists,
                volume::ErrorKind::TooLarge => ErrorKind::OutOfMemory,
                _ => ErrorKind::InvalidArgument,
            },
            Self::Model(error) => model_kind(error),
            Self::Engine(error) => match error.kind() {
                engine::ErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
                engine::ErrorKind::Io => ErrorKind::Io,
                engine::ErrorKind::Format => ErrorKind::Format,
                engine::ErrorKind::Unsupported => ErrorKind::Unsupported,
                engine::ErrorKind::OutOfMemory => ErrorKind::OutOfMemory,
                engine::ErrorKind::Internal => ErrorKind::Internal,
            },
            Self::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Busy => ErrorKind::Busy,
            Self::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Volume(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::InvalidArgument { hint, .. } | Self::Unsupported { hint, .. } => hint.clone(),
            Self::OutOfMemory { .. } => Some("crop the image, or use a machine with more memory".into()),
            Self::Cancelled | Self::Busy => None,
        }
    }
}

fn model_kind(error: &model::Error) -> ErrorKind {
    match error.kind() {
        model::ErrorKind::Io => ErrorKind::Io,
        model::ErrorKind::Format => ErrorKind::Format,
        model::ErrorKind::Unsupported => ErrorKind::Unsupported,
        model::ErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
        _ => ErrorKind::Internal,
    }
}
