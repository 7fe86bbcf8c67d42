//! Whole runs, on a network small enough that they take no time.

use adaptmedseg_engine::{BurnEngine, EngineOptions, Precision};
use adaptmedseg_model::RawTensor;
use adaptmedseg_model::adapter::{ADAPTER_WEIGHTS_FILE, LoraConfig};
use adaptmedseg_model::checkpoint::expected_tensors;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::prior::Variant;
use adaptmedseg_segment::{CancelToken, Description, Model};
use adaptmedseg_study::{
    Error, FineTuneHooks, FineTuneOptions, FineTuneProgress, FineTuneReport, Method, Result, Split, Start,
    TrainingPair, adapter_config, finetune,
};
use adaptmedseg_volume::{Geometry, Volume};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

fn model() -> Model {
    let mut config = ModelConfig::default();
    let image = &mut config.image_encoder;
    (image.image_size, image.patch_size) = ([8, 16, 16], [4, 8, 8]);
    (image.embed_dim, image.num_layers, image.num_heads, image.mlp_dim) = (32, 1, 2, 32);
    let text = &mut config.text_encoder;
    (text.num_layers, text.vocab_size, text.width, text.num_heads, text.mlp_dim) = (1, 64, 16, 2, 16);
    (config.mask_decoder.mlp_dim, config.mask_decoder.num_heads) = (32, 2);
    let tensors = expected_tensors(&config);
    let source = |name: &str| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name)?;
        let seed = name.bytes().fold(1u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let count: usize = tensor.shape.iter().product();
        let norm = name.contains("norm") && name.ends_with("weight");
        let mut state = seed;
        let values: Vec<f32> = (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let unit = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
                if norm { 1.0 } else { 0.4 * unit }
            })
            .collect();
        Some(RawTensor::from_f32(tensor.shape.clone(), &values))
    };
    let description = Description {
        name: "small".into(),
        license: "none".into(),
        device: "cpu".into(),
        engine: "flex".into(),
        threads: 1,
        precision: Precision::F32,
        parameters: 0,
        weight_bytes: 0,
        image_size: config.image_encoder.image_size,
        supports_text: false,
    };
    let options = EngineOptions { threads: Some(1), ..EngineOptions::on("cpu") };
    let engine = BurnEngine::new(config.clone(), None, &options, source).expect("every tensor");
    Model::with_engine(Box::new(engine), description)
}

/// A bright box in a darker volume, and its mask.
fn pair(subject: &str, corner: usize) -> TrainingPair {
    let size = [20, 18, 12];
    let inside = |voxel: usize| {
        let place = [voxel % 20, voxel / 20 % 18, voxel / 360];
        (0..3).all(|axis| (corner..corner + [9, 8, 7][axis]).contains(&place[axis]))
    };
    let noise = |voxel: usize| (voxel * 7919 % 101) as f32;
    let voxels: Vec<f32> =
        (0..20 * 18 * 12).map(|voxel| noise(voxel) + if inside(voxel) { 400.0 } else { 100.0 }).collect();
    TrainingPair {
        image: Arc::new(Volume::new(Geometry::with_size(size), voxels).expect("a volume")),
        mask: (0..20 * 18 * 12).map(|voxel| u8::from(inside(voxel))).collect(),
        label: Some("box".into()),
        task: Some("box".into()),
        modality: Some("MR".into()),
        subject: Some(subject.into()),
        split: None,
        name: subject.into(),
    }
}

fn options() -> FineTuneOptions {
    FineTuneOptions {
        steps: 6,
        learning_rate: 1e-2,
        warmup_steps: 2,
        validate_every: 2,
        checkpoint_every: 2,
        seed: 3,
        ..FineTuneOptions::default()
    }
}

fn run(
    model: &Model,
    method: Method,
    pairs: &[TrainingPair],
    options: &FineTuneOptions,
    out: &Path,
    start: Start,
    hooks: &FineTuneHooks,
) -> Result<FineTuneReport> {
    let lora = LoraConfig { rank: 2, ..LoraConfig::default() };
    let config = adapter_config(method, Variant::Hermes, lora, pairs);
    let adapter = model.new_adapter(config, options.seed)?;
    finetune(model, adapter, pairs, options, out, start, hooks)
}

fn weights(out: &Path) -> Vec<u8> {
    std::fs::read(out.join(ADAPTER_WEIGHTS_FILE)).expect("an adapter")
}

