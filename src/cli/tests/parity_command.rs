//! The command from end to end: a checkpoint imported, a volume segmented, against the original's logits and mask.

use adaptmedseg_parity::write_synthetic_checkpoint;
use adaptmedseg_parity::{Bundle, assert_close_slices, bundles, data_folder, skipped, tolerance};
use adaptmedseg_segment::volume::preprocess::{bounding_region, crop_slice};
use adaptmedseg_segment::volume::{ReadOptions, read, read_info};
use std::path::Path;
use std::process::Command;

/// Runs the command, which must succeed.
fn run(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_adaptmedseg")).args(arguments).output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn join(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

fn prompts(bundle: &Bundle) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(text) = bundle.json["text"][0].as_str() {
        words.extend(["--text".to_owned(), text.to_owned()]);
    }
    if bundle.has("prompt.box") {
        words.push(format!("--box={}", join(&bundle.floats("prompt.box"))));
    }
    words
}

#[test]
fn parity_imported_checkpoint_segments_as_the_original() {
    let bundles = bundles("pipeline", "pipe_mini");
    let Some(data) = data_folder() else { return };
    for bundle in bundles {
        if bundle.has("prompt.points") {
            // The original draws points at random in the zoom-in; `parity_pipeline` repeats its draws.
            continue;
        }
        let tokenizer = bundle.root.join("tokenizer.json");
        if !tokenizer.is_file() {
            return skipped(&format!("{} is absent", tokenizer.display()));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let (checkpoint, model, mask, logits) =
            (place("model.safetensors"), place("model"), place("mask.nii.gz"), place("logits.nii.gz"));
        write_synthetic_checkpoint(&bundle.manifest(), bundle.seed(), Path::new(&checkpoint));
        run(&["import", &checkpoint, "--tokenizer", tokenizer.to_str().expect("UTF-8"), "--out", &model]);

        let image = data.join(bundle.json["volume"].as_str().expect("a file name"));
        let mut words = vec!["segment", "--model", &model, "--image", image.to_str().expect("UTF-8")];
        words.extend(["--mode", "reference", "--space", "model", "--out", &mask, "--logits", &logits]);
        let prompts = prompts(&bundle);
        words.extend(prompts.iter().map(String::as_str));
        run(&words);

        let [mask, logits] = [mask, logits].map(|path| read(path.as_ref(), &ReadOptions::default()).expect("written"));
        let grid = read_info(&image).expect("a header").geometry;
        assert!(mask.geometry.is_close(&grid, 1e-6) && logits.geometry.is_close(&grid, 1e-6), "{}", bundle.name);
        let crop = bounding_region(&logits.data, grid.size, |&logit| logit > -100.0).expect("a foreground");
        let logits = crop_slice(&logits.data, grid.size, &crop);
        assert_close_slices(&bundle, "final.logits", &logits, tolerance::PIPELINE);
        let wanted = bundle.bits("final.mask_bits", logits.len());
        let got = crop_slice(&mask.data, grid.size, &crop);
        // A voxel whose logit is smaller than the error of logits may fall to either side.
        let flipped = (0..logits.len())
            .filter(|&voxel| (got[voxel] == 1.0) != wanted[voxel] && logits[voxel].abs() > tolerance::PIPELINE.1);
        assert_eq!(flipped.count(), 0, "{}: mask", bundle.name);
    }
}
