//! Training: losses, gradients and AdamW steps, of the base, of LoRA adapters and of context priors.

use adaptmedseg_model::adapter::{Adapter, AdapterConfig, LoraConfig};
use adaptmedseg_model::prior::{PriorConfig, Variant};
use adaptmedseg_model::train::{Learner, LearnerConfig, LossKind, OptimiserConfig};
use adaptmedseg_model::{Device, NamedTensors};
use adaptmedseg_parity::{
    Bundle, TrainingCase, assert_close, assert_close_slices, bundles, plain_name, recipe_tensor, skipped,
    synthetic_adapter, tolerance,
};
use serde_json::Value;

/// A part of the base that has no place in the network here: dead weights of the original.
const DEAD: &str = "mask_downscaling";

fn lora() -> AdapterConfig {
    AdapterConfig { lora: Some(LoraConfig::default()), ..Default::default() }
}

fn learner(case: &TrainingCase, adapter: Option<Adapter>, base: &[&str], checkpointing: bool) -> Learner {
    let config = LearnerConfig {
        loss: LossKind::SegVol,
        // As the bundles train.
        optimiser: OptimiserConfig { weight_decay: 0.0, clip_norm: None, ..Default::default() },
        gradient_checkpointing: checkpointing,
        parallel_samples: false,
        average: None,
        modality_loss_weight: 0.0,
        base: base.iter().map(|&prefix| prefix.to_owned()).collect(),
    };
    Learner::new(case.network.clone(), case.config.clone(), adapter, config, Device::flex()).expect("something learns")
}

fn cases(kind: &str) -> impl Iterator<Item = TrainingCase> {
    let mut found = bundles("training", "train_");
    found.retain(|bundle| bundle.name.contains(kind));
    if found.is_empty() {
        skipped(&format!("there is no bundle training/train_*{kind}*"));
    }
    found.into_iter().filter_map(TrainingCase::open)
}

/// Compares the losses, every gradient's norm, and the gradients that are stored.
fn compare(case: &TrainingCase, learner: &Learner) {
    let bundle = &case.bundle;
    let (losses, gradients) = learner.gradients(&case.sample).expect("finite");
    let wanted = bundle.json["total_loss"].as_f64().expect("a number");
    assert!(
        (losses.total - wanted).abs() < 1e-5 * wanted,
        "{}: loss {}, reference {wanted}",
        bundle.name,
        losses.total
    );
    for (name, (dice, bce)) in case.combinations.iter().zip(&losses.parts) {
        if let Some(part) = bundle.json["parts_dice_bce"][name].as_array() {
            let close = |got: &f64, wanted: &Value| (got - wanted.as_f64().expect("a number")).abs() < 1e-5;
            assert!(close(dice, &part[0]) && close(bce, &part[1]), "{} {name}: {dice} {bce}, {part:?}", bundle.name);
        }
    }
    compare_norms(bundle, &gradients);
    for stored in bundle.json["tensors"].as_object().expect("tensors").keys() {
        let Some(name) = stored.strip_prefix("grad.").filter(|name| !name.ends_with(".idx")) else { continue };
        let name = name.strip_suffix(".val").unwrap_or(name);
        let (_, gradient) = gradients.get(&plain_name(name)).unwrap_or_else(|| panic!("no gradient of {name}"));
        let largest = gradient.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let limit = (1e-4 * largest).max(1e-5);
        assert_close_slices(bundle, &format!("grad.{name}"), gradient, (limit, limit));
    }
}

fn compare_norms(bundle: &Bundle, gradients: &NamedTensors) {
    let norms = bundle.json["grad_norms"].as_object().expect("norms");
    let mut compared = 0;
    for (name, wanted) in norms.iter().filter(|(name, _)| !name.contains(DEAD)) {
        let wanted = wanted.as_f64().expect("a number");
        let Some((_, gradient)) = gradients.get(&plain_name(name)) else {
            panic!("{}: no gradient of {name}", bundle.name)
        };
        let norm = gradient.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        assert!(
            (norm - wanted).abs() <= 1e-4 * wanted.max(1e-3),
            "{} {name}: norm {norm}, reference {wanted}",
            bundle.name
        );
        compared += 1;
    }
    // Nothing learns that the reference does not know of.
    assert_eq!(compared, gradients.len(), "{}: gradients", bundle.name);
    println!("{}: {compared} gradient norms agree", bundle.name);
}

#[test]
fn parity_supervised_loss_and_gradients_of_the_base() {
    for case in cases("_supervised") {
        for checkpointing in [false, true] {
            compare(&case, &learner(&case, None, &[""], checkpointing));
        }
    }
}

