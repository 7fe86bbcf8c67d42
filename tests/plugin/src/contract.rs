//! What a plugin says of itself, and what it refuses.

use crate::{Target, mini, window};
use adaptmedseg_engine::{EngineOptions, ErrorKind, ImageEmbedding, ModelSource, WindowPrompts};
use adaptmedseg_model::checkpoint::ModelFolder;
use adaptmedseg_parity::skipped;
use serde_json::json;

/// Its name and version; its devices, whose names begin with its name; the model it opened.
///
/// # Panics
/// Where it does not.
pub fn about(target: &Target) {
    let Target { plugin, device } = target;
    assert!(!plugin.name().is_empty() && !plugin.version().is_empty(), "{plugin:?}");
    let devices = plugin.devices().expect("a list");
    assert!(devices.iter().any(|info| info.name == *device), "{device} is not among {devices:?}");
    for info in &devices {
        assert!(info.name.starts_with(&format!("{}:", plugin.name())), "{info:?}");
        assert!(!info.description.is_empty(), "{info:?}");
    }
    let engine = target.open(&mini());
    let info = engine.info();
    assert!(!info.engine.is_empty(), "{info:?}");
    assert!(info.threads <= 2 && info.threads > 0, "more threads than asked: {info:?}");
    assert!(info.embedding_bytes > 0, "{info:?}");
    engine.release_memory();
}

/// What a device keeps for later is held beside what is in use, and can be had back. In a process of its own.
///
/// # Panics
/// If not.
pub fn memory(target: &Target) {
    let engine = target.open(&ModelSource::of(&ModelFolder::builtin().expect("it is built in")));
    let asked = WindowPrompts { bounding_box: Some([8.0, 9.0, 10.0, 37.0, 36.0, 40.0]), ..WindowPrompts::default() };
    let decode = || {
        let embedding = engine.encode_image(&window(engine.as_ref(), 3), None).expect("a window");
        engine.decode(&embedding, &asked, None).expect("a mask").logits
    };
    let first = decode();
    let before = engine.memory();
    engine.release_memory();
    let after = engine.memory();
    if let (Some(before), Some(after)) = (before, after) {
        assert!(before.reserved_bytes > before.allocated_bytes, "nothing is kept: {before:?}");
        assert!(after.reserved_bytes < before.reserved_bytes, "nothing was given back: {before:?}, {after:?}");
        assert!(after.allocated_bytes <= after.reserved_bytes, "{after:?}");
    } else {
        assert_eq!((before, after), (None, None));
        skipped(&format!("{} does not tell its memory", target.device));
    }
    assert_eq!(decode(), first);
}

fn refused(target: &Target, source: &ModelSource, options: &serde_json::Value, word: &str) {
    let error = target.plugin.open_with(source, &options.to_string()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{options}: {error}");
    assert!(error.to_string().contains(word), "{options}: {error} does not name {word}");
}

/// Unknown devices and options are named; a damaged model is none; after all that it still works.
///
/// # Panics
/// Where it does otherwise.
pub fn refusals(target: &Target) {
    let source = mini();
    let nowhere = format!("{}:nowhere", target.plugin.name());
    refused(target, &source, &json!({ "device": nowhere }), "nowhere");
    refused(target, &source, &json!({ "device": target.device, "turbo": true }), "turbo");
    refused(target, &source, &json!({ "device": target.device, "precision": "f8" }), "f8");

    let mut none = source.clone();
    none.tensors.clear();
    let error = target.plugin.open(&none, &target.options()).map(drop).unwrap_err();
    assert!(!error.to_string().is_empty());

    let engine = target.open(&source);
    let whole = window(engine.as_ref(), 0);
    let error = engine.encode_image(&whole[1..], None).map(drop).unwrap_err();
    assert!(error.to_string().contains("voxels"), "{error}");
    let embedding = engine.encode_image(&whole, None).expect("a window");
    let error = engine.decode(&embedding, &WindowPrompts::default(), None).map(drop).unwrap_err();
    assert!(error.to_string().contains("prompt"), "{error}");
    // What another engine made is not taken for one's own.
    let other = target.open(&source);
    let error = other.decode(&embedding, &crate::prompts(), None).map(drop).unwrap_err();
    assert!(error.to_string().contains("another engine"), "{error}");
    let error = engine.decode(&ImageEmbedding::new(7), &crate::prompts(), None).map(drop).unwrap_err();
    assert!(error.to_string().contains("another engine"), "{error}");
    engine.decode(&embedding, &crate::prompts(), None).expect("its own");
    drop((engine, other));
    // The last of a model: its embedding may go after it.
    drop(embedding);
}

/// A previous mask or an atlas' expectation of the wrong size is named, and what fits is taken afterwards.
///
/// # Panics
/// Where it is not.
pub fn volumes_that_do_not_fit(target: &Target) {
    let engine = target.open(&ModelSource::of(&ModelFolder::builtin().expect("it is built in")));
    let whole = window(engine.as_ref(), 0);
    let embedding = engine.encode_image(&whole, None).expect("a window");
    let boxed = || WindowPrompts { points: Vec::new(), ..crate::prompts() };
    let short = Some(vec![0.5; whole.len() - 1]);
    for (what, prompts) in [
        ("mask", WindowPrompts { mask: short.clone(), ..boxed() }),
        ("prior", WindowPrompts { prior: short, ..boxed() }),
    ] {
        let error = engine.decode(&embedding, &prompts, None).map(drop).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("voxels"), "{error}");
    }
    let fits = Some(vec![0.5; whole.len()]);
    let prompts = WindowPrompts { mask: fits.clone(), prior: fits, ..boxed() };
    engine.decode(&embedding, &prompts, None).expect("volumes of the window's size");
}

/// A plugin without texts, adapters or training says so, instead of crashing.
///
/// # Panics
/// Where it does not.
pub fn what_is_missing_is_said(target: &Target) {
    let engine = target.open(&mini());
    let unsupported = |error: adaptmedseg_engine::Error| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.hint().is_some(), "{error}");
    };
    unsupported(engine.encode_text("liver").map(drop).unwrap_err());
    unsupported(engine.check_text("liver").unwrap_err());
    unsupported(engine.attach(&crate::compute::adapter(&mini()), false).map(drop).unwrap_err());
    let learns = adaptmedseg_engine::Learns::Weights(vec![String::new()]);
    unsupported(engine.trainer(learns, crate::learn::config()).map(drop).unwrap_err());
    assert_eq!(engine.memory(), None);
    let half = EngineOptions { precision: adaptmedseg_engine::Precision::F16, ..target.options() };
    let error = target.plugin.open(&mini(), &half).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
