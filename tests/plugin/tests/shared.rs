//! The suite over the plugin in a shared library that `ADAPTMEDSEG_CONFORM_PLUGIN` names, on its device
//! `ADAPTMEDSEG_CONFORM_DEVICE`; else skipped. The parity ladder is part of it.

use adaptmedseg_conformance::{self as suite, Target};
use adaptmedseg_engine::plugin::host::Plugin;
use adaptmedseg_engine::{Engine, EngineOptions, ErrorKind, ModelSource, Precision};
use adaptmedseg_parity::{ladder, skipped};
use std::env;
use std::path::Path;
use std::process::Command;

fn target() -> Option<Target> {
    let Some(path) = env::var_os("ADAPTMEDSEG_CONFORM_PLUGIN") else {
        skipped("ADAPTMEDSEG_CONFORM_PLUGIN names no plugin");
        return None;
    };
    let plugin = Plugin::load(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
    let device = env::var("ADAPTMEDSEG_CONFORM_DEVICE").expect("ADAPTMEDSEG_CONFORM_DEVICE names its device");
    Some(Target { plugin, device })
}

suite::suite!(
    target();
    about,
    refusals,
    volumes_that_do_not_fit,
    embeddings,
    concurrent_calls,
    texts,
    adapters,
    states,
    finetune_as_flex,
    weights_as_flex,
    cancelling,
    builtin_masks,
);

macro_rules! climb {
    ($($test:ident => $ladder:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            if let Some(target) = target() {
                ladder::$ladder(&|source: &ModelSource| -> Box<dyn Engine> { target.open(source) });
            }
        })*
    };
}
/// Opens models in another precision; none where the device has not that one.
fn in_precision(precision: Precision) -> Option<impl Fn(&ModelSource) -> Box<dyn Engine>> {
    let target = target()?;
    let options = EngineOptions { precision, ..target.options() };
    let open = move |source: &ModelSource| target.plugin.open(source, &options);
    match open(&suite::mini()) {
        Ok(_) => Some(move |source: &ModelSource| open(source).expect("as before")),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            skipped(&error.to_string());
            None
        }
    }
}

#[test]
fn masks_in_bfloat16() {
    if let Some(open) = in_precision(Precision::Bf16) {
        ladder::masks_in_half_precision(&open);
    }
}

#[test]
fn masks_in_float16() {
    if let Some(open) = in_precision(Precision::F16) {
        ladder::masks_in_half_precision(&open);
    }
}

/// What learns is float32, whatever a model was opened in: but for a dense prompt path, for which see `weights_as_flex`.
#[test]
fn training_in_a_half_precision_model() {
    if let Some(open) = in_precision(Precision::Bf16) {
        ladder::training_steps(&open);
    }
}

/// Runs a test of this file in a process of its own: what it looks at is the whole process's.
fn alone(name: &str, test: fn(&Target)) {
    const CHILD: &str = "ADAPTMEDSEG_CONFORM_ALONE";
    let Some(target) = target() else { return };
    if env::var_os(CHILD).is_some() {
        return test(&target);
    }
    let this = env::current_exe().expect("there is one");
    let run = Command::new(this).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
    let run = run.expect("it can be run");
    print!("{}", String::from_utf8_lossy(&run.stdout));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn too_little_memory() {
    alone("too_little_memory", suite::too_little_memory);
}

#[test]
fn memory() {
    alone("memory", suite::memory);
}

climb!(
    parity_windows => windows,
    parity_sliding_windows => sliding_windows,
    parity_whole_volumes => whole_volumes,
    parity_training => training,
);