/// The metrics without the time they took.
fn metrics(out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let untimed = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        value.as_object_mut().expect("an object").remove("seconds");
        value.to_string()
    };
    text.lines().map(untimed).collect()
}

#[test]
fn a_run_lowers_the_loss_and_leaves_an_adapter_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, out) = (model(), folder.path().join("mr"));
    let options = FineTuneOptions { steps: 30, validate_every: 10, ..options() };
    let pairs = [pair("a", 2), pair("b", 3), pair("c", 4)];
    for method in [Method::Lora, Method::Prior, Method::LoraPrior] {
        let report =
            run(&model, method, &pairs, &options, &out, Start::Overwrite, &FineTuneHooks::default()).expect("a run");
        assert!(
            report.best.loss < 0.98 * report.before.loss,
            "{method:?}: {} {}",
            report.before.loss,
            report.best.loss
        );
        assert_eq!((report.training_volumes, report.steps), (2, 30), "one of three subjects is held out");
        assert_eq!(report.best.dice_by_prompt.len(), 3, "without a tokenizer there is no text");
        let adapter = model.load_adapter(&out, false).expect("it opens");
        model.load_adapter(&out.join("last"), false).expect("so does the last one");
        assert_eq!(adapter.config().prior.is_some(), method != Method::Lora);
        let names: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

#[test]
fn a_cancelled_run_resumed_is_the_run_that_was_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, pairs, options) = (model(), [pair("a", 2), pair("b", 3)], options());
    let whole = folder.path().join("whole");
    run(&model, Method::LoraPrior, &pairs, &options, &whole, Start::New, &FineTuneHooks::default()).expect("a run");
    for stop in 0..options.steps {
        let out = folder.path().join(format!("stopped-{stop}"));
        let cancel = CancelToken::new();
        let progress = |progress: &FineTuneProgress| {
            if progress.step == stop {
                cancel.cancel();
            }
        };
        let hooks = FineTuneHooks { progress: Some(&progress), cancel: Some(&cancel) };
        let stopped = run(&model, Method::LoraPrior, &pairs, &options, &out, Start::New, &hooks);
        assert!(matches!(stopped, Err(Error::Segment(adaptmedseg_segment::Error::Cancelled))), "at {stop}");
        assert!(!out.exists());
        run(&model, Method::LoraPrior, &pairs, &options, &out, Start::Resume, &FineTuneHooks::default())
            .expect("it goes on");
        assert_eq!(weights(&out), weights(&whole), "stopped at {stop}");
        assert_eq!(metrics(&out), metrics(&whole), "stopped at {stop}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

#[test]
fn what_a_killed_run_leaves_is_enough_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, pairs, options) = (model(), [pair("a", 2), pair("b", 3)], options());
    let whole = folder.path().join("whole");
    let moment = Cell::new(0);
    // What is on the disk at every moment a callback comes is what a kill would leave there.
    let progress = |_: &FineTuneProgress| {
        let left = folder.path().join(format!("killed-{}.partial", moment.get()));
        copy(&folder.path().join("whole.partial"), &left);
        moment.set(moment.get() + 1);
    };
    let hooks = FineTuneHooks { progress: Some(&progress), cancel: None };
    run(&model, Method::Lora, &pairs, &options, &whole, Start::New, &hooks).expect("a run");
    assert!(moment.get() >= 6);
    for moment in 0..moment.get() {
        let out = folder.path().join(format!("killed-{moment}"));
        run(&model, Method::Lora, &pairs, &options, &out, Start::Resume, &FineTuneHooks::default())
            .expect("it goes on");
        assert_eq!(weights(&out), weights(&whole), "killed at {moment}");
        assert_eq!(metrics(&out), metrics(&whole), "killed at {moment}");
    }
}

