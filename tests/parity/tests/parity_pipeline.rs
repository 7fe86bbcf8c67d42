//! Whole volumes in reference mode, and the original's sliding window alone, on the built-in engine.

use adaptmedseg_parity::{built_in, ladder};

#[test]
fn parity_whole_volume_in_reference_mode() {
    ladder::whole_volumes(&built_in);
}

#[test]
fn parity_sliding_window() {
    ladder::sliding_windows(&built_in);
}

#[test]
fn parity_windows_through_the_engine() {
    ladder::windows(&built_in);
}

#[test]
fn parity_training_through_the_engine() {
    ladder::training(&built_in);
}
