//! What can go wrong in this crate, said as what, where and what to do.
//!
//! A message names the thing that is wrong; [`Error::hint`] says what to do about it; [`Error::kind`] is the coarse
//! class that a C caller or an exit status needs.

use std::collections::HashMap;
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
        list(f, "missing", self.missing.len(), &braced(&self.missing))?;
        list(f, "unexpected", self.unexpected.len(), &braced(&self.unexpected))?;
        let wrong = self.misshaped.iter().map(|m| format!("{}: {}, should be {}", m.name, m.found, m.expected));
        list(f, "mis-shaped", self.misshaped.len(), &wrong.collect::<Vec<_>>())
    }
}

/// One heading with the number of tensors, then the lines; nothing where there is nothing.
fn list(f: &mut fmt::Formatter<'_>, heading: &str, count: usize, lines: &[String]) -> fmt::Result {
    if count > 0 {
        write!(f, "\n  {heading} ({count}):")?;
    }
    lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
}

/// Lists up to this long are shown name by name.
const PLAIN_NAMES: usize = 16;

/// The parts of a name, and the one that varies: its place and what it may be.
type Merged = (Vec<String>, Option<(usize, Vec<String>)>);

/// The names, or for long lists the same names written shorter, as a shell would: `norm{1,2}.{weight,bias}`.
///
/// Names that differ in one part only become one, part by part from the end, so nothing is lost: written out, the
/// braces give exactly the names.
fn braced(names: &[String]) -> Vec<String> {
    if names.len() <= PLAIN_NAMES {
        return names.to_vec();
    }
    let mut names: Vec<Vec<String>> = names.iter().map(|name| name.split('.').map(str::to_owned).collect()).collect();
    let longest = names.iter().map(Vec::len).max().unwrap_or(0);
    for from_end in 1..=longest {
        let mut merged: Vec<Merged> = Vec::new();
        let mut index_of: HashMap<Vec<String>, usize> = HashMap::new();
        for mut name in names {
            // The first part stays, so that every line starts with the part of the network it is about.
            let Some(at) = name.len().checked_sub(from_end).filter(|&at| at > 0) else {
                merged.push((name, None));
                continue;
            };
            let part = std::mem::take(&mut name[at]);
            match index_of.get(&name) {
                Some(&index) => merged[index].1.iter_mut().for_each(|(_, parts)| parts.push(part.clone())),
                None => {
                    index_of.insert(name.clone(), merged.len());
                    merged.push((name, Some((at, vec![part]))));
                }
            }
        }
        let join = |(mut name, varying): Merged| {
            if let Some((at, parts)) = varying {
                name[at] = if parts.len() == 1 { parts.concat() } else { format!("{{{}}}", parts.join(",")) };
            }
            name
        };
        names = merged.into_iter().map(join).collect();
    }
    names.into_iter().map(|name| name.join(".")).collect()
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
    fn long_lists_are_written_shorter_without_loss() {
        let mut names: Vec<String> = Vec::new();
        for layer in 0..3 {
            for part in ["norm1", "norm2", "attn.qkv"] {
                names.extend(["weight", "bias"].map(|kind| format!("enc.blocks.{layer}.{part}.{kind}")));
            }
        }
        names.push("enc.table".into());
        let expected = ["enc.blocks.{0,1,2}.{norm1,norm2}.{weight,bias}", "enc.blocks.{0,1,2}.attn.qkv.{weight,bias}"];
        assert_eq!(braced(&names), [expected[0], expected[1], "enc.table"]);
        assert_eq!(braced(&names[..3]), names[..3]);
    }

    #[test]
    fn an_error_stays_small() {
        assert!(size_of::<Error>() <= 96, "{}", size_of::<Error>());
    }
}
