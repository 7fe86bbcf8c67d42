//! Prints as JSON what the evaluation computes, for comparison with other programs (`tests/study/test_metrics.py`):
//!
//! * `metrics_dump metrics TRUTH MASK TOLERANCE_MM`: the measures of a mask;
//! * `metrics_dump shift IMAGE NAME:SEVERITY SEED OUT [MASK MASK_OUT]`: a shifted image, its mask, what was drawn;
//! * `metrics_dump statistics`: statistics of the lists in a JSON object on standard input, by its field `ask`.

use adaptmedseg_segment::volume::{ReadOptions, Volume, WriteOptions, read, read_labels, write};
use adaptmedseg_study::metrics::measure;
use adaptmedseg_study::shift::Shift;
use adaptmedseg_study::statistics::{bootstrap_mean, quantile, spearman, wilcoxon};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match arguments[..] {
        ["metrics", truth, mask, tolerance] => metrics(truth, mask, tolerance.parse()?)?,
        ["shift", image, shift, seed, out, ref masks @ ..] => shifted(image, shift, seed.parse()?, out, masks)?,
        ["statistics"] => statistics(&serde_json::from_reader(std::io::stdin())?)?,
        _ => return Err("usage: metrics_dump metrics|shift|statistics ...".into()),
    };
    println!("{told}");
    Ok(())
}

fn mask(path: &str) -> Outcome<Volume<u8>> {
    let labels = read_labels(Path::new(path), &ReadOptions::default())?;
    let data = labels.data.iter().map(|&label| u8::from(label != 0)).collect();
    Ok(Volume { geometry: labels.geometry, data })
}

fn metrics(truth: &str, found: &str, tolerance: f64) -> Outcome<Value> {
    let (truth, found) = (mask(truth)?, mask(found)?);
    Ok(serde_json::to_value(measure(&truth.data, &found.data, &truth.geometry, tolerance))?)
}

fn shifted(image: &str, shift: &str, seed: u64, out: &str, masks: &[&str]) -> Outcome<Value> {
    let image = read(Path::new(image), &ReadOptions::default())?;
    let shift: Shift = shift.parse()?;
    let truth = masks.first().map(|path| mask(path)).transpose()?;
    let regions: Option<Vec<u32>> = truth.as_ref().map(|mask| mask.data.iter().map(|&voxel| voxel.into()).collect());
    let shifted = shift.apply(&image, regions.as_deref(), seed, &["test", "case"])?;
    write(Path::new(out), &shifted.image, &WriteOptions::default())?;
    if let (Some(truth), Some(out)) = (truth, masks.get(1)) {
        let carried = Volume { geometry: shifted.image.geometry.clone(), data: shifted.carry(&truth.data) };
        write(Path::new(out), &carried, &WriteOptions::default())?;
    }
    Ok(json!(shifted.parameters))
}

fn statistics(input: &Value) -> Outcome<Value> {
    let list = |name: &str| -> Outcome<Vec<f64>> { Ok(serde_json::from_value(input[name].clone())?) };
    Ok(match input["ask"].as_str() {
        Some("wilcoxon") => serde_json::to_value(wilcoxon(&list("values")?))?,
        Some("quantile") => json!(quantile(&list("values")?, input["share"].as_f64().ok_or("no share")?)),
        Some("spearman") => json!(spearman(&list("a")?.into_iter().zip(list("b")?).collect::<Vec<_>>())),
        Some("bootstrap") => {
            let clusters: Vec<Vec<f64>> = serde_json::from_value(input["clusters"].clone())?;
            json!(bootstrap_mean(&clusters, 20_000, 1))
        }
        _ => return Err("unknown question".into()),
    })
}
