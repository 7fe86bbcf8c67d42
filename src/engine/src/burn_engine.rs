//! The model crate on Burn, on whichever device: the built-in engine on Flex, and those of plugins.

use crate::burn_trainer::BurnTrainer;
use crate::error::{Error, Result};
use crate::threads::{OnStart, Threads};
use crate::{
    Adapted, AttachedAdapter, Decoded, Engine, EngineInfo, ImageEmbedding, Learns, Precision, TextEmbedding, Trainer,
    TrainerConfig, WindowPrompts,
};
use adaptmedseg_model::adapter::{Adapter, AdapterContext};
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::dense_prompt::{self, DenseInput, INPUT_CHANNELS};
use adaptmedseg_model::host;
use adaptmedseg_model::linear::{Epilogue, Linear};
use adaptmedseg_model::nn::Kernels;
use adaptmedseg_model::{DType, Device, Prompts, RawTensor, SegVol, Tokenizer};
use burn::module::Param;
use burn::tensor::{Distribution, Tensor, TensorData};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Where a Burn engine computes.
pub struct BurnPlace {
    /// Burn's device.
    pub device: Device,
    /// The engine's name, such as `flex`.
    pub engine: String,
    /// The name the device is opened by, such as `cpu`.
    pub name: String,
    /// Threads it computes with.
    pub threads: usize,
    /// Threads that call Burn: all of them for Flex, which computes on its callers; one for a backend that has threads of
    /// its own.
    pub callers: usize,
    /// What each caller does first.
    pub on_start: Option<OnStart>,
    /// Whether inference leaves the blocks of the image encoder to the project's kernels, which compute on `threads` threads of
    /// the engine. For a processor.
    pub kernels: bool,
}

impl fmt::Debug for BurnPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BurnPlace").field("device", &self.device).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The model on Burn, with a thread pool of its own: the host's pools are left alone.
pub struct BurnEngine {
    /// The weights as they are: what adapters are put beside, and what learns.
    model: SegVol,
    /// The same at the engine's precision: what computes.
    base: SegVol,
    config: ModelConfig,
    tokenizer: Option<Tokenizer>,
    device: Device,
    /// Those that call Burn.
    pool: Arc<Threads>,
    /// Those that compute what Burn does not: the same, where Burn computes on its callers.
    workers: Arc<Threads>,
    /// Whether inference leaves the blocks of the image encoder to the kernels.
    kernels: bool,
    info: EngineInfo,
}

impl fmt::Debug for BurnEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BurnEngine").field("info", &self.info).finish_non_exhaustive()
    }
}

impl BurnEngine {
    /// A model whose weights `source` gives by name. Whoever knows the place has checked the precision.
    ///
    /// # Errors
    /// A tensor that is absent or has the wrong shape.
    pub fn on(
        place: BurnPlace,
        config: ModelConfig,
        tokenizer: Option<Tokenizer>,
        precision: Precision,
        source: impl Fn(&str) -> Option<RawTensor> + Send,
    ) -> Result<Self> {
        let BurnPlace { device, engine, name, threads, callers, on_start, kernels } = place;
        let start = |count: usize, on_start| {
            let failed = |error| Error::Internal(format!("cannot start {count} threads: {error}"));
            Threads::new(count, on_start).map(Arc::new).map_err(failed)
        };
        let pool = start(callers, on_start)?;
        let workers = if callers == threads { pool.clone() } else { start(threads, None)? };
        let (model, base) = pool.install(|| {
            let model = config.init(&device).load(&device, source)?;
            let model = if kernels { model.with_workers(workers.clone()) } else { model };
            let base = if kernels && precision == Precision::Bf16 {
                model.clone().in_bf16()?
            } else {
                model.clone().with_half(half(precision))
            };
            Ok::<_, Error>((model, base))
        })?;
        let info = EngineInfo {
            engine,
            device: name,
            threads,
            precision,
            embedding_bytes: embedding_bytes(&config),
            working_bytes: working_bytes(&config, precision),
        };
        Ok(Self { model, base, config, tokenizer, device, pool, workers, kernels, info })
    }

    /// The network a call means.
    fn network<'a>(&'a self, adapter: Option<&'a AttachedAdapter>) -> Result<&'a SegVol> {
        match adapter {
            None => Ok(&self.base),
            Some(adapter) => adapter.get().ok_or_else(|| foreign("an adapter")),
        }
    }
}

