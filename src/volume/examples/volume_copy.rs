//! Reads images and writes them again, for comparison with other readers and writers.
//!
//! ```text
//! cargo run --release -p adaptmedseg-volume --example volume_copy < LIST
//! ```
//! Each line of LIST is `IN<tab>OUT<tab>CHANNEL`; a channel of `-` means none. The copy is float32 and, where both are
//! NIfTI, keeps the header's geometry. Prints one JSON object per line.

use adaptmedseg_volume::{ReadOptions, WriteOptions, read, read_info, write_like};
use serde_json::json;
use std::path::Path;

fn main() {
    for line in std::io::stdin().lines() {
        let line = line.expect("UTF-8");
        let [from, to, channel] = line.split('\t').collect::<Vec<_>>().try_into().expect("IN, OUT and CHANNEL");
        println!("{}", copy(Path::new(from), Path::new(to), channel.parse().ok()));
    }
}

fn copy(from: &Path, to: &Path, channel: Option<usize>) -> serde_json::Value {
    let run = || {
        let info = read_info(from)?;
        let volume = read(from, &ReadOptions { channel, ..Default::default() })?;
        write_like(to, &volume, from, &WriteOptions { overwrite: true })?;
        let grid = &info.geometry;
        Ok(json!({
            "size": grid.size,
            "spacing": grid.spacing,
            "origin": grid.origin,
            "direction": grid.direction,
            "scalar": info.scalar.name(),
            "channels": info.channels,
            "axis_codes": grid.axis_codes(),
        }))
    };
    run().unwrap_or_else(|error: adaptmedseg_volume::Error| json!({ "error": error.to_string() }))
}
