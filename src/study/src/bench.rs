//! How fast a model runs on a device, beside how fast that device multiplies matrices. Through the [`Engine`] alone, so
//! whatever device there is can be measured, and on a generated scan, so that nobody needs data.

use crate::error::Result;
use crate::options::{Method, adapter_config};
use crate::phantom::{Phantom, PhantomModality, PhantomRegion};
use crate::prompts;
use crate::random::{Use, generator};
use adaptmedseg_engine::{EngineOptions, Precision, TrainerConfig, TrainingSample, WindowPrompts};
use adaptmedseg_model::adapter::{AdapterContext, LoraConfig};
use adaptmedseg_model::config::ImageEncoderConfig;
use adaptmedseg_model::prior::Variant;
use adaptmedseg_model::train::{LossKind, OptimiserConfig};
use adaptmedseg_segment::{CancelToken, Error as SegmentError, Hooks, Modality, Model, Session, peak_memory_bytes};
use rand::Rng;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The product that a device's speed is told by: one layer of ViT-B over a window of SegVol, `[rows, inner]` times
/// `[inner, columns]`.
const PRODUCT: [usize; 3] = [2048, 768, 3072];
/// The structure that is segmented and learned; every phantom has one.
const STRUCTURE: &str = "liver";
/// Turns of what takes a pass of the network or less, and of what takes several. Each has one more before, not counted.
const TURNS: usize = 5;
const LONG_TURNS: usize = 3;

/// What was measured: seconds are medians. Of the encoder alone, the other parts are none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchReport {
    /// Speed of the device's own float32 product of 2048 x 768 with 768 x 3072, in 10^9 operations per second.
    pub gemm_gflops: f64,
    /// Encoding one window.
    pub encoder_s: f64,
    /// Operations of the encoder, over what the product above would do in that time. Above 1 where another precision is
    /// faster than float32.
    pub encoder_efficiency: f64,
    /// Decoding one box against an encoded window, up to logits of the window's size.
    pub decoder_s: Option<f64>,
    /// Encoding one name; none for a model that takes no text.
    pub text_s: Option<f64>,
    /// Segmenting a generated CT scan of 128 x 104 x 112 voxels by a box around its liver, nothing kept from before.
    pub segment_s: Option<f64>,
    /// One step of fine-tuning as it is by default: LoRA of encoder and decoder, one window, every combination of prompts.
    pub train_step_s: Option<f64>,
    /// Opening the model.
    pub load_s: f64,
    /// The most memory the process has held, the training steps included; none where the system does not tell.
    pub peak_rss_mb: Option<f64>,
    /// The device.
    pub device: String,
    /// Threads it computes with.
    pub threads: usize,
    /// Its arithmetic. Training is float32 in any.
    pub precision: Precision,
}

/// What a caller may hang into a measurement.
#[derive(Clone, Copy, Default)]
pub struct BenchHooks<'a> {
    /// Told what is measured next.
    pub progress: Option<&'a (dyn Fn(&'static str) + 'a)>,
    /// Looked at before every turn.
    pub cancel: Option<&'a CancelToken>,
}