/// The type that products of a precision are computed in, where it is not the weights' own.
fn half(precision: Precision) -> Option<DType> {
    match precision {
        Precision::F32 => None,
        Precision::Bf16 => Some(DType::BF16),
        Precision::F16 => Some(DType::F16),
    }
}

fn foreign(what: &str) -> Error {
    Error::Internal(format!("{what} of another engine"))
}

/// An encoded window.
pub(crate) struct Encoded {
    pub(crate) tokens: Tensor<3>,
    /// The window itself, where the dense prompt path will read it; else empty.
    window: Vec<f32>,
}

/// The prompts of a window as the model takes them; `propose` as in [`DenseInput`].
pub(crate) fn model_prompts(
    prompts: &WindowPrompts,
    config: &ModelConfig,
    window: &[f32],
    propose: bool,
    device: &Device,
) -> Result<Prompts> {
    let text = match &prompts.text {
        Some(text) => Some(text.get::<Tensor<2>>().ok_or_else(|| foreign("a text"))?.clone()),
        None => None,
    };
    for (what, given) in [("mask", &prompts.mask), ("prior", &prompts.prior)] {
        if let Some(given) = given {
            check_voxels(what, given.len(), config.image_encoder.image_size)?;
        }
    }
    let dense = config.prompt_encoder.dense.then(|| {
        let &WindowPrompts { ref points, bounding_box, ref mask, ref prior, .. } = prompts;
        let size = config.image_encoder.image_size;
        let (mask, prior) = (mask.as_deref(), prior.as_deref());
        let input = DenseInput { window, size, points, bounding_box, mask, prior, propose };
        dense_prompt::input_tensor(&input, device)
    });
    let prompts = Prompts { points: prompts.points.clone(), bounding_box: prompts.bounding_box, text, dense };
    if prompts.is_empty() { Err(Error::Internal("decode without a prompt".into())) } else { Ok(prompts) }
}

/// A window as the image encoder takes it, `[1, 1, D, H, W]`.
pub(crate) fn image_tensor(window: &[f32], config: &ModelConfig, device: &Device) -> Result<Tensor<5>> {
    let size = config.image_encoder.image_size;
    if config.prompt_encoder.dense {
        // As the dense prompt path takes it.
        return window_tensor(&dense_prompt::equalised(window), size, device);
    }
    window_tensor(window, size, device)
}

/// Voxels of a window as a tensor, `[1, 1, D, H, W]`.
pub(crate) fn window_tensor(window: &[f32], size: [usize; 3], device: &Device) -> Result<Tensor<5>> {
    check_voxels("window", window.len(), size)?;
    let [depth, height, width] = size;
    Ok(Tensor::from_data(TensorData::new(window.to_vec(), [1, 1, depth, height, width]), device))
}

/// That there are as many voxels as a window has.
fn check_voxels(what: &str, voxels: usize, [depth, height, width]: [usize; 3]) -> Result<()> {
    if voxels == depth * height * width {
        return Ok(());
    }
    Err(Error::Internal(format!("a {what} of {voxels} voxels, not {depth}x{height}x{width}")))
}

/// The elements of a tensor on the host.
pub(crate) fn elements<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_into_vec().map_err(|error| Error::Internal(format!("the result cannot be read: {error:?}")))
}

fn embedding_bytes(config: &ModelConfig) -> u64 {
    let image = &config.image_encoder;
    let window: usize = if config.prompt_encoder.dense { image.image_size.iter().product() } else { 0 };
    4 * (image.num_tokens() * image.embed_dim + window) as u64
}

/// The widest moment of the encoder (qkv and MLP) and of the decoder (the second up-scaling, whose output and its GELU
/// exist at once), in float32, and the rounded weights of half precision. Measured peaks stay below it.
fn working_bytes(config: &ModelConfig, precision: Precision) -> u64 {
    let image = &config.image_encoder;
    let tokens = image.num_tokens();
    let encoder = tokens * (4 * image.embed_dim + 2 * image.mlp_dim.max(3 * image.embed_dim));
    let [first, second] = config.upscaled_channels();
    let decoder = tokens * (64 * second * 2 + 8 * first * 4 + 6 * image.embed_dim);
    let window: usize = image.image_size.iter().product();
    // The dense prompt path: its input, its widest features and what becomes of them.
    let decoder = decoder
        + if config.prompt_encoder.dense { window * (INPUT_CHANNELS + 6 * config.dense_channels()[2]) } else { 0 };
    let rounded = match precision {
        Precision::F32 => 0,
        Precision::Bf16 | Precision::F16 => {
            image.num_layers * 2 * image.embed_dim * (2 * image.embed_dim + image.mlp_dim)
        }
    };
    4 * (encoder.max(decoder) + 2 * window) as u64 + 2 * rounded as u64
}

