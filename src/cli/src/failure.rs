//! What ends the command early: a message, what to do about it, and an exit code.

use adaptmedseg_model::Error as ModelError;
use adaptmedseg_segment::{Error, ErrorKind, volume};
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// The result of everything in this program that can fail.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit codes. They are part of the command's interface: a number never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Arguments or prompts that cannot be used.
    Usage = 2,
    /// A file whose content cannot be used.
    BadData = 3,
    /// A file that cannot be read, written, or is there already.
    Io = 4,
    /// Well-formed, but nothing this version handles.
    Unsupported = 5,
    /// Too little memory.
    OutOfMemory = 6,
    /// A mistake in this program.
    Internal = 70,
    /// Ended by Ctrl-C or by a request to terminate.
    Cancelled = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why the command ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Its exit code.
    pub code: Code,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure with this code.
    pub(crate) fn new(code: Code, message: impl Into<String>, hint: Option<&str>) -> Self {
        Self { code, message: message.into(), hint: hint.map(str::to_owned) }
    }

    /// The failure of a run that can be resumed: a cancellation says so.
    pub(crate) fn resumable(self) -> Self {
        if self.code != Code::Cancelled {
            return self;
        }
        let message = "cancelled; what was learned so far is kept";
        Self::new(self.code, message, Some("the same command with --resume goes on"))
    }

    /// Arguments that cannot be used.
    pub(crate) fn usage(message: impl Into<String>, hint: &str) -> Self {
        Self::new(Code::Usage, message, Some(hint))
    }

    /// A file whose content cannot be used.
    pub(crate) fn bad_data(message: impl Into<String>, hint: &str) -> Self {
        Self::new(Code::BadData, message, Some(hint))
    }

    /// A file that cannot be read or written.
    pub(crate) fn io(message: impl Into<String>, hint: Option<&str>) -> Self {
        Self::new(Code::Io, message, hint)
    }

    /// What the system said about a file.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => Some("check the path; a folder must exist before files are put into it"),
            std::io::ErrorKind::PermissionDenied => Some("check the permissions of the file and of its folder"),
            std::io::ErrorKind::StorageFull => Some("free some disk space and try again"),
            _ => None,
        };
        Self::io(format!("{}: {error}", path.display()), hint)
    }

    /// The user has asked to stop.
    pub(crate) fn cancelled() -> Self {
        Self::new(Code::Cancelled, "cancelled; nothing was written", None)
    }

    /// The same failure, with the file it concerns in front where the message does not name it yet.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        let name = path.display().to_string();
        if !self.message.contains(&name) && self.code == Code::BadData {
            self.message = format!("{name}: {}", self.message);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            writeln!(f, "  hint: {hint}")?;
        }
        Ok(())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if matches!(error, Error::Cancelled) {
            return Self::cancelled();
        }
        let code = match error.kind() {
            _ if matches!(error, Error::Model(ModelError::Exists { .. })) => Code::Io,
            // A prompt comes from the arguments, a grid or a configuration from a file.
            ErrorKind::InvalidArgument if from_file(&error) => Code::BadData,
            ErrorKind::InvalidArgument => Code::Usage,
            ErrorKind::Format => Code::BadData,
            ErrorKind::Io | ErrorKind::Exists => Code::Io,
            ErrorKind::Unsupported => Code::Unsupported,
            ErrorKind::OutOfMemory => Code::OutOfMemory,
            ErrorKind::Cancelled => Code::Cancelled,
            _ => Code::Internal,
        };
        Self { code, message: error.to_string(), hint: error.hint() }
    }
}

fn from_file(error: &Error) -> bool {
    matches!(error, Error::Volume(_) | Error::Model(ModelError::Config { .. }))
}

impl From<adaptmedseg_study::Error> for Failure {
    fn from(error: adaptmedseg_study::Error) -> Self {
        use adaptmedseg_study::Error as Study;
        let code = match error {
            Study::Segment(error) => return error.into(),
            Study::Pairs { .. } | Study::Dataset { .. } => Code::BadData,
            Study::InvalidArgument { .. } => Code::Usage,
            Study::Exists { .. } | Study::Io { .. } => Code::Io,
            _ => Code::Internal,
        };
        Self { code, message: error.to_string(), hint: error.hint() }
    }
}

impl From<volume::Error> for Failure {
    fn from(error: volume::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_what_and_what_to_do() {
        let failure = Failure::usage("no prompt", "give a text");
        assert_eq!(failure.to_string(), "error: no prompt\n  hint: give a text\n");
        assert_eq!(Failure::cancelled().to_string(), "error: cancelled; nothing was written\n");
    }

    #[test]
    fn errors_of_files_and_of_prompts_have_different_codes() {
        let grid = volume::Error::InvalidGeometry { message: "voxel spacing".into() };
        assert_eq!(Failure::from(grid).code, Code::BadData);
        let prompt = Error::InvalidArgument { message: "point".into(), hint: None };
        assert_eq!(Failure::from(prompt).code, Code::Usage);
        assert_eq!(Failure::from(Error::Cancelled).code, Code::Cancelled);
        let memory = Error::OutOfMemory { needed: 2, available: 1 };
        assert_eq!(Failure::from(memory).code, Code::OutOfMemory);
    }
}
