//! The built-in engine: [`BurnEngine`] on Flex, on the processor.

use crate::burn_engine::{BurnEngine, BurnPlace};
use crate::error::{Error, Result};
use crate::{EngineOptions, ModelSource, Precision};
use adaptmedseg_model::checkpoint::ModelFolder;
use adaptmedseg_model::config::ModelConfig;
use adaptmedseg_model::{Device, RawTensor, Tokenizer};

impl BurnEngine {
    /// Opens a model folder. The weights stay in the mapped file.
    ///
    /// # Errors
    /// An unknown device; a precision the processor does not compute in; a folder whose files are missing, malformed or do not fit together.
    pub fn open(folder: &ModelFolder, options: &EngineOptions) -> Result<Self> {
        Self::of(&ModelSource::of(folder), options)
    }

    /// Opens a model, wherever it comes from.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(model: &ModelSource, options: &EngineOptions) -> Result<Self> {
        let tensors = &model.tensors;
        Self::new(model.config.clone(), model.read_tokenizer()?, options, |name| tensors.get(name).cloned())
    }

    /// A model whose weights `source` gives by name.
    ///
    /// # Errors
    /// An unknown device; a precision the processor does not compute in; a tensor that is absent or has the wrong shape.
    pub fn new(
        config: ModelConfig,
        tokenizer: Option<Tokenizer>,
        options: &EngineOptions,
        source: impl Fn(&str) -> Option<RawTensor> + Send,
    ) -> Result<Self> {
        let &EngineOptions { ref device, precision, .. } = options;
        if !matches!(device.as_str(), "auto" | "cpu") {
            return Err(Error::unknown_device(device));
        }
        check(precision)?;
        let threads = options.thread_count();
        let place = BurnPlace {
            device: Device::flex(),
            engine: "flex".into(),
            name: "cpu".into(),
            threads,
            callers: threads,
            on_start: None,
            kernels: true,
        };
        Self::on(place, config, tokenizer, precision, source)
    }
}

/// Whether the processor computes like this.
fn check(precision: Precision) -> Result<()> {
    let bf16 = adaptmedseg_model::nn::has_fast_bf16();
    let why = match precision {
        Precision::F32 => return Ok(()),
        Precision::Bf16 if bf16 => return Ok(()),
        Precision::Bf16 => "this processor has no AVX512-BF16",
        Precision::F16 => "there are no kernels for it on a processor",
    };
    let supported = if bf16 { vec![Precision::Bf16, Precision::F32] } else { vec![Precision::F32] };
    Err(Error::UnsupportedPrecision { precision, device: "cpu".into(), why: why.into(), supported })
}
