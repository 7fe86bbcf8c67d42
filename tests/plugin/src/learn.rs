//! Training: a state leads where it came from, and a fine-tuning run has the losses of the built-in engine.

use crate::compute::adapter;
use crate::{Target, mini, prompts, window};
use adaptmedseg_engine::{
    Engine, EngineOptions, Learns, ModelSource, Precision, Trainer, TrainerConfig, TrainingSample, WindowPrompts,
};
use adaptmedseg_model::adapter::{AdapterContext, LoraConfig};
use adaptmedseg_model::checkpoint::ModelFolder;
use adaptmedseg_model::prior::Variant;
use adaptmedseg_model::train::{LossKind, OptimiserConfig};
use adaptmedseg_parity::{built_in, model_of};
use adaptmedseg_segment::Model;
use adaptmedseg_study::{FineTuneHooks, FineTuneOptions, Method, Start, TrainingPair, adapter_config, finetune};
use adaptmedseg_volume::{Geometry, Volume};
use std::path::Path;
use std::sync::Arc;

/// How far a loss may be from the built-in engine's, relative.
const LOSS: f64 = 1e-4;

pub(crate) fn config() -> TrainerConfig {
    TrainerConfig {
        loss: LossKind::SegVol,
        optimiser: OptimiserConfig::default(),
        gradient_checkpointing: true,
        parallel_samples: false,
        average: None,
        modality_loss_weight: 0.0,
        cue_dropout: None,
    }
}

fn sample(engine: &dyn Engine, embedded: bool) -> TrainingSample {
    let image = window(engine, 9);
    let target = image.iter().map(|&value| f32::from(value > 0.7)).collect();
    let embedding = embedded.then(|| engine.encode_image(&image, None).expect("a window"));
    TrainingSample { image, target, prompts: vec![prompts(); 2], context: AdapterContext::default(), embedding }
}

/// A state leads where it came from; one of another adapter is refused, and changes nothing; the base does not learn.
///
/// # Panics
/// Where it is otherwise.
pub fn states(target: &Target) {
    let source = mini();
    let engine = target.open(&source);
    let sample = sample(engine.as_ref(), false);
    let samples = std::slice::from_ref(&sample);
    let new = || -> Box<dyn Trainer> {
        engine.trainer(Learns::Adapter(Box::new(adapter(&source))), config()).expect("it learns")
    };
    let mut trainer = new();
    assert!(trainer.encoder_learns());
    let first = trainer.step(samples, 1e-3).expect("finite");
    let state = trainer.state().expect("a state");
    assert_eq!(state.steps, 1);
    let second = trainer.step(samples, 1e-3).expect("finite");
    assert!(second.loss < first.loss, "{first:?} {second:?}");
    let mut other = new();
    other.restore(&state).expect("a state of its own");
    let again = other.step(samples, 1e-3).expect("finite");
    assert!((again.loss - second.loss).abs() < 1e-9 * second.loss, "{second:?} {again:?}");
    let before = other.adapter().expect("one").tensors();
    let mut damaged = state;
    let name = damaged.tensors.keys().find(|name| name.starts_with("parameter.")).expect("weights").clone();
    damaged.tensors.remove(&name);
    assert!(other.restore(&damaged).is_err(), "a state without {name}");
    assert_eq!(other.adapter().expect("one").tensors(), before);

    let learns = Learns::Weights(vec!["mask_decoder.".into()]);
    let mut weights = engine.trainer(learns, TrainerConfig { average: Some(0.9), ..config() }).expect("it learns");
    assert!(!weights.encoder_learns() && weights.adapter().is_err());
    let sample = self::sample(engine.as_ref(), true);
    weights.step(std::slice::from_ref(&sample), 1e-3).expect("finite");
    let evaluation = weights.evaluate(&sample).expect("finite");
    assert_eq!(evaluation.logits.len(), 2);
    let learned = weights.weights().expect("all");
    for (name, (_, elements)) in &learned {
        let (words, _) = source.tensors[name].bytes.as_chunks::<4>();
        let same = words.iter().zip(elements).all(|(word, value)| f32::from_le_bytes(*word) == *value);
        assert!(same || name.starts_with("mask_decoder."), "{name} has changed");
    }
    assert!(engine.trainer(Learns::Weights(Vec::new()), config()).is_err(), "nothing learns");
}

