//! Progress and cancellation of a long call.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a caller may hang into a long call.
#[derive(Clone, Copy, Default)]
pub struct Hooks<'a> {
    /// Called on the calling thread, at least once per window.
    pub progress: Option<&'a (dyn Fn(Progress) + 'a)>,
    /// Looked at at least once per window.
    pub cancel: Option<&'a CancelToken>,
}

impl Hooks<'_> {
    pub(crate) fn step(&self, stage: Stage, done: usize, total: usize) -> Result<()> {
        if let Some(progress) = self.progress {
            progress(Progress { stage, done, total, fraction: stage.fraction(done, total) });
        }
        // After the report, so that a caller who cancels from it is obeyed at once.
        if self.cancel.is_some_and(CancelToken::is_cancelled) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The step that is running.
    pub stage: Stage,
    /// Parts of it that are done.
    pub done: usize,
    /// Parts it has.
    pub total: usize,
    /// Share of the whole run that is done, from 0 to 1.
    pub fraction: f64,
}

/// The steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Normalising and cropping the image.
    Preprocess,
    /// Segmenting the whole volume at low resolution.
    ZoomOut,
    /// Segmenting windows at full resolution.
    ZoomIn,
    /// Putting the mask on the image's grid.
    Finish,
}

impl Stage {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::ZoomOut => "zoom-out",
            Self::ZoomIn => "zoom-in",
            Self::Finish => "finish",
        }
    }

    fn fraction(self, done: usize, total: usize) -> f64 {
        let (start, share) = match self {
            Self::Preprocess => (0.0, 0.02),
            Self::ZoomOut => (0.02, 0.08),
            Self::ZoomIn => (0.1, 0.88),
            Self::Finish => (0.98, 0.02),
        };
        start + share * if total == 0 { 1.0 } else { done as f64 / total as f64 }
    }
}

/// Asks a run to stop, from any thread.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the runs that hold this token to stop. There is no way back; make a new token for the next run.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
