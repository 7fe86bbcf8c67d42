//! How a mask came about: the report, and the one line for people.

use adaptmedseg_segment::adapters::AdapterConfig;
use adaptmedseg_segment::volume::{Geometry, ImageInfo, NonFinite};
use adaptmedseg_segment::{Description, MemoryEstimate, Outcome, peak_memory_bytes};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// All there is to say of one run.
pub(crate) struct Run<'a> {
    pub info: &'a ImageInfo,
    pub image: &'a Path,
    pub channel: Option<usize>,
    pub model_path: &'a Path,
    pub model: &'a Description,
    pub adapter: Option<&'a AdapterConfig>,
    pub task: Option<&'a str>,
    pub non_finite: NonFinite,
    pub outcome: &'a Outcome,
    pub mask: &'a Path,
    pub estimate: MemoryEstimate,
    pub read_seconds: f64,
    pub open_seconds: f64,
    pub write_seconds: f64,
    pub total_seconds: f64,
}

/// A grid; positions in LPS millimetres, `direction` row by row.
pub(crate) fn geometry_json(geometry: &Geometry) -> Value {
    json!({
        "size": geometry.size,
        "spacing_mm": geometry.spacing,
        "origin_lps_mm": geometry.origin,
        "direction_lps": geometry.direction,
        "axis_codes": geometry.axis_codes(),
    })
}

/// A model and where it runs.
pub(crate) fn model_json(model: &Description, path: &Path) -> Value {
    json!({
        "name": model.name,
        "license": model.license,
        "path": path,
        "image_size_dhw": model.image_size,
        "parameters": model.parameters,
        "weight_bytes": model.weight_bytes,
        "supports_text": model.supports_text,
    })
}

/// Indented, with a line end.
pub(crate) fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

impl Run<'_> {
    /// The report.
    pub(crate) fn json(&self) -> Value {
        let report = self.outcome.report();
        let seconds = &report.seconds;
        json!({
            "adaptmedseg": env!("CARGO_PKG_VERSION"),
            "model": model_json(self.model, self.model_path),
            "device": self.model.device,
            "engine": self.model.engine,
            "threads": self.model.threads,
            "precision": self.model.precision,
            "image": {
                "path": self.image,
                "channel": self.channel,
                "format": self.info.format,
                "scalar": self.info.scalar.name(),
                "geometry": geometry_json(&self.info.geometry),
                "non_finite_voxels": {
                    "nan": self.non_finite.nan,
                    "plus_infinity": self.non_finite.pos_inf,
                    "minus_infinity": self.non_finite.neg_inf,
                },
            },
            "mode": report.mode,
            "modality": report.modality,
            "adapter": self.adapter.map(|adapter| json!({ "name": adapter.name, "license": adapter.license })),
            "task": self.task,
            "prompts": report.prompts,
            "windows": {
                "total": report.windows_total,
                "encoded": report.windows_encoded,
                "cached": report.windows_cached,
            },
            "region_ijk": report.region,
            "masks": [{
                "path": self.mask,
                "label": 1,
                "voxels": self.outcome.voxels(),
                "volume_ml": self.outcome.volume_ml(),
            }],
            "seconds": {
                "read": self.read_seconds,
                "open_model": self.open_seconds,
                "preprocess": seconds.preprocess,
                "encode": seconds.encode,
                "text": seconds.text,
                "decode": seconds.decode,
                "stitch": seconds.stitch,
                "segment": seconds.total,
                "write": self.write_seconds,
                "total": self.total_seconds,
            },
            "memory_bytes": { "estimate": self.estimate, "peak": peak_memory_bytes() },
            "notes": report.notes,
        })
    }

    /// For people.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "{}: {} voxels, {:.2} ml, {:.1} s on {} with {} threads\n",
            self.mask.display(),
            self.outcome.voxels(),
            self.outcome.volume_ml(),
            self.total_seconds,
            self.model.device,
            self.model.threads,
        );
        for note in &self.outcome.report().notes {
            let _ = writeln!(text, "note: {note}");
        }
        let NonFinite { nan, pos_inf, neg_inf } = self.non_finite;
        if self.non_finite.total() > 0 {
            let _ = writeln!(
                text,
                "note: {nan} NaN, {pos_inf} +Inf, {neg_inf} -Inf: +Inf was taken as the largest finite value, the \
                 others as the smallest"
            );
        }
        if self.outcome.voxels() == 0 {
            text.push_str("note: the mask is empty\n");
        }
        text
    }
}
