//! Whole volumes as the golden bundles have them.

use crate::Bundle;
use adaptmedseg_segment::reference::LabelledPoints;
use adaptmedseg_segment::volume::{ReadOptions, read};
use adaptmedseg_segment::{BoxPrompt, Hooks, Mode, Model, Point, Session, Space};
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

/// A whole volume as a bundle has it, prompts and draws included, in reference mode.
///
/// # Panics
/// If anything of it fails.
pub fn pipeline_run(bundle: &Bundle, data: &Path, model: &Model) -> Session {
    let path = data.join(bundle.json["volume"].as_str().expect("a file name"));
    let image = read(&path, &ReadOptions::default()).expect("a readable volume");
    let mut session = Session::new(model, Arc::new(image)).expect("a usable image");
    session.set_mode(Mode::Reference);
    set_prompts(&mut session, bundle);
    session.segment(&Hooks::default()).expect("a run");
    session
}
