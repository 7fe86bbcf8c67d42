//! Training as a trainer shows it: losses, the gradient's norm, AdamW steps, what an adapter is after them.

use crate::{
    Bundle, Open, TrainingCase, assert_close_slices, bundles, golden_source, plain_name, skipped, synthetic_adapter,
    tolerance,
};
use adaptmedseg_engine::{Engine, Learns, Trainer, TrainerConfig, TrainingSample, WindowPrompts};
use adaptmedseg_model::adapter::{Adapter, AdapterConfig, LoraConfig};
use adaptmedseg_model::train::{LossKind, OptimiserConfig};
use serde_json::Value;

/// What is compared with a kind of bundle.
type Kind = fn(&TrainingCase, &dyn Engine, &TrainingSample);

/// How far a loss may be from the reference's, relative.
const LOSS: f64 = 1e-4;

fn config(checkpointing: bool) -> TrainerConfig {
    TrainerConfig {
        loss: LossKind::SegVol,
        // As the bundles train.
        optimiser: OptimiserConfig { weight_decay: 0.0, clip_norm: None, ..Default::default() },
        gradient_checkpointing: checkpointing,
        parallel_samples: false,
        average: None,
        modality_loss_weight: 0.0,
        cue_dropout: None,
    }
}

fn lora() -> AdapterConfig {
    AdapterConfig { lora: Some(LoraConfig::default()), ..Default::default() }
}

/// The training bundles of a trainer's own: the supervised loss of the base, a LoRA adapter's outputs, five AdamW steps.
///
/// # Panics
/// Where a number differs from the reference's.
pub fn training(open: Open) {
    let mut compared = 0;
    for bundle in bundles("training", "train_") {
        let kinds: [(&str, Kind); 3] =
            [("_supervised", supervised), ("_c_lora", adapter_outputs), ("_adamw", adamw_steps)];
        let Some((_, compare)) = kinds.iter().find(|(kind, _)| bundle.name.contains(kind)) else { continue };
        let Some(case) = TrainingCase::open(bundle) else { continue };
        let engine = open(&golden_source(&case.bundle));
        compare(&case, engine.as_ref(), &sample(&case, engine.as_ref()));
        compared += 1;
    }
    if compared == 0 {
        skipped("there is no training bundle that a trainer can repeat");
    }
}

/// Five AdamW steps of a LoRA adapter alone.
///
/// # Panics
/// Where a number differs from the reference's.
pub fn training_steps(open: Open) {
    let found = bundles("training", "train_").into_iter().filter(|bundle| bundle.name.contains("_adamw"));
    for case in found.filter_map(TrainingCase::open) {
        let engine = open(&golden_source(&case.bundle));
        adamw_steps(&case, engine.as_ref(), &sample(&case, engine.as_ref()));
    }
}

/// The sample of a bundle as an engine takes it.
fn sample(case: &TrainingCase, engine: &dyn Engine) -> TrainingSample {
    let voxels = |name: &str| case.bundle.floats(name);
    let text = case.combinations.iter().any(|name| name.contains("text")).then(|| {
        let name = case.bundle.json["text"].as_str().or(case.bundle.json["task"].as_str()).unwrap_or("liver");
        engine.encode_text(name).expect("a known word")
    });
    let prompts = case.combinations.iter().zip(&case.sample.prompts).map(|(name, prompts)| WindowPrompts {
        points: prompts.points.clone(),
        bounding_box: prompts.bounding_box,
        text: text.clone().filter(|_| name.contains("text")),
        ..WindowPrompts::default()
    });
    TrainingSample {
        image: voxels("input.image"),
        target: voxels("label"),
        prompts: prompts.collect(),
        context: case.sample.context.clone(),
        embedding: None,
    }
}

