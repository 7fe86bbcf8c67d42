//! Windows, texts, adapters, from one thread and from many.

use crate::{Target, largest_difference, mini, prompts, window};
use adaptmedseg_engine::{Adapted, Decoded, Engine, ModelSource};
use adaptmedseg_model::Device;
use adaptmedseg_model::adapter::{Adapter, AdapterConfig, AdapterContext, LoraConfig};
use adaptmedseg_parity::skipped;
use std::thread;

fn decode(engine: &dyn Engine, seed: u32) -> Decoded {
    let embedding = engine.encode_image(&window(engine, seed), None).expect("a window");
    engine.decode(&embedding, &prompts(), None).expect("prompts")
}

/// The same window gives the same logits, whatever was computed between, and embeddings outlive their engine.
///
/// # Panics
/// Where they do not.
pub fn embeddings(target: &Target) {
    let engine = target.open(&mini());
    let first = engine.encode_image(&window(engine.as_ref(), 1), None).expect("a window");
    let logits = engine.decode(&first, &prompts(), None).expect("prompts").logits;
    let other = decode(engine.as_ref(), 2).logits;
    assert!(largest_difference(&logits, &other) > 0.0, "two windows, one result");
    assert_eq!(engine.decode(&first, &prompts(), None).expect("prompts").logits, logits);
    let kept = first.clone();
    drop((engine, first));
    drop(kept);
}

/// Many threads at once get what one gets.
///
/// # Panics
/// Where they do not.
pub fn concurrent_calls(target: &Target) {
    let engine = target.open(&mini());
    let alone: Vec<Vec<f32>> = (0..4).map(|seed| decode(engine.as_ref(), seed).logits).collect();
    thread::scope(|scope| {
        for (seed, alone) in (0..).zip(&alone) {
            let engine = engine.as_ref();
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(&decode(engine, seed).logits, alone, "window {seed}");
                }
            });
        }
    });
}

/// A known text has an encoding, others are refused.
///
/// # Panics
/// Where they are not.
pub fn texts(target: &Target) {
    let source = mini();
    if source.tokenizer.is_none() {
        skipped("there is no tokenizer.json beside the bundles");
        let error = target.open(&source).encode_text("liver").map(drop).unwrap_err();
        assert!(error.to_string().contains("tokenizer"), "{error}");
        return;
    }
    let engine = target.open(&source);
    engine.check_text("left kidney").expect("known words");
    for text in ["", "\u{1F41B}\u{1F41B}"] {
        assert!(engine.check_text(text).is_err() && engine.encode_text(text).is_err(), "{text:?}");
    }
    let text = engine.encode_text("liver").expect("a known word");
    let embedding = engine.encode_image(&window(engine.as_ref(), 3), None).expect("a window");
    let with = adaptmedseg_engine::WindowPrompts { text: Some(text), ..prompts() };
    let [with, without] = [with, prompts()].map(|prompts| engine.decode(&embedding, &prompts, None).expect("prompts"));
    assert!(largest_difference(&with.logits, &without.logits) > 0.0, "the text changes nothing");
}

/// An adapter for a model: corrections of two layers' width with weights that do something.
pub(crate) fn adapter(source: &ModelSource) -> Adapter {
    let config =
        AdapterConfig { lora: Some(LoraConfig { rank: 2, ..LoraConfig::default() }), ..AdapterConfig::default() };
    let untrained = Adapter::new(config.clone(), &source.config, 5, &Device::flex()).expect("it fits");
    let mut tensors = untrained.tensors();
    for (index, (_, elements)) in tensors.values_mut().enumerate() {
        let wave = |at: usize| ((at * 37 + index * 11) % 101) as f32 / 5050.0 - 0.01;
        (0..elements.len()).for_each(|at| elements[at] += wave(at));
    }
    Adapter::from_tensors(config, &source.config, &tensors, &Device::flex()).expect("the same tensors")
}

/// An adapter changes the result, merged or not, and the base's is the base's, bit for bit, with one beside it.
///
/// # Panics
/// Where it is not.
pub fn adapters(target: &Target) {
    let source = mini();
    let engine = target.open(&source);
    let base = decode(engine.as_ref(), 4).logits;
    let context = AdapterContext::default();
    let run = |merge| {
        let adapter = engine.attach(&adapter(&source), merge).expect("it fits");
        let embedding = engine.encode_image(&window(engine.as_ref(), 4), Some(&adapter)).expect("a window");
        let adapted = Adapted { adapter: &adapter, context: &context };
        engine.decode(&embedding, &prompts(), Some(adapted)).expect("prompts").logits
    };
    let [beside, merged] = [false, true].map(run);
    assert!(largest_difference(&base, &beside) > 1e-2, "the adapter changes nothing");
    assert!(largest_difference(&beside, &merged) < 1e-2, "merged it is another one");
    assert_eq!(decode(engine.as_ref(), 4).logits, base);
    let other = adaptmedseg_model::checkpoint::ModelFolder::builtin().expect("it is built in");
    let other = adapter(&ModelSource::of(&other));
    assert!(engine.attach(&other, false).is_err(), "an adapter of another model");
}
