//! Writes a checkpoint of synthetic weights, as the original's are published.
//!
//! ```text
//! cargo run --release -p adaptmedseg-parity --example synthetic_checkpoint -- MANIFEST SEED OUT.safetensors
//! ```
//! MANIFEST is such as `tests/parity/golden/manifest_mini.json`.

use adaptmedseg_parity::write_synthetic_checkpoint;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [manifest, seed, target] = &words[..] else {
        eprintln!("usage: synthetic_checkpoint MANIFEST SEED OUT.safetensors");
        return ExitCode::from(2);
    };
    let Ok(seed) = seed.parse() else {
        eprintln!("error: seed {seed:?} is no whole number");
        return ExitCode::from(2);
    };
    write_synthetic_checkpoint(manifest.as_ref(), seed, target.as_ref());
    ExitCode::SUCCESS
}
