//! What every plugin must do, through its table: tests that take the plugin as an argument.
//!
//! They run over the built-in engine behind a table in this process, over the example in C, and over whichever plugin
//! `ADAPTMEDSEG_CONFORM_PLUGIN` names.

mod compute;
mod contract;
pub mod flex;
mod learn;
mod sessions;
mod shortage;

pub use compute::{adapters, concurrent_calls, embeddings, texts};
pub use contract::{about, memory, refusals, volumes_that_do_not_fit, what_is_missing_is_said};
pub use learn::{finetune_as_flex, states, weights_as_flex};
pub use sessions::{builtin_masks, cancelling};
pub use shortage::too_little_memory;

use adaptmedseg_engine::plugin::host::Plugin;
use adaptmedseg_engine::{Engine, EngineOptions, ModelSource, WindowPrompts};
use adaptmedseg_parity::{bundles, golden_source};

/// Makes tests of those of this suite that are named, each over what an expression gives: an `Option<Target>`.
#[macro_export]
macro_rules! suite {
    ($target:expr; $($test:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            if let Some(target) = $target {
                $crate::$test(&target);
            }
        })*
    };
}

/// A plugin and the device of it that is tested.
#[derive(Clone, Debug)]
pub struct Target {
    /// The plugin.
    pub plugin: Plugin,
    /// Name of the device.
    pub device: String,
}

impl Target {
    /// The options of most tests: two threads, float32.
    pub fn options(&self) -> EngineOptions {
        EngineOptions { threads: Some(2), ..EngineOptions::on(&self.device) }
    }

    /// Opens a model.
    ///
    /// # Panics
    /// If the plugin cannot.
    pub fn open(&self, source: &ModelSource) -> Box<dyn Engine> {
        self.plugin.open(source, &self.options()).unwrap_or_else(|error| panic!("{}: {error}", self.device))
    }
}

/// The small model of the golden data.
///
/// # Panics
/// If not even the committed subset is there.
pub fn mini() -> ModelSource {
    golden_source(bundles("stage", "stage_mini").first().expect("the committed subset has one"))
}

/// A window with a texture that repeats nowhere, from 0 to 1.
pub fn window(engine: &dyn Engine, seed: u32) -> Vec<f32> {
    let voxels: usize = engine.config().image_encoder.image_size.iter().product();
    (0..voxels as u32)
        .map(|index| ((index ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32)
        .collect()
}

/// A box and two points in the window.
pub fn prompts() -> WindowPrompts {
    WindowPrompts {
        points: vec![([7.0, 30.0, 31.0], 1), ([2.0, 5.0, 50.0], 0)],
        bounding_box: Some([3.0, 20.0, 18.0, 12.0, 44.0, 47.0]),
        ..WindowPrompts::default()
    }
}

/// The largest difference of two lists of equal length.
///
/// # Panics
/// If they are not.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