#[test]
fn parity_lora_forward_loss_and_gradients() {
    for case in cases("_c_lora") {
        let adapter = synthetic_adapter(lora(), &case.config, &case.bundle);
        let network = case.network.with_adapter(&adapter).expect("it fits");
        let encoded = network.image_encoder().forward(case.sample.image.clone());
        assert_close(&case.bundle, "image_encoder.out", encoded, tolerance::VIT);
        for checkpointing in [false, true] {
            // The original leaves the prompt encoder free to learn beside the adapter; the product does not.
            let learner = learner(&case, Some(adapter.clone()), &["prompt_encoder."], checkpointing);
            let (_, logits) = learner.evaluate(&case.sample).expect("finite");
            for (name, logits) in case.combinations.iter().zip(logits) {
                assert_close(&case.bundle, &format!("logits.{name}"), logits, tolerance::LOGITS);
            }
            compare(&case, &learner);
        }
    }
}

#[test]
fn parity_five_adamw_steps() {
    for case in cases("_adamw") {
        for (kind, base) in [("lora_and_prompt_encoder", &["prompt_encoder."][..]), ("lora_only", &[])] {
            let adapter = synthetic_adapter(lora(), &case.config, &case.bundle);
            let mut learner = learner(&case, Some(adapter), base, false);
            let facts = case.bundle.json[kind].clone();
            let losses = facts["loss_before_each_step_then_after"].as_array().expect("losses");
            let norms = facts["global_grad_norms"].as_array().expect("norms");
            let close = |got: f64, wanted: &Value, what: &str| {
                let wanted = wanted.as_f64().expect("a number");
                assert!((got - wanted).abs() < 1e-4 * wanted, "{kind} {what}: {got}, reference {wanted}");
            };
            for step in 0..norms.len() {
                let (loss, norm) = learner.step(std::slice::from_ref(&case.sample), 1e-4).expect("finite");
                close(loss.total, &losses[step], "loss");
                close(norm, &norms[step], "gradient norm");
            }
            let (after, _) = learner.evaluate(&case.sample).expect("finite");
            close(after.total, &losses[norms.len()], "loss after");
            let mut weights = learner.adapter().expect("one").tensors();
            weights.extend(learner.state().into_iter().filter_map(|(name, tensor)| {
                Some((name.strip_prefix("parameter.").filter(|name| name.starts_with("prompt_"))?.to_owned(), tensor))
            }));
            let prefix = format!("{kind}.after5.");
            let stored: Vec<String> =
                case.bundle.json["tensors"].as_object().expect("tensors").keys().cloned().collect();
            for name in stored.iter().filter_map(|name| name.strip_prefix(&prefix)) {
                let name = name.trim_end_matches(".idx").trim_end_matches(".val");
                let (_, got) = weights.get(&plain_name(name)).unwrap_or_else(|| panic!("no weight {name}"));
                assert_close_slices(&case.bundle, &format!("{prefix}{name}"), got, (1e-6, 1e-6));
            }
        }
    }
}

/// A weight of the context-prior model by its name here: the tensor, and the row of it that is meant.
fn prior_name(name: &str, prior: &PriorConfig) -> (String, Option<usize>) {
    let name = name.trim_start_matches("model.");
    let row = |table: &str, row| (format!("prior.additive.{table}"), Some(row));
    if let Some(task) = name.strip_prefix("context_prior_pool.task_prior_embeddings.") {
        return row("task_prior", prior.task_row(Some(task)));
    }
    if let Some(modality) = name.strip_prefix("context_prior_pool.modality_prior_embeddings.") {
        return row("modality_prior", prior.modality_row(Some(modality)));
    }
    let name = name
        .replace("mha.in_proj_", "in_proj.")
        .replace("mha.out_proj", "out_proj")
        .replace("ffn.0.", "ffn1.")
        .replace("ffn.2.", "ffn2.")
        .replace("mlp.0.", "fc1.")
        .replace("mlp.2.", "fc2.");
    if name.starts_with("prior_fusion.") || name.starts_with("prototype_mlp.") {
        (format!("prior.additive.{name}"), None)
    } else {
        (plain_name(&name), None)
    }
}