impl Engine for BurnEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn product_seconds(&self, [rows, inner, columns]: [usize; 3], turns: usize) -> Result<Vec<f64>> {
        if self.kernels {
            return Ok(self.workers.install(|| host::product_seconds([rows, inner, columns], turns)));
        }
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), &self.device);
        let failed = |error| Error::Internal(format!("the product failed: {error:?}"));
        self.pool.install(|| {
            // A layer of the network, its weight as a file has it.
            let weight = Param::from_tensor(random([columns, inner]).transpose());
            let layer = Linear::from(burn::nn::Linear { weight, bias: None });
            let left = random([rows, inner]).unsqueeze::<3>();
            let mut seconds = Vec::with_capacity(turns);
            for turn in 0..=turns {
                let started = Instant::now();
                let product = layer.forward_then(left.clone(), Epilogue::None, Kernels::default());
                self.device.sync().map_err(failed)?;
                if turn > 0 {
                    seconds.push(started.elapsed().as_secs_f64());
                }
                drop(product);
            }
            Ok(seconds)
        })
    }

    fn encode_image(&self, window: &[f32], adapter: Option<&AttachedAdapter>) -> Result<ImageEmbedding> {
        let network = self.network(adapter)?;
        let tokens = self.pool.install(|| {
            let image = image_tensor(window, &self.config, &self.device)?;
            Ok::<_, Error>(network.image_encoder().forward(image))
        })?;
        let window = if self.config.prompt_encoder.dense { window.to_vec() } else { Vec::new() };
        Ok(ImageEmbedding::new(Encoded { tokens, window }))
    }

    fn encode_text(&self, name: &str) -> Result<TextEmbedding> {
        let tokens = self.tokenizer.as_ref().ok_or(Error::NoText)?.encode(&[name])?;
        let output = self.pool.install(|| self.model.text_encoder().forward(&tokens));
        Ok(TextEmbedding::new(output.aligned))
    }

    fn check_text(&self, name: &str) -> Result<()> {
        self.tokenizer.as_ref().ok_or(Error::NoText)?.encode(&[name])?;
        Ok(())
    }

    fn decode(&self, image: &ImageEmbedding, prompts: &WindowPrompts, adapted: Option<Adapted>) -> Result<Decoded> {
        let Encoded { tokens, window } = image.get().ok_or_else(|| foreign("an embedding"))?;
        let network = self.network(adapted.map(|adapted| adapted.adapter))?;
        let unknown = AdapterContext::default();
        let context = adapted.map_or(&unknown, |adapted| adapted.context);
        let size = self.config.image_encoder.image_size;
        self.pool.install(|| {
            let prompts = model_prompts(prompts, &self.config, window, true, &self.device)?;
            let fused = network.fuse(tokens.clone(), context);
            let masks = network.decode(fused.image, self.config.image_encoder.grid(), &prompts, &fused.effect);
            Ok(Decoded { logits: elements(SegVol::upsample(masks.low_res, size))?, iou: elements(masks.iou)? })
        })
    }

    fn attach(&self, adapter: &Adapter, merge: bool) -> Result<AttachedAdapter> {
        let network = self.pool.install(|| {
            let adapter = adapter.to_device(&self.device);
            if self.kernels && self.info.precision == Precision::Bf16 {
                // The blocks are rounded as a whole, corrections and all.
                let network = self.model.with_adapter(&adapter)?;
                let network = if merge { network.merged() } else { network };
                let rounded = adapter.changes_encoder();
                return Ok(if rounded { network.in_bf16()? } else { network.in_bf16_as(&self.base) });
            }
            let network = self.base.with_adapter(&adapter)?;
            Ok::<_, Error>(if merge { network.merged() } else { network })
        })?;
        Ok(AttachedAdapter::new(network))
    }

    fn trainer(&self, learns: Learns, config: TrainerConfig) -> Result<Box<dyn Trainer>> {
        let (model, config_of_model) = (self.model.clone(), self.config.clone());
        // Gradients would leave float16's range.
        let model = if self.info.precision == Precision::F32 { model } else { model.learning_in_bf16() };
        let threads = [self.pool.clone(), self.workers.clone()];
        let trainer = BurnTrainer::new(model, config_of_model, learns, config, &self.device, threads)?;
        Ok(Box::new(trainer))
    }
}