fn close(bundle: &Bundle, what: &str, got: f64, wanted: &Value) {
    let wanted = wanted.as_f64().expect("a number");
    println!("{} {what}: {got}, reference {wanted}", bundle.name);
    assert!((got - wanted).abs() <= LOSS * wanted.abs(), "{} {what}: {got}, reference {wanted}", bundle.name);
}

fn supervised(case: &TrainingCase, engine: &dyn Engine, sample: &TrainingSample) {
    for checkpointing in [false, true] {
        let trainer = engine.trainer(Learns::Weights(vec![String::new()]), config(checkpointing));
        let report = trainer.expect("weights learn").step(std::slice::from_ref(sample), 1e-4).expect("finite");
        close(&case.bundle, "loss", report.loss, &case.bundle.json["total_loss"]);
        // Dead weights of the original have no place in the network here.
        let norms = case.bundle.json["grad_norms"].as_object().expect("norms");
        let alive = norms.iter().filter(|(name, _)| !name.contains("mask_downscaling"));
        let norm = alive.map(|(_, norm)| norm.as_f64().expect("a number").powi(2)).sum::<f64>().sqrt();
        close(&case.bundle, "gradient norm", report.gradient_norm, &Value::from(norm));
    }
}

fn trainer(engine: &dyn Engine, adapter: &Adapter, checkpointing: bool) -> Box<dyn Trainer> {
    engine.trainer(Learns::Adapter(Box::new(adapter.clone())), config(checkpointing)).expect("an adapter learns")
}

fn adapter_outputs(case: &TrainingCase, engine: &dyn Engine, sample: &TrainingSample) {
    let adapter = synthetic_adapter(lora(), &case.config, &case.bundle);
    let evaluation = trainer(engine, &adapter, false).evaluate(sample).expect("finite");
    for (name, logits) in case.combinations.iter().zip(&evaluation.logits) {
        assert_close_slices(&case.bundle, &format!("logits.{name}"), logits, tolerance::LOGITS);
    }
    // Attached, it gives what it gave while it learned.
    for merge in [false, true] {
        let attached = engine.attach(&adapter, merge).expect("it fits");
        let embedding = engine.encode_image(&sample.image, Some(&attached)).expect("a window");
        let adapted = adaptmedseg_engine::Adapted { adapter: &attached, context: &sample.context };
        for (name, prompts) in case.combinations.iter().zip(&sample.prompts) {
            let decoded = engine.decode(&embedding, prompts, Some(adapted)).expect("prompts");
            assert_close_slices(&case.bundle, &format!("logits.{name}"), &decoded.logits, tolerance::LOGITS);
        }
    }
}

fn adamw_steps(case: &TrainingCase, engine: &dyn Engine, sample: &TrainingSample) {
    let bundle = &case.bundle;
    let facts = bundle.json["lora_only"].clone();
    let losses = facts["loss_before_each_step_then_after"].as_array().expect("losses");
    let norms = facts["global_grad_norms"].as_array().expect("norms");
    let adapter = synthetic_adapter(lora(), &case.config, bundle);
    let mut trainer = trainer(engine, &adapter, true);
    for step in 0..norms.len() {
        let report = trainer.step(std::slice::from_ref(sample), 1e-4).expect("finite");
        close(bundle, "loss", report.loss, &losses[step]);
        close(bundle, "gradient norm", report.gradient_norm, &norms[step]);
    }
    close(bundle, "loss after", trainer.evaluate(sample).expect("finite").loss, &losses[norms.len()]);
    let weights = trainer.adapter().expect("one").tensors();
    let prefix = "lora_only.after5.";
    for name in bundle.json["tensors"].as_object().expect("tensors").keys() {
        let Some(name) = name.strip_prefix(prefix) else { continue };
        let name = name.trim_end_matches(".idx").trim_end_matches(".val");
        let (_, got) = weights.get(&plain_name(name)).unwrap_or_else(|| panic!("no weight {name}"));
        assert_close_slices(bundle, &format!("{prefix}{name}"), got, (1e-6, 1e-6));
    }
}