/// The adapter of a context-prior bundle: corrections, pool and fusion by their recipes, both gates open.
fn prior_adapter(case: &TrainingCase) -> (Adapter, PriorConfig) {
    let list = |name: &str| -> Vec<String> {
        let names = case.bundle.json[name].as_array().expect("a list").iter();
        names.map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    let prior = PriorConfig {
        variant: Variant::Additive,
        modalities: list("modalities"),
        tasks: list("tasks"),
        modality_tokens: 1,
        ..Default::default()
    };
    let config = AdapterConfig { prior: Some(prior.clone()), ..lora() };
    let device = Device::flex();
    let mut tensors = Adapter::new(config.clone(), &case.config, 0, &device).expect("it fits").tensors();
    for entry in case.bundle.json["extra_tensors"].as_array().expect("recipes") {
        let (_, elements) = recipe_tensor(entry, case.bundle.seed());
        let (name, row) = prior_name(entry["name"].as_str().expect("a name"), &prior);
        let (_, whole) = tensors.get_mut(&name).unwrap_or_else(|| panic!("no weight {name}"));
        let start = row.unwrap_or(0) * elements.len();
        whole[start..start + elements.len()].copy_from_slice(&elements);
    }
    for gate in ["prior.gate_image", "prior.gate_mask"] {
        tensors.get_mut(gate).expect("a gate").1 = vec![1.0];
    }
    (Adapter::from_tensors(config, &case.config, &tensors, &device).expect("the same tensors"), prior)
}

#[test]
fn parity_context_prior_forward_and_gradients() {
    for case in cases("_context_prior") {
        let bundle = &case.bundle;
        let (adapter, prior) = prior_adapter(&case);
        let network = case.network.with_adapter(&adapter).expect("it fits");
        let encoded = network.image_encoder().forward(case.sample.image.clone());
        assert_close(bundle, "image_encoder.out", encoded.clone(), tolerance::VIT);
        let fused = network.fuse(encoded, &case.sample.context);
        assert_close(bundle, "fusion.image", fused.image, tolerance::DECODER);
        let prototype = fused.effect.tokens.expect("this variant's") * 10.0;
        assert_close(bundle, "prototype", prototype, tolerance::DECODER);

        let learner = learner(&case, Some(adapter), &["prompt_encoder."], false);
        let (_, logits) = learner.evaluate(&case.sample).expect("finite");
        for (name, logits) in case.combinations.iter().zip(logits) {
            let name = format!("logits.{}", name.replace('+', "_"));
            if bundle.has(&name) {
                assert_close(bundle, &name, logits, tolerance::LOGITS);
            }
        }
        let (losses, gradients) = learner.gradients(&case.sample).expect("finite");
        let wanted = bundle.json["total_loss"].as_f64().expect("a number");
        assert!((losses.total - wanted).abs() < 1e-5 * wanted, "loss {}, reference {wanted}", losses.total);
        let find = |name: &str| {
            let (ours, row) = prior_name(name, &prior);
            let (shape, whole) = gradients.get(&ours).unwrap_or_else(|| panic!("no gradient of {name} ({ours})"));
            row.map_or(whole.clone(), |row| {
                let width = whole.len() / shape[0];
                whole[row * width..][..width].to_vec()
            })
        };
        for (name, wanted) in bundle.json["grad_norms"].as_object().expect("norms") {
            let norm = find(name).iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            let wanted = wanted.as_f64().expect("a number");
            assert!((norm - wanted).abs() <= 1e-4 * wanted.max(1e-3), "{name}: norm {norm}, reference {wanted}");
        }
        for stored in bundle.json["tensors"].as_object().expect("tensors").keys() {
            let Some(name) = stored.strip_prefix("grad.").filter(|name| !name.ends_with(".idx")) else { continue };
            let name = name.trim_end_matches(".val");
            let gradient = find(name);
            let limit = 1e-4 * gradient.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            assert_close_slices(bundle, &format!("grad.{name}"), &gradient, (limit, limit));
        }
    }
}

#[test]
fn parity_peft_adapter_gives_its_recorded_output() {
    for case in cases("_c_lora") {
        let folder = case.bundle.root.join(format!("peft_{}", case.bundle.config_name()));
        if !folder.is_dir() {
            skipped(&format!("{} is absent", folder.display()));
            continue;
        }
        let adapter = Adapter::import_peft(&folder, &case.config, &Device::flex()).expect("a PEFT adapter");
        let scale = case.bundle.json["scaling"].as_f64().expect("a number");
        let lora = adapter.config().lora.as_ref().expect("corrections");
        assert!((lora.scale() - scale).abs() < 1e-6, "scale {}, reference {scale}", lora.scale());
        let (_, logits) = learner(&case, Some(adapter), &[], false).evaluate(&case.sample).expect("finite");
        for (name, logits) in case.combinations.iter().zip(logits) {
            assert_close(&case.bundle, &format!("logits.{name}"), logits, tolerance::LOGITS);
        }
    }
}
