//! One window: encode, encode a text, decode every mixture of prompts.

use crate::{Bundle, Open, assert_close_slices, bundles, golden_source, skipped, tolerance};
use adaptmedseg_engine::{Engine, TextEmbedding, WindowPrompts};

/// Windows of the stage bundles, on the engine that `open` makes.
///
/// # Panics
/// Where a number differs from the reference's.
pub fn windows(open: Open) {
    for bundle in bundles("stage", "stage_") {
        let source = golden_source(&bundle);
        let engine = open(&source);
        let text = text(&bundle, engine.as_ref());
        let window: Vec<f32> = bundle.floats("input.image_u8").iter().map(|value| value / 255.0).collect();
        let embedding = engine.encode_image(&window, None).expect("a window of the right size");
        let mut compared = 0;
        for name in combinations(&bundle) {
            let has = |kind: &str| name.split('_').any(|part| part == kind);
            if has("text") && text.is_none() {
                continue;
            }
            let prompts = WindowPrompts {
                points: if has("points") { points(&bundle) } else { Vec::new() },
                bounding_box: has("box").then(|| bundle.floats("prompt.box").try_into().expect("six numbers")),
                text: text.clone().filter(|_| has("text")),
                ..WindowPrompts::default()
            };
            let decoded = engine.decode(&embedding, &prompts, None).expect("prompts");
            assert_close_slices(&bundle, &format!("combo.{name}.logits"), &decoded.logits, tolerance::LOGITS);
            assert_close_slices(&bundle, &format!("combo.{name}.iou"), &decoded.iou, tolerance::IOU);
            compared += 1;
        }
        assert!(compared > 0, "{}: nothing compared", bundle.name);
    }
}

fn text(bundle: &Bundle, engine: &dyn Engine) -> Option<TextEmbedding> {
    if !bundle.root.join("tokenizer.json").is_file() {
        skipped(&format!("{}: there is no tokenizer.json beside the bundles", bundle.name));
        return None;
    }
    Some(engine.encode_text("liver").expect("a known word"))
}

fn points(bundle: &Bundle) -> Vec<([f32; 3], i8)> {
    let (places, labels) = (bundle.floats("prompt.points"), bundle.floats("prompt.point_labels"));
    places.chunks_exact(3).zip(labels).map(|(place, label)| ([place[0], place[1], place[2]], label as i8)).collect()
}

/// The mixtures of prompts of one window; an engine decodes one at a time.
fn combinations(bundle: &Bundle) -> Vec<String> {
    let names = bundle.json["tensors"].as_object().expect("tensors").keys();
    let found = names.filter_map(|name| name.strip_prefix("combo.")?.strip_suffix(".iou"));
    found.filter(|name| !name.contains("batch")).map(str::to_owned).collect()
}
