//! How a model is opened: on which device, with how many threads, in which arithmetic.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How to open a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// `auto` for the library to choose, `cpu`, or another name of [`devices`](crate::devices).
    pub device: String,
    /// Threads to compute with; all cores unless given.
    pub threads: Option<usize>,
    /// Arithmetic of the large products.
    pub precision: Precision,
    /// The file of the plugin that the device is of, or the folder it lies in; none: where plugins are looked for.
    pub plugin: Option<PathBuf>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { device: "auto".into(), threads: None, precision: Precision::default(), plugin: None }
    }
}

impl EngineOptions {
    /// On a device of this name.
    pub fn on(device: &str) -> Self {
        Self { device: device.into(), ..Self::default() }
    }

    /// Threads to compute with, at least one.
    pub fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }
}

/// The number format in which a network multiplies. Weights on disk, windows, logits and sums stay float32, and so does
/// everything that learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32.
    #[default]
    F32,
    /// bfloat16: float32's range with 8 bits of precision.
    Bf16,
    /// float16: 11 bits of precision, and nothing above 65504.
    F16,
}

impl Precision {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// Its name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| text.eq_ignore_ascii_case(precision.name()));
        found.ok_or_else(|| format!("unknown precision {text:?}: f32, bf16 or f16"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert_eq!("BF16".parse(), Ok(Precision::Bf16));
        assert_eq!("f64".parse::<Precision>(), Err("unknown precision \"f64\": f32, bf16 or f16".into()));
        assert_eq!(EngineOptions::default().precision, Precision::F32);
    }
}
