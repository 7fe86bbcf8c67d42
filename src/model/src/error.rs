//! What can go wrong in this crate, said as what, where and what to do.
//!
//! A message names the thing that is wrong; [`Error::hint`] says what to do about it; [`Error::kind`] is the coarse
//! class that a C caller or an exit status needs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure in the model crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what it claims to be: truncated, malformed or hostile.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
        /// What to do about it, where that is known.
        hint: Option<String>,
    },
    /// The tensors of a file are not those the model needs.
    #[error("{0}")]
    Tensors(Box<TensorMismatch>),
    /// A configuration makes no sense, or contradicts the tensors it comes with.
    #[error("configuration: {message}")]
    Config {
        /// Which fields, which values, and why not.
        message: String,
    },
    /// The tokenizer could not be read or cannot encode a text.
    #[error("tokenizer: {message}")]
    Tokenizer {
        /// What is wrong.
        message: String,
    },
    /// A prompt that the model cannot take.
    #[error("{message}")]
    Prompt {
        /// Which prompt, and why.
        message: String,
    },
    /// Something well-formed that this version does not do.
    #[error("{message}")]
    Unsupported {
        /// What is not supported.
        message: String,
        /// The way round it, where there is one.
        hint: Option<String>,
    },
    /// The place to write to is taken.
    #[error("{} already exists", path.display())]
    Exists {
        /// The file or folder in the way.
        path: PathBuf,
    },
    /// An argument outside its domain.
    #[error("{message}")]
    InvalidArgument {
        /// Which argument, which value, and why not.
        message: String,
    },
    /// A mistake in this library.
    #[error("internal error: {message}")]
    Internal {
        /// What was found to be impossible.
        message: String,
    },
}

/// The coarse class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading or writing failed.
    Io,
    /// A file is malformed or does not fit the model.
    Format,
    /// Not supported by this version.
    Unsupported,
    /// The caller passed something that cannot be used.
    InvalidArgument,
    /// A mistake in this library.
    Internal,
}

impl Error {
    /// An [`Error::Io`] at `path`.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// An [`Error::Format`] in `path`, without a hint.
    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), message: message.into(), hint: None }
    }

    /// An [`Error::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config { message: message.into() }
    }

    /// An [`Error::Tokenizer`].
    pub fn tokenizer(message: impl Into<String>) -> Self {
        Self::Tokenizer { message: message.into() }
    }

    /// An [`Error::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// The coarse class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Format { .. } | Self::Tensors(_) | Self::Tokenizer { .. } => ErrorKind::Format,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Config { .. } | Self::Prompt { .. } | Self::Exists { .. } | Self::InvalidArgument { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Some("check the path".into()),
                io::ErrorKind::PermissionDenied => Some("check the permissions of the file and its folder".into()),
                io::ErrorKind::StorageFull => Some("free some disk space and try again".into()),
                _ => None,
            },
            Self::Format { hint, .. } | Self::Unsupported { hint, .. } => hint.clone(),
            Self::Tensors(mismatch) => mismatch.hint.clone(),
            Self::Exists { .. } => Some("choose another place, or ask to overwrite".into()),
            Self::Internal { .. } => Some("please report this as a bug".into()),
            _ => None,
        }
    }
}

/// Which tensors of a file are not those the model needs: every one of them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorMismatch {
    /// The file.
    pub path: PathBuf,
    /// Needed by the model, absent from the file.
    pub missing: Vec<String>,
    /// In the file, of no use to the model.
    pub unexpected: Vec<String>,
    /// In both, but of another shape or element type.
    pub misshaped: Vec<Misshaped>,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// A tensor of another shape or element type than the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshaped {
    /// The tensor's name in the model.
    pub name: String,
    /// What the model needs, such as `[768, 1024]`.
    pub expected: String,
    /// What the file holds, such as `[768, 512]` or `I64 [768, 1024]`.
    pub found: String,
}

impl TensorMismatch {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }
}

impl fmt::Display for TensorMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the tensors do not fit the model", self.path.display())?;
        group(f, "missing", self.missing.iter())?;
        group(f, "unexpected", self.unexpected.iter())?;
        let wrong = self.misshaped.iter().map(|m| format!("{}: {}, should be {}", m.name, m.found, m.expected));
        group(f, "mis-shaped", wrong)
    }
}

/// One heading with its count, then one name a line; nothing where there is nothing.
fn group<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    names: impl ExactSizeIterator<Item = T>,
) -> fmt::Result {
    if names.len() > 0 {
        write!(f, "\n  {heading} ({}):", names.len())?;
    }
    names.into_iter().try_for_each(|name| write!(f, "\n    {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_mismatch_names_and_counts_every_tensor() {
        let error = Error::Tensors(Box::new(TensorMismatch {
            path: "model.safetensors".into(),
            missing: vec!["a".into(), "b".into()],
            unexpected: vec![],
            misshaped: vec![Misshaped { name: "c".into(), expected: "[2]".into(), found: "[3]".into() }],
            hint: Some("do this".into()),
        }));
        let expected = "model.safetensors: the tensors do not fit the model\n  missing (2):\n    a\n    b\n  \
                        mis-shaped (1):\n    c: [3], should be [2]";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::Format);
        assert_eq!(error.hint().as_deref(), Some("do this"));
    }

    #[test]
    fn an_error_stays_small() {
        assert!(size_of::<Error>() <= 96, "{}", size_of::<Error>());
    }
}