/// All weights of the built-in model learn from several windows a step, which a device may compute as one batch, with the
/// losses and gradients of the built-in engine, to 1e-4; opened in bfloat16, to 2 in a hundred.
///
/// # Panics
/// Where they do not.
pub fn weights_as_flex(target: &Target) {
    let source = ModelSource::of(&ModelFolder::builtin().expect("it is built in"));
    let bounding_box = Some([8.0, 9.0, 10.0, 37.0, 36.0, 40.0]);
    let mask = (0..48 * 48 * 48).map(|voxel| f32::from(voxel % 48 > 20)).collect();
    let asked = [
        WindowPrompts { bounding_box, ..WindowPrompts::default() },
        WindowPrompts { points: vec![([20.0, 22.0, 24.0], 1), ([4.0, 5.0, 6.0], 0)], ..WindowPrompts::default() },
        WindowPrompts { bounding_box, mask: Some(mask), ..WindowPrompts::default() },
        WindowPrompts { points: vec![([20.0, 22.0, 24.0], 1)], bounding_box, ..WindowPrompts::default() },
    ];
    let steps = |engine: &dyn Engine| {
        let options = TrainerConfig {
            loss: LossKind::Volume,
            gradient_checkpointing: false,
            parallel_samples: true,
            average: Some(0.9),
            cue_dropout: Some(0.3),
            ..config()
        };
        let mut trainer = engine.trainer(Learns::Weights(vec![String::new()]), options).expect("it learns");
        let sample = |(index, prompts): (usize, &WindowPrompts)| {
            let image = smooth(&window(engine, 20 + index as u32));
            let target = image.iter().map(|&value| f32::from(value > 0.5)).collect();
            let mut prompts = prompts.clone();
            // As an atlas would: it follows the image. One that contradicts the target has gradients that bfloat16 tells to 3 %.
            prompts.prior = (index == 0).then(|| image.clone());
            prompts.text = (index == 3).then(|| engine.encode_text("liver").expect("a text"));
            TrainingSample {
                image,
                target,
                prompts: vec![prompts],
                context: AdapterContext::default(),
                embedding: None,
            }
        };
        let samples: Vec<TrainingSample> = asked.iter().enumerate().map(sample).collect();
        let one = |_| trainer.step(&samples, 1e-4).map(|report| [report.loss, report.gradient_norm]).expect("finite");
        (0..3).flat_map(one).collect::<Vec<f64>>()
    };
    let wanted = steps(built_in(&source).as_ref());
    for (precision, most) in [(Precision::F32, LOSS), (Precision::Bf16, 0.02)] {
        let options = EngineOptions { precision, ..target.options() };
        let engine = target.plugin.open(&source, &options).unwrap_or_else(|error| panic!("{precision}: {error}"));
        let got = steps(engine.as_ref());
        let worst = wanted.iter().zip(&got).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
        println!("{precision}: losses and gradients {got:?}, largest relative difference {worst:.1e}");
        assert!(worst < most, "{precision}: {got:?}, built-in {wanted:?}");
    }
}

/// Means of neighbours along the last axis, so that there are regions.
fn smooth(window: &[f32]) -> Vec<f32> {
    (0..window.len()).map(|index| window[index.saturating_sub(6)..=index].iter().sum::<f32>() / 7.0).collect()
}

/// A bright ellipsoid in a darker volume, and its mask.
fn pair(subject: usize) -> TrainingPair {
    let size = [40, 36, 24];
    let inside = |voxel: usize| {
        let place = [voxel % 40, voxel / 40 % 36, voxel / 1440].map(|at| at as f64);
        let shift = subject as f64;
        let off = |axis: usize, centre: f64, radius: f64| ((place[axis] - centre) / radius).powi(2);
        off(0, 17.0 + shift, 9.0) + off(1, 18.0 - shift, 8.0) + off(2, 12.0, 6.0) < 1.0
    };
    let noise = |voxel: usize| (voxel * 7919 % 101) as f32;
    let count = size.iter().product();
    let voxels = (0..count).map(|voxel| noise(voxel) + if inside(voxel) { 400.0 } else { 100.0 }).collect();
    TrainingPair {
        image: Arc::new(Volume::new(Geometry::with_size(size), voxels).expect("a volume")),
        mask: (0..count).map(|voxel| u8::from(inside(voxel))).collect(),
        label: Some("kidney".into()),
        task: Some("kidney".into()),
        modality: Some("MR".into()),
        subject: Some(subject.to_string()),
        split: None,
        name: subject.to_string(),
    }
}

/// Every loss of a short run, in order, and that of the adapter which is kept.
fn losses(model: &Model, method: Method, freeze_encoder: bool, out: &Path) -> Vec<f64> {
    let pairs = [pair(0), pair(1), pair(2)];
    let options = FineTuneOptions {
        steps: 4,
        // Small, for AdamW makes whole steps of gradients that are rounding and no more; the losses still move.
        learning_rate: 1e-4,
        warmup_steps: 1,
        validate_every: 2,
        checkpoint_every: 2,
        seed: 3,
        ..FineTuneOptions::default()
    };
    let lora = LoraConfig { rank: 2, ..LoraConfig::default() };
    let lora = if freeze_encoder { lora.only("mask_decoder.") } else { lora };
    let config = adapter_config(method, Variant::Hermes, lora, &pairs);
    let adapter = model.new_adapter(config, options.seed).expect("it fits");
    let report = finetune(model, adapter, &pairs, &options, out, Start::Overwrite, &FineTuneHooks::default());
    let report = report.expect("a run");
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let mut losses: Vec<f64> = lines.filter_map(|line| line["loss"].as_f64()).collect();
    losses.extend([report.before.loss, report.best.loss]);
    losses
}

/// A fine-tuning run of the built-in model has the losses it has on the built-in engine, to 1e-4.
///
/// # Panics
/// Where it has not.
pub fn finetune_as_flex(target: &Target) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = ModelSource::of(&ModelFolder::builtin().expect("it is built in"));
    let mine = model_of("builtin", &source, &|source| target.open(source));
    let flex = model_of("builtin", &source, &built_in);
    for (method, frozen) in [(Method::LoraPrior, false), (Method::Lora, true)] {
        let [wanted, got] = [&flex, &mine].map(|model| losses(model, method, frozen, &folder.path().join("adapter")));
        assert_eq!(wanted.len(), got.len());
        assert!(wanted.len() > 4, "{wanted:?}");
        let worst = wanted.iter().zip(&got).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
        println!("{method:?}, encoder frozen: {frozen}: losses {got:?}, largest relative difference {worst:.1e}");
        assert!(worst < LOSS, "{method:?}: {got:?}, built-in {wanted:?}");
    }
}