impl BenchHooks<'_> {
    fn show(&self, what: &'static str) {
        if let Some(progress) = self.progress {
            progress(what);
        }
    }

    /// Median of the seconds that `turns` runs of `work` take, after one that is not counted.
    fn median(&self, turns: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        let mut seconds = Vec::with_capacity(turns);
        for turn in 0..=turns {
            if self.cancel.is_some_and(CancelToken::is_cancelled) {
                return Err(SegmentError::Cancelled.into());
            }
            let started = Instant::now();
            work()?;
            if turn > 0 {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
        Ok(median(seconds))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Opens a model and measures it, or its image encoder alone.
///
/// # Errors
/// A model that cannot be opened so; a failure of the device; a cancellation.
pub fn bench(model: &Path, options: &EngineOptions, encoder_only: bool, hooks: &BenchHooks) -> Result<BenchReport> {
    hooks.show("opening the model");
    let started = Instant::now();
    let model = Model::open(model, options)?;
    let load_s = started.elapsed().as_secs_f64();
    let (engine, config) = (model.engine(), model.config());
    let size = config.image_encoder.image_size;
    let engine_error = SegmentError::from;

    let mut random = generator(1, Use::Step, 0);
    let window: Vec<f32> = (0..size.iter().product()).map(|_| random.random_range(0.0..1.0)).collect();
    let embedding = engine.encode_image(&window, None).map_err(engine_error)?;
    let bounding_box = std::array::from_fn(|index| size[index % 3] as f32 * if index < 3 { 0.25 } else { 0.75 });
    let asked = WindowPrompts { bounding_box: Some(bounding_box), ..Default::default() };

    // The product before and after: a machine that others use changes its speed.
    hooks.show("matrix product");
    let mut products = engine.product_seconds(PRODUCT, TURNS).map_err(engine_error)?;
    hooks.show("image encoder");
    let encoder_s =
        hooks.median(TURNS, || Ok(engine.encode_image(&window, None).map(drop).map_err(engine_error)?))?;
    products.extend(engine.product_seconds(PRODUCT, TURNS).map_err(engine_error)?);
    let (mut decoder_s, mut text_s, mut segment_s, mut train_step_s) = (None, None, None, None);
    if !encoder_only {
        hooks.show("mask decoder");
        let decode = || Ok(engine.decode(&embedding, &asked, None).map(drop).map_err(engine_error)?);
        decoder_s = Some(hooks.median(TURNS, decode)?);
        if model.description().supports_text {
            hooks.show("text encoder");
            let encode = || Ok(engine.encode_text(STRUCTURE).map(drop).map_err(engine_error)?);
            text_s = Some(hooks.median(TURNS, encode)?);
        }
        hooks.show("whole volume");
        segment_s = Some(segment_seconds(&model, hooks)?);
        hooks.show("training step");
        train_step_s = Some(train_seconds(&model, window, hooks)?);
    }

    let gemm_gflops = product_operations(PRODUCT) / median(products) / 1e9;
    let info = engine.info();
    Ok(BenchReport {
        gemm_gflops,
        encoder_s,
        encoder_efficiency: encoder_operations(&config.image_encoder) / (encoder_s * gemm_gflops * 1e9),
        decoder_s,
        text_s,
        segment_s,
        train_step_s,
        load_s,
        peak_rss_mb: peak_memory_bytes().map(|bytes| bytes as f64 / 1e6),
        device: info.device.clone(),
        threads: info.threads,
        precision: info.precision,
    })
}

fn segment_seconds(model: &Model, hooks: &BenchHooks) -> Result<f64> {
    let phantom = Phantom::new(1, 0, PhantomModality::Ct, PhantomRegion::Abdomen, None)?;
    let mask = phantom.mask(STRUCTURE).expect("every torso has one");
    let image = Arc::new(phantom.image);
    let run = Hooks { cancel: hooks.cancel, ..Hooks::default() };
    hooks.median(LONG_TURNS, || {
        // A new session has no encoded windows.
        let mut session = Session::new(model, image.clone())?;
        session.set_modality(Modality::Ct);
        session.set_box_from_mask(&mask)?;
        session.segment(&run)?;
        Ok(())
    })
}

/// A step on a window with a block in its middle.
fn train_seconds(model: &Model, image: Vec<f32>, hooks: &BenchHooks) -> Result<f64> {
    let size = model.config().image_encoder.image_size;
    let [_, height, width] = size;
    let middle = |at: usize, size: usize| (size / 4..size - size / 4).contains(&at);
    let target: Vec<f32> = (0..image.len())
        .map(|voxel| [voxel / (height * width), voxel / width % height, voxel % width])
        .map(|place| f32::from(u8::from((0..3).all(|axis| middle(place[axis], size[axis])))))
        .collect();
    let text = model.description().supports_text.then(|| model.engine().encode_text(STRUCTURE)).transpose();
    let text = text.map_err(SegmentError::from)?;
    let drawn = prompts::draw(&target, size, text.as_ref(), 0.0, &mut generator(1, Use::Step, 0));
    let prompts = drawn.expect("a block").into_iter().map(|(_, prompts)| prompts).collect();
    let sample = TrainingSample { image, target, prompts, context: AdapterContext::default(), embedding: None };
    let config = TrainerConfig {
        loss: LossKind::SegVol,
        optimiser: OptimiserConfig::default(),
        gradient_checkpointing: true,
        parallel_samples: false,
        average: None,
        modality_loss_weight: 0.0,
        cue_dropout: None,
    };
    let adapter = adapter_config(Method::Lora, Variant::Hermes, LoraConfig::default(), &[]);
    let mut trainer = model.trainer(model.new_adapter(adapter, 1)?, config)?;
    let samples = [sample];
    hooks.median(LONG_TURNS, || {
        trainer.step(&samples, 1e-5).map_err(SegmentError::from)?;
        Ok(())
    })
}

/// Multiplications and additions of a product.
fn product_operations([rows, inner, columns]: [usize; 3]) -> f64 {
    2.0 * (rows * inner * columns) as f64
}

/// Multiplications and additions of one window's products: patch embedding, and in each block the two projections of the
/// attention, its scores and sums, and the MLP. Norms, softmax and GELU are not counted.
fn encoder_operations(config: &ImageEncoderConfig) -> f64 {
    let (tokens, width) = (config.num_tokens(), config.embed_dim);
    let patches = product_operations([tokens, config.patch_size.iter().product(), width]);
    let attention = product_operations([tokens, width, 4 * width]) + 2.0 * product_operations([tokens, width, tokens]);
    let mlp = 2.0 * product_operations([tokens, width, config.mlp_dim]);
    patches + config.num_layers as f64 * (attention + mlp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_of_segvol_s_encoder_are_half_a_tera() {
        // By hand: 2048 tokens of 768; 2 x 2048 x (1024 x 768 + 12 x (768 x (2304 + 768 + 2 x 3072) + 2 x 2048 x 768)).
        let operations = encoder_operations(&ImageEncoderConfig::default());
        assert_eq!(operations, 2.0 * 2048.0 * (786_432.0 + 12.0 * (7_077_888.0 + 3_145_728.0)));
        assert!((operations / 1e12 - 0.506).abs() < 1e-3);
    }

    #[test]
    fn one_slow_turn_does_not_count() {
        assert_eq!(median(vec![3.0, 1.0, 100.0, 2.0, 1.5]), 2.0);
    }
}
