//! What can go wrong with a volume, said as what, where and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to read, write or use a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what it claims to be.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
    },
    /// Well-formed, but nothing this library handles.
    #[error("{message}")]
    Unsupported {
        /// What it is.
        message: String,
        /// The way round it, where there is one.
        hint: Option<String>,
    },
    /// A grid that cannot be.
    #[error("{message}")]
    InvalidGeometry {
        /// Which number, and why not.
        message: String,
    },
    /// Voxels nothing can be made of.
    #[error("{message}")]
    InvalidVoxels {
        /// What is wrong with them.
        message: String,
    },
    /// More memory than the file can account for, or than allowed.
    #[error("{message}")]
    TooLarge {
        /// How much, and what the limit is.
        message: String,
    },
    /// The place to write to is taken.
    #[error("{} already exists", path.display())]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
}

/// The coarse class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading or writing failed.
    Io,
    /// A file is malformed.
    Format,
    /// Not handled by this library.
    Unsupported,
    /// Input that cannot be used.
    InvalidArgument,
    /// Too much memory.
    TooLarge,
    /// The output exists already.
    Exists,
}

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, message: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn geometry(message: impl Into<String>) -> Self {
        Self::InvalidGeometry { message: message.into() }
    }

    /// The coarse class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Format { .. } => ErrorKind::Format,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::InvalidGeometry { .. } | Self::InvalidVoxels { .. } => ErrorKind::InvalidArgument,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Exists { .. } => ErrorKind::Exists,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { hint, .. } => hint.clone(),
            Self::Exists { .. } => Some("allow overwriting (--overwrite on the command line) to replace it".into()),
            Self::Format { .. } => Some("the file may be damaged or cut short; copy it again".into()),
            Self::InvalidGeometry { .. } => Some("correct the header of the image".into()),
            _ => None,
        }
    }
}
