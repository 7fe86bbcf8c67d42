//! The built-in engine: the model crate on Burn's Flex backend, on the processor.

use crate::error::{Error, Result};
use crate::threads::Threads;
use crate::{Decoded, Engine, EngineInfo, ImageEmbedding, TextEmbedding, WindowPrompts, devices};
use adaptmedseg_model::checkpoint::ModelFolder;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::{Device, Prompts, RawTensor, SegVol, Tokenizer};
use burn::tensor::{Tensor, TensorData};
use std::fmt;

/// The model on Burn, with a thread pool of its own: the host's pools are left alone.
pub struct BurnEngine {
    model: SegVol,
    config: ModelConfig,
    tokenizer: Option<Tokenizer>,
    device: Device,
    pool: Threads,
    info: EngineInfo,
}

impl fmt::Debug for BurnEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BurnEngine").field("info", &self.info).finish_non_exhaustive()
    }
}

impl BurnEngine {
    /// Opens a model folder. The weights stay in the mapped file.
    ///
    /// `device` is `auto` or `cpu`; `threads` is all cores unless given.
    ///
    /// # Errors
    /// An unknown device; a folder whose files are missing, malformed or do not fit together.
    pub fn open(folder: &ModelFolder, device: &str, threads: Option<usize>) -> Result<Self> {
        let config = folder.config().clone();
        let text = &config.text_encoder;
        let tokenizer = folder
            .tokenizer()
            .map(|path| Tokenizer::open(path, &text.template, text.context_length, text.vocab_size))
            .transpose()?;
        Self::new(config, tokenizer, device, threads, |name| folder.tensor(name))
    }

    /// A model whose weights `source` gives by name.
    ///
    /// # Errors
    /// An unknown device; a tensor that is absent or has the wrong shape.
    pub fn new(
        config: ModelConfig,
        tokenizer: Option<Tokenizer>,
        device: &str,
        threads: Option<usize>,
        source: impl Fn(&str) -> Option<RawTensor>,
    ) -> Result<Self> {
        if !matches!(device, "auto" | "cpu") {
            let known = devices().into_iter().map(|device| device.name).collect();
            return Err(Error::UnknownDevice { name: device.into(), known });
        }
        let device = Device::flex();
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let pool = Threads::new(threads)
            .map_err(|error| Error::Internal(format!("cannot start {threads} threads: {error}")))?;
        let model = config.init(&device).load(&device, source)?;
        let info = EngineInfo {
            engine: "flex".into(),
            device: "cpu".into(),
            threads,
            embedding_bytes: embedding_bytes(&config),
            working_bytes: working_bytes(&config),
        };
        Ok(Self { model, config, tokenizer, device, pool, info })
    }

    fn grid(&self) -> [usize; 3] {
        self.config.image_encoder.grid()
    }
}

fn embedding_bytes(config: &ModelConfig) -> u64 {
    let image = &config.image_encoder;
    4 * (image.num_tokens() * image.embed_dim) as u64
}

/// The widest moment of the encoder (qkv and MLP) and of the decoder (the second up-scaling, whose output and its GELU
/// exist at once), in float32. Measured peaks stay below it.
fn working_bytes(config: &ModelConfig) -> u64 {
    let image = &config.image_encoder;
    let tokens = image.num_tokens();
    let encoder = tokens * (4 * image.embed_dim + 2 * image.mlp_dim.max(3 * image.embed_dim));
    let [first, second] = config.upscaled_channels();
    let decoder = tokens * (64 * second * 2 + 8 * first * 4 + 6 * image.embed_dim);
    let window: usize = image.image_size.iter().product();
    4 * (encoder.max(decoder) + 2 * window) as u64
}

impl Engine for BurnEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn encode_image(&self, window: &[f32]) -> Result<ImageEmbedding> {
        let [depth, height, width] = self.config.image_encoder.image_size;
        if window.len() != depth * height * width {
            return Err(Error::Internal(format!("a window of {} voxels, not {depth}x{height}x{width}", window.len())));
        }
        let embedding = self.pool.install(|| {
            let data = TensorData::new(window.to_vec(), [1, 1, depth, height, width]);
            self.model.image_encoder().forward(Tensor::from_data(data, &self.device))
        });
        Ok(ImageEmbedding::new(embedding))
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

    fn decode(&self, image: &ImageEmbedding, prompts: &WindowPrompts) -> Result<Decoded> {
        let foreign = || Error::Internal("an embedding of another engine".into());
        let embedding = image.get::<Tensor<3>>().ok_or_else(foreign)?.clone();
        let text = match &prompts.text {
            Some(text) => Some(text.get::<Tensor<2>>().ok_or_else(foreign)?.clone()),
            None => None,
        };
        let prompts = Prompts { points: prompts.points.clone(), bounding_box: prompts.bounding_box, text };
        if prompts.is_empty() {
            return Err(Error::Internal("decode without a prompt".into()));
        }
        let (logits, iou) = self.pool.install(|| {
            let masks = self.model.decode(embedding, self.grid(), &prompts);
            let logits = SegVol::upsample(masks.low_res, self.config.image_encoder.image_size);
            (logits.into_data().try_into_vec(), masks.iou.into_data().try_into_vec())
        });
        let unread = |error| Error::Internal(format!("the result cannot be read: {error:?}"));
        Ok(Decoded { logits: logits.map_err(unread)?, iou: iou.map_err(unread)? })
    }
}
