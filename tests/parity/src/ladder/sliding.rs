//! The original's sliding window alone, on regions that are stored with the bundle.

use crate::{Bundle, Open, assert_close_slices, bundles, golden_model, skipped, tolerance};
use adaptmedseg_segment::Hooks;
use adaptmedseg_segment::reference::{LabelledPoints, PromptMap, Zoom, zoom_in};

/// The points of each window, without the rows that are filled up.
fn recorded_points(bundle: &Bundle, points: &str, labels: &str) -> Vec<LabelledPoints> {
    let shape = bundle.shape(points);
    let (places, labels) = (bundle.floats(points), bundle.floats(labels));
    let rows = places.chunks_exact(3 * shape[1]).zip(labels.chunks_exact(shape[1]));
    rows.map(|(places, labels)| {
        let points = places.chunks_exact(3).zip(labels).filter(|(_, label)| **label > -100.0);
        points.map(|(place, label)| ([place[0], place[1], place[2]], *label as i8)).collect()
    })
    .collect()
}

/// The sliding window alone, on the engine that `open` makes.
///
/// # Panics
/// Where a number differs from the reference's.
pub fn sliding_windows(open: Open) {
    for bundle in bundles("pipeline", "sliding_") {
        let model = golden_model(&bundle, open);
        let cases = bundle.json.as_object().expect("an object").iter().filter(|(_, value)| value["crop"].is_array());
        let mut compared = 0;
        for (case, facts) in cases {
            let key = |name: &str| format!("{case}.{name}");
            if !bundle.has(&key("image")) {
                continue;
            }
            let text = facts["text"].as_array().and_then(|texts| texts[0].as_str()).or(facts["text"].as_str());
            if text.is_some() && !model.description().supports_text {
                skipped(&format!("{} {case}: there is no tokenizer.json beside the bundles", bundle.name));
                continue;
            }
            let text = text.map(|text| model.engine().encode_text(text).expect("a known word"));
            let size: [usize; 3] = bundle.shape(&key("image"))[2..].try_into().expect("three axes");
            let voxels = size.iter().product();
            let map = bundle.bits(&key("prompt_map_bits"), voxels);
            let (prompt, points) = if facts["kind"] == "points" {
                (PromptMap::Points(map), recorded_points(&bundle, &key("points"), &key("point_labels")))
            } else {
                (PromptMap::Box(map), Vec::new())
            };
            let zoom = Zoom {
                image: &bundle.floats(&key("image")),
                size,
                coarse: &bundle.bits(&key("coarse_bits"), voxels),
                prompt: &prompt,
                text: text.as_ref(),
                overlap: bundle.json["overlap"].as_f64().expect("overlap"),
                adapted: None,
            };
            let mut draw = |window: usize, _: &[[usize; 3]]| points[window].clone();
            let zoomed = zoom_in(model.engine(), &zoom, &mut draw, &Hooks::default()).expect("a run");
            let starts: Vec<i64> = zoomed.starts.iter().flatten().map(|&start| start as i64).collect();
            assert_eq!(starts, bundle.integers(&key("starts")), "{case}: window origins");
            let boxes: Vec<f32> = zoomed.boxes.iter().flat_map(|corners| corners.expect("a box each")).collect();
            assert_eq!(boxes, bundle.floats(&key("boxes")), "{case}: boxes");
            let means: Vec<f32> = zoomed.means.iter().map(|&mean| mean as f32).collect();
            assert_close_slices(&bundle, &key("window_logit_mean"), &means, tolerance::PIPELINE);
            assert_close_slices(&bundle, &key("logits"), &zoomed.logits, tolerance::PIPELINE);
            compared += 1;
        }
        assert!(compared > 0, "{}: nothing compared", bundle.name);
    }
}
