//! What can go wrong in a fine-tuning run.

use adaptmedseg_segment::ErrorKind;
use std::path::PathBuf;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a fine-tuning run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model, an image, the trainer, or a cancellation.
    #[error(transparent)]
    Segment(#[from] adaptmedseg_segment::Error),
    /// A list of pairs that cannot be used.
    #[error("{}: {message}", path.display())]
    Pairs {
        /// The list.
        path: PathBuf,
        /// Which entry, and what is wrong with it.
        message: String,
    },
    /// A data set that cannot be used.
    #[error("{}: {message}", path.display())]
    Dataset {
        /// The list, or the file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A downloaded data set, or a file in it, that cannot be used.
    #[error("{}: {message}", path.display())]
    Source {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// Pairs or options that cannot be used.
    #[error("{message}")]
    InvalidArgument {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The place to write to is taken.
    #[error("{} already exists", path.display())]
    Exists {
        /// The folder in the way.
        path: PathBuf,
        /// What to do about it.
        hint: String,
    },
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn argument(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::InvalidArgument { message: message.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn source_data(path: impl Into<PathBuf>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Source { path: path.into(), message: message.into(), hint: hint.into() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// The coarse class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Segment(error) => error.kind(),
            Self::Pairs { .. } | Self::Dataset { .. } | Self::Source { .. } => ErrorKind::Format,
            Self::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            Self::Exists { .. } => ErrorKind::Exists,
            Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Segment(error) => error.hint(),
            Self::Pairs { .. } => {
                Some("a list is made of objects with image, mask, label or label_id, task, modality".into())
            }
            Self::Dataset { .. } => Some("prepare the data set again".into()),
            Self::InvalidArgument { hint, .. } => hint.clone(),
            Self::Exists { hint, .. } | Self::Source { hint, .. } => Some(hint.clone()),
            Self::Io { .. } => Some("check the path and its permissions".into()),
        }
    }
}

impl From<adaptmedseg_volume::Error> for Error {
    fn from(error: adaptmedseg_volume::Error) -> Self {
        Self::Segment(error.into())
    }
}

impl From<adaptmedseg_model::Error> for Error {
    fn from(error: adaptmedseg_model::Error) -> Self {
        Self::Segment(error.into())
    }
}

impl From<adaptmedseg_engine::Error> for Error {
    fn from(error: adaptmedseg_engine::Error) -> Self {
        Self::Segment(error.into())
    }
}