#[test]
fn a_validation_that_was_interrupted_is_noted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, pairs, options) = (model(), [pair("a", 2), pair("b", 3)], options());
    let [whole, out, killed] = ["whole", "stopped", "killed"].map(|name| folder.path().join(name));
    run(&model, Method::Lora, &pairs, &options, &whole, Start::New, &FineTuneHooks::default()).expect("a run");
    // Stopped between step 2 and its validation, then killed between that validation and the next checkpoint.
    let cancel = CancelToken::new();
    let stop = |progress: &FineTuneProgress| {
        if progress.step == 2 && progress.validation.is_none() {
            cancel.cancel();
        }
    };
    let hooks = FineTuneHooks { progress: Some(&stop), cancel: Some(&cancel) };
    assert!(run(&model, Method::Lora, &pairs, &options, &out, Start::New, &hooks).is_err());
    let keep = |progress: &FineTuneProgress| {
        if progress.step == 2 && progress.validation.is_some() {
            copy(&folder.path().join("stopped.partial"), &folder.path().join("killed.partial"));
        }
    };
    let hooks = FineTuneHooks { progress: Some(&keep), cancel: None };
    run(&model, Method::Lora, &pairs, &options, &out, Start::Resume, &hooks).expect("it goes on");
    run(&model, Method::Lora, &pairs, &options, &killed, Start::Resume, &FineTuneHooks::default()).expect("it goes on");
    for out in [&out, &killed] {
        assert_eq!((metrics(out), weights(out)), (metrics(&whole), weights(&whole)));
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, pairs, short) = (model(), [pair("a", 2), pair("b", 3)], FineTuneOptions { steps: 2, ..options() });
    let out = folder.path().join("mr");
    let none = FineTuneHooks::default();
    let message = |result: Result<FineTuneReport>| result.map(|_| ()).expect_err("refused").to_string();
    assert!(message(run(&model, Method::Lora, &pairs, &short, &out, Start::Resume, &none)).contains("no unfinished"));
    run(&model, Method::Lora, &pairs, &short, &out, Start::New, &none).expect("a run");
    assert!(message(run(&model, Method::Lora, &pairs, &short, &out, Start::New, &none)).contains("already exists"));

    let stopped = folder.path().join("stopped");
    let cancel = CancelToken::new();
    let progress = |progress: &FineTuneProgress| {
        if progress.step == 1 {
            cancel.cancel();
        }
    };
    let hooks = FineTuneHooks { progress: Some(&progress), cancel: Some(&cancel) };
    assert!(run(&model, Method::Lora, &pairs, &short, &stopped, Start::New, &hooks).is_err());
    assert!(
        message(run(&model, Method::Lora, &pairs, &short, &stopped, Start::New, &none)).contains("stopped.partial")
    );
    let other = FineTuneOptions { learning_rate: 2e-2, ..short.clone() };
    let refused = message(run(&model, Method::Lora, &pairs, &other, &stopped, Start::Resume, &none));
    assert!(refused.contains("learning_rate was 0.01, is 0.02"), "{refused}");
    let renamed = [pair("a", 2), pair("c", 3)];
    assert!(message(run(&model, Method::Lora, &renamed, &short, &stopped, Start::Resume, &none)).contains("not those"));
    let moved = [pair("a", 3), pair("b", 3)];
    assert!(message(run(&model, Method::Lora, &moved, &short, &stopped, Start::Resume, &none)).contains("not those"));
    assert!(message(run(&model, Method::Prior, &pairs, &short, &stopped, Start::Resume, &none)).contains("adapter"));

    assert!(
        message(run(&model, Method::Lora, &[], &short, &folder.path().join("x"), Start::New, &none))
            .contains("no training pairs")
    );
    let wrong = FineTuneOptions { learning_rate: 0.0, ..short.clone() };
    assert!(
        message(run(&model, Method::Lora, &pairs, &wrong, &folder.path().join("x"), Start::New, &none))
            .contains("learning rate")
    );
    let mine = folder.path().join("mine");
    std::fs::create_dir(&mine).expect("a folder");
    assert!(
        message(run(&model, Method::Lora, &pairs, &short, &mine, Start::Overwrite, &none)).contains("already exists")
    );
    assert!(mine.is_dir());
}

#[test]
fn a_marked_split_is_kept_and_one_subject_is_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, short, none) = (model(), FineTuneOptions { steps: 1, ..options() }, FineTuneHooks::default());
    let mut marked = [pair("a", 2), pair("b", 3), pair("c", 4)];
    marked[0].split = Some(Split::Validation);
    let report = run(&model, Method::Lora, &marked, &short, &folder.path().join("marked"), Start::New, &none);
    assert_eq!(report.expect("a run").training_volumes, 2);
    let report = run(&model, Method::Lora, &[pair("a", 2)], &short, &folder.path().join("one"), Start::New, &none);
    let report = report.expect("a run");
    assert!(report.training_volumes == 1 && report.validation_windows > 0);
}
