//! Whole volumes in reference mode: file, pre-processing, zoom-out, region, zoom-in, logits, mask.

use crate::{Bundle, Open, assert_close_slices, bundles, data_folder, golden_model, tolerance};
use adaptmedseg_segment::reference::LabelledPoints;
use adaptmedseg_segment::volume::preprocess::{bounding_region, crop_slice};
use adaptmedseg_segment::volume::{ReadOptions, read};
use adaptmedseg_segment::{BoxPrompt, Hooks, Mode, Point, Session, Space};
use std::path::Path;
use std::sync::Arc;

fn triple(values: &[f32]) -> [f64; 3] {
    [0, 1, 2].map(|axis| f64::from(values[axis]))
}

fn set_prompts(session: &mut Session, bundle: &Bundle) {
    let text = bundle.json["text"].as_str().or(bundle.json["text"].as_array().and_then(|texts| texts[0].as_str()));
    session.set_text(text).expect("a known word");
    if bundle.has("prompt.box") {
        let corners = bundle.floats("prompt.box");
        let corners = [triple(&corners[..3]), triple(&corners[3..])];
        session.set_box(Some(BoxPrompt { corners, space: Space::Model })).expect("a box");
    }
    if bundle.has("prompt.points") {
        let (places, labels) = (bundle.floats("prompt.points"), bundle.floats("prompt.point_labels"));
        for (place, label) in places.chunks_exact(3).zip(labels) {
            let point = Point { position: triple(place), space: Space::Model, positive: label == 1.0 };
            session.add_point(point).expect("a point");
        }
        session.set_reference_draws(Some(recorded_draws(bundle)));
    }
}

fn recorded_draws(bundle: &Bundle) -> Vec<LabelledPoints> {
    let per_window = bundle.shape("windows.points")[1];
    let (places, labels) = (bundle.floats("windows.points"), bundle.floats("windows.point_labels"));
    let windows = places.chunks_exact(3 * per_window).zip(labels.chunks_exact(per_window));
    windows
        .map(|(places, labels)| {
            let points = places.chunks_exact(3).zip(labels).filter(|(_, label)| **label > -100.0);
            points.map(|(place, label)| ([place[0], place[1], place[2]], *label as i8)).collect()
        })
        .collect()
}

/// A session that has segmented the bundle's volume, and in how many windows.
fn run(bundle: &Bundle, data: &Path, open: Open) -> (Session, u64) {
    let path = data.join(bundle.json["volume"].as_str().expect("a file name"));
    let image = read(&path, &ReadOptions::default()).expect("a readable volume");
    let model = golden_model(bundle, open);
    let mut session = Session::new(&model, Arc::new(image)).expect("a usable image");
    session.set_mode(Mode::Reference);
    set_prompts(&mut session, bundle);
    let windows = session.segment(&Hooks::default()).expect("a run").report().windows_total as u64;
    (session, windows)
}

/// The masks of [`whole_volumes`] are the reference's, to 0.999 of Dice, on an engine that computes in half precision.
///
/// # Panics
/// Where one is not.
pub fn masks_in_half_precision(open: Open) {
    let bundles = bundles("pipeline", "pipe_mini");
    let Some(data) = data_folder() else { return };
    for bundle in bundles {
        let (session, _) = run(&bundle, &data, open);
        let whole = session.logits().expect("just computed");
        let crop = bounding_region(&whole.data, whole.geometry.size, |&logit| logit > -100.0).expect("a foreground");
        let mask = crop_slice(&session.outcome().expect("just computed").mask().data, whole.geometry.size, &crop);
        let wanted = bundle.bits("final.mask_bits", mask.len());
        let both = mask.iter().zip(&wanted).filter(|(voxel, wanted)| **voxel == 1 && **wanted).count();
        let [mine, theirs] =
            [mask.iter().filter(|voxel| **voxel == 1).count(), wanted.iter().filter(|wanted| **wanted).count()];
        let dice = 2.0 * both as f64 / (mine + theirs) as f64;
        println!("{}: Dice {dice:.5} with the reference in float32", bundle.name);
        assert!(dice >= 0.999, "{}: Dice {dice}", bundle.name);
    }
}

/// Whole volumes in reference mode, on the engine that `open` makes.
///
/// # Panics
/// Where a number differs from the reference's.
pub fn whole_volumes(open: Open) {
    let bundles = bundles("pipeline", "pipe_");
    let Some(data) = data_folder() else { return };
    for bundle in bundles {
        let (session, windows) = run(&bundle, &data, open);
        assert_eq!(Some(windows), bundle.json["num_windows"].as_u64(), "{}: windows", bundle.name);

        // The reference keeps to the cropped foreground, (D, H, W) of which x is the fastest axis.
        let whole = session.logits().expect("just computed");
        let size = whole.geometry.size;
        let crop = bounding_region(&whole.data, size, |&logit| logit > -100.0).expect("a foreground");
        let [w, h, d] = crop.size();
        assert_eq!(serde_json::json!([d, h, w]), bundle.json["image_shape"], "{}: foreground", bundle.name);
        let logits = crop_slice(&whole.data, size, &crop);
        assert_close_slices(&bundle, "final.logits", &logits, tolerance::PIPELINE);

        let wanted = bundle.bits("final.mask_bits", logits.len());
        let mask = crop_slice(&session.outcome().expect("just computed").mask().data, size, &crop);
        // A voxel whose logit is smaller than the error of logits may fall to either side.
        let flipped = (0..logits.len())
            .filter(|&voxel| (mask[voxel] == 1) != wanted[voxel] && logits[voxel].abs() > tolerance::PIPELINE.1);
        assert_eq!(flipped.count(), 0, "{}: mask", bundle.name);
        let near = (0..logits.len()).filter(|&voxel| (mask[voxel] == 1) != wanted[voxel]).count();
        println!("{}: {near} of {} mask voxels on the other side of zero", bundle.name, logits.len());
    }
}
