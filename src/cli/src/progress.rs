//! The progress bar: on a terminal only, never with `--quiet`.

use adaptmedseg_segment::{Hooks, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

const STEPS: u64 = 1000;

/// A bar on standard error, or nothing.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar, if anyone sees it.
    pub(crate) fn new(quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{msg:28} [{bar:40}] {percent:>3} %  {elapsed_precise}");
        let bar = ProgressBar::new(STEPS).with_style(style.expect("a valid template").progress_chars("=> "));
        Self(Some(bar))
    }

    /// Shows a step that cannot be divided.
    pub(crate) fn step(&self, message: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_message(message);
            bar.tick();
        }
    }

    /// Shows how far a long work has come.
    pub(crate) fn at(&self, fraction: f64, message: String) {
        if let Some(bar) = &self.0 {
            bar.set_position((fraction * STEPS as f64) as u64);
            bar.set_message(message);
        }
    }

    /// Leaves a line above the bar.
    pub(crate) fn line(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.println(text);
        }
    }

    /// Runs `work` with hooks that move the bar and obey Ctrl-C.
    pub(crate) fn during<T>(&self, work: impl FnOnce(&Hooks<'_>) -> T) -> T {
        let show = |progress: Progress| {
            if let Some(bar) = &self.0 {
                bar.set_position((progress.fraction * STEPS as f64) as u64);
                bar.set_message(format!("{} {}/{}", progress.stage.name(), progress.done, progress.total));
            }
        };
        work(&Hooks { progress: Some(&show), cancel: Some(crate::interrupt::token()) })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
