//! The suite over the plugin in a shared library that `ADAPTMEDSEG_CONFORM_PLUGIN` names, on its device
//! `ADAPTMEDSEG_CONFORM_DEVICE`; else skipped. The parity ladder is part of it.

use adaptmedseg_conformance::{self as suite, Target};
use adaptmedseg_engine::plugin::host::Plugin;
use adaptmedseg_engine::{Engine, ModelSource};
use adaptmedseg_parity::{ladder, skipped};
use std::env;
use std::path::Path;

fn target() -> Option<Target> {
    let Some(path) = env::var_os("ADAPTMEDSEG_CONFORM_PLUGIN") else {
        skipped("ADAPTMEDSEG_CONFORM_PLUGIN names no plugin");
        return None;
    };
    let plugin = Plugin::load(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
    let device = env::var("ADAPTMEDSEG_CONFORM_DEVICE").expect("ADAPTMEDSEG_CONFORM_DEVICE names its device");
    Some(Target { plugin, device })
}

macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            if let Some(target) = target() {
                suite::$test(&target);
            }
        })*
    };
}
suite!(
    about, refusals, embeddings, concurrent_calls, texts, adapters, states, finetune_as_flex, cancelling, builtin_masks,
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
climb!(
    parity_windows => windows,
    parity_sliding_windows => sliding_windows,
    parity_whole_volumes => whole_volumes,
    parity_training => training,
);
