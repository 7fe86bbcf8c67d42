//! What is known of one mask.

use crate::complexity::ImageComplexity;
use crate::dataset::Part;
use crate::metrics::Metrics;
use serde::{Deserialize, Serialize};

/// The name of the base without an adapter, and of the image without a shift.
pub(super) const NONE: &str = "none";

/// What became of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// A mask was made and measured.
    Measured,
    /// A mask was made, but the structure is not there: only volumes are known.
    EmptyTruth,
    /// No mask was made; the reason says why.
    Skipped,
}

/// One mask: which it is, and how good. Numbers are rounded to six decimals, so that they are the same read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The data set.
    pub dataset: String,
    /// The case in it.
    pub case: String,
    /// Who was scanned.
    pub subject: String,
    /// `CT` or `MR`.
    pub modality: String,
    /// The contrast, such as `T2`.
    pub contrast: Option<String>,
    /// What the case is for.
    pub part: Part,
    /// The structure.
    pub structure: String,
    /// The adapter; `none` for the base.
    pub adapter: String,
    /// The kind of prompt.
    pub prompt: String,
    /// How far points and faces of the box were moved at most, millimetres.
    pub jitter_mm: f64,
    /// The shift; `none` for the image as it is.
    pub shift: String,
    /// What became of the prompt.
    pub status: Status,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// How good the mask is.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Of the image, shifted as it was.
    #[serde(flatten)]
    pub complexity: ImageComplexity,
    /// How much the structure stands out from its surroundings, in standard deviations.
    pub foreground_contrast: Option<f64>,
}

/// The header of `results.csv`.
pub(super) const CSV_HEADER: &str = "dataset,case,subject,modality,contrast,part,structure,adapter,prompt,jitter_mm,shift,\
     status,reason,truth_ml,found_ml,dice,nsd,hd95_mm,volume_error_percent,edge_density,entropy_bits,foreground_contrast";

/// What a mask cost; not part of the results, which are the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds from prompt to mask.
    pub seconds: f64,
    /// Windows that were encoded for it; the others were kept from earlier prompts.
    pub windows_encoded: usize,
    /// The most memory the process has held so far.
    pub peak_memory_bytes: Option<u64>,
}

fn rounded(value: f64) -> f64 {
    // Not -0, which reads back as 0.
    (value * 1e6).round() / 1e6 + 0.0
}

impl Row {
    /// Rounds all measures.
    pub(super) fn rounded(mut self) -> Self {
        let metrics = &mut self.metrics;
        for value in [&mut metrics.truth_ml, &mut metrics.found_ml] {
            *value = rounded(*value);
        }
        for value in [&mut metrics.dice, &mut metrics.nsd, &mut metrics.hd95_mm, &mut metrics.volume_error_percent] {
            *value = value.map(rounded);
        }
        self.complexity.edge_density = rounded(self.complexity.edge_density);
        self.complexity.entropy_bits = rounded(self.complexity.entropy_bits);
        self.foreground_contrast = self.foreground_contrast.map(rounded);
        self
    }

    /// A line of `results.csv`; what is absent is empty.
    pub(super) fn csv(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let (metrics, complexity) = (&self.metrics, &self.complexity);
        [
            self.dataset.clone(),
            self.case.clone(),
            self.subject.clone(),
            self.modality.clone(),
            self.contrast.clone().unwrap_or_default(),
            word(self.part),
            self.structure.clone(),
            self.adapter.clone(),
            self.prompt.clone(),
            self.jitter_mm.to_string(),
            self.shift.clone(),
            word(self.status),
            self.reason.clone().unwrap_or_default(),
            metrics.truth_ml.to_string(),
            metrics.found_ml.to_string(),
            number(metrics.dice),
            number(metrics.nsd),
            number(metrics.hd95_mm),
            number(metrics.volume_error_percent),
            complexity.edge_density.to_string(),
            complexity.entropy_bits.to_string(),
            number(self.foreground_contrast),
        ]
        .map(quoted)
        .join(",")
    }
}

/// The name of a value that is one word.
fn word(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A field of a CSV file (RFC 4180).
pub(super) fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}
