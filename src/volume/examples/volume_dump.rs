//! Prints what the library makes of an image file, as JSON, and optionally writes it again.
//!
//! ```text
//! volume_dump FILE [--channel N] [--labels] [--copy OUT [--like SOURCE] [--as TYPE] [--overwrite]]
//! ```
//! `--labels` reads whole numbers. `--as` is one of u8 i8 u16 i16 u32 i32 f32 f64 (default: i32 for labels, else f32).
//! `--like` gives OUT the header geometry of SOURCE. A failure is printed as JSON too, and ends in exit code 1.

use adaptmedseg_volume::{Error, ReadOptions, Result, Scalar, Volume, WriteOptions};
use adaptmedseg_volume::{read, read_info, read_labels, write, write_like};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Default)]
struct Arguments {
    file: PathBuf,
    channel: Option<usize>,
    labels: bool,
    copy: Option<PathBuf>,
    like: Option<PathBuf>,
    kind: Option<String>,
    overwrite: bool,
}

fn arguments() -> Arguments {
    let mut found = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--channel" => found.channel = Some(next().parse().expect("--channel needs a number")),
            "--labels" => found.labels = true,
            "--copy" => found.copy = Some(next().into()),
            "--like" => found.like = Some(next().into()),
            "--as" => found.kind = Some(next()),
            "--overwrite" => found.overwrite = true,
            _ => found.file = word.into(),
        }
    }
    found
}

fn main() -> ExitCode {
    let (value, code) = match dump(&arguments()) {
        Ok(value) => (value, ExitCode::SUCCESS),
        Err(error) => (failure(&error), ExitCode::FAILURE),
    };
    println!("{value}");
    code
}

fn failure(error: &Error) -> Value {
    json!({ "error": error.to_string(), "kind": format!("{:?}", error.kind()), "hint": error.hint() })
}

fn dump(arguments: &Arguments) -> Result<Value> {
    let info = read_info(&arguments.file)?;
    let options = ReadOptions { channel: arguments.channel, ..Default::default() };
    let numbers: Volume<f64> = if arguments.labels {
        map(read_labels(&arguments.file, &options)?, f64::from)
    } else {
        map(read(&arguments.file, &options)?, f64::from)
    };
    let grid = &numbers.geometry;
    let value = json!({
        "size": grid.size,
        "spacing": grid.spacing,
        "origin": grid.origin,
        "direction": grid.direction,
        "axis_codes": grid.axis_codes(),
        "scalar": info.scalar.name(),
        "channels": info.channels,
        "format": info.format,
        "scaling": info.scaling,
        "sum": numbers.data.iter().sum::<f64>(),
        // Enough to see every axis of a small image; JSON has no NaN, which becomes null.
        "first": numbers.data.iter().take(16).collect::<Vec<_>>(),
    });
    let kind = arguments.kind.as_deref().unwrap_or(if arguments.labels { "i32" } else { "f32" });
    match kind {
        "u8" => copy(arguments, map(numbers, |value| value as u8)),
        "i8" => copy(arguments, map(numbers, |value| value as i8)),
        "u16" => copy(arguments, map(numbers, |value| value as u16)),
        "i16" => copy(arguments, map(numbers, |value| value as i16)),
        "u32" => copy(arguments, map(numbers, |value| value as u32)),
        "i32" => copy(arguments, map(numbers, |value| value as i32)),
        "f32" => copy(arguments, map(numbers, |value| value as f32)),
        "f64" => copy(arguments, numbers),
        other => panic!("--as {other}: no such type"),
    }?;
    Ok(value)
}

fn map<A, B>(volume: Volume<A>, to: impl Fn(A) -> B) -> Volume<B> {
    Volume { geometry: volume.geometry, data: volume.data.into_iter().map(to).collect() }
}

fn copy<T: Scalar>(arguments: &Arguments, volume: Volume<T>) -> Result<()> {
    let Some(target) = &arguments.copy else { return Ok(()) };
    let options = WriteOptions { overwrite: arguments.overwrite };
    match &arguments.like {
        Some(source) => write_like(target, &volume, source, &options),
        None => write(target, &volume, &options),
    }
}
