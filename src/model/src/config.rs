//! The architecture numbers of a model, as they stand in a model folder's `config.json`.
//!
//! The defaults are those of the published SegVol (ViT over 32x256x256, CLIP ViT-B/32 text model). A configuration is
//! input like any other: [`ModelConfig::validate`] refuses numbers that contradict one another, or that would make a
//! hostile file claim absurd memory. Nothing here knows of weights; see [`crate::checkpoint`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The version of the model folder that this library writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Longest `config.json` that is read, in bytes. Real ones have about two thousand.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// More than this many weights is a mistake or an attack: SegVol has 181 million.
const MAX_PARAMETERS: u64 = 4_000_000_000;

/// Everything needed to build a model before its weights are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Version of the model folder: [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Name of the model, for people.
    pub name: String,
    /// Licence of the weights, an SPDX expression where there is one; "unknown" is allowed, empty is not.
    pub license: String,
    /// The vision transformer.
    pub image_encoder: ImageEncoderConfig,
    /// The CLIP text model and the sentence it is given.
    pub text_encoder: TextEncoderConfig,
    /// Points, boxes and text to tokens.
    pub prompt_encoder: PromptEncoderConfig,
    /// Tokens and image to masks.
    pub mask_decoder: MaskDecoderConfig,
    /// What happens to a volume before the network sees it.
    pub preprocessing: PreprocessingConfig,
    /// How the network is moved over a volume.
    pub inference: InferenceConfig,
}

/// The vision transformer: patches, pre-norm blocks, a final norm (MONAI's `ViT`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageEncoderConfig {
    /// Voxels of one window, (D, H, W).
    pub image_size: [usize; 3],
    /// Voxels of one patch, (D, H, W); divides `image_size`.
    pub patch_size: [usize; 3],
    /// Token width, shared with the prompt encoder and the mask decoder.
    pub embed_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads; divides `embed_dim`.
    pub num_heads: usize,
    /// Width of the hidden layer of each block's MLP.
    pub mlp_dim: usize,
}

/// The CLIP text model and the sentence it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextEncoderConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Longest text in tokens, start and end included.
    pub context_length: usize,
    /// Token width inside the text model; `dim_align` takes it to the image's.
    pub width: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads; divides `width`.
    pub num_heads: usize,
    /// Width of the hidden layer of each block's MLP.
    pub mlp_dim: usize,
    /// The MLP's activation. Not stored in any checkpoint.
    pub activation: TextActivation,
    /// Sentence a structure's name is put into, at its one `{}`.
    pub template: String,
}

/// Activation of the text model's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextActivation {
    /// `x * sigmoid(1.702 x)`: CLIP as published, and what the reference runs.
    #[default]
    QuickGelu,
    /// The exact (erf) GELU.
    Gelu,
    /// The tanh approximation, `gelu_new` in transformers.
    GeluTanh,
}

/// Points, boxes and text to tokens. Its width is the image's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptEncoderConfig {
    /// Whether coordinates are encoded with the axes mixed up as the official weights need it (quirks 8 and 9).
    pub mixed_axes: bool,
    /// Whether there is a dense prompt path: see [`DensePrompt`](crate::dense_prompt::DensePrompt). It needs patches of
    /// 8 x 8 x 8 voxels and an `embed_dim` that 16 divides.
    pub dense: bool,
}

/// The two-way transformer, the up-scaling and the heads that make masks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskDecoderConfig {
    /// Number of two-way blocks.
    pub num_layers: usize,
    /// Attention heads; divides `embed_dim` and `embed_dim / attention_downsample_rate`.
    pub num_heads: usize,
    /// Width of the hidden layer of each block's MLP.
    pub mlp_dim: usize,
    /// Cross attentions work at `embed_dim` divided by this.
    pub attention_downsample_rate: usize,
    /// Masks per prompt; SegVol uses only the first.
    pub num_mask_tokens: usize,
    /// Layers of the head that predicts the quality of a mask.
    pub iou_head_depth: usize,
    /// Width of the hidden layers of that head.
    pub iou_head_hidden: usize,
}

/// What happens to a volume before the network sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreprocessingConfig {
    /// Directions in which the axes of the volume are made to run in the default mode, such as `"RAS"` (first axis
    /// towards the patient's right, second anterior, third superior). `null` means `"RAS"`.
    pub orientation: Option<String>,
    /// Which voxels' percentiles intensities are clipped to.
    pub intensities: Intensities,
    /// Lower and upper percentile to which intensities are clipped (quirk 32).
    pub clip_percentiles: [f64; 2],
}

/// Which voxels' percentiles intensities are clipped to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intensities {
    /// Those brighter than the mean of the volume: SegVol's. What is darker than all of them becomes one value, which on
    /// MR can be whole organs.
    #[default]
    Foreground,
    /// All voxels.
    Volume,
}

/// How the network comes closer to what the zoom-out found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoomIn {
    /// Full-resolution windows slide over the region found: SegVol's.
    #[default]
    Sliding,
    /// One window is laid around the structure, at the resolution at which it fits.
    Focus,
}

/// How the network is moved over a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// How the zoom-in is done in the default mode.
    pub zoom_in: ZoomIn,
    /// How often the focused window is looked at, each time with the mask found before as a prompt.
    pub passes: usize,
    /// Overlap of neighbouring windows in the zoom-in, as a fraction of the window (quirk 43).
    pub overlap: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            name: "segvol".into(),
            license: "unknown".into(),
            image_encoder: ImageEncoderConfig::default(),
            text_encoder: TextEncoderConfig::default(),
            prompt_encoder: PromptEncoderConfig::default(),
            mask_decoder: MaskDecoderConfig::default(),
            preprocessing: PreprocessingConfig::default(),
            inference: InferenceConfig::default(),
        }
    }
}

impl Default for ImageEncoderConfig {
    fn default() -> Self {
        Self {
            image_size: [32, 256, 256],
            patch_size: [4, 16, 16],
            embed_dim: 768,
            num_layers: 12,
            num_heads: 12,
            mlp_dim: 3072,
        }
    }
}

impl Default for TextEncoderConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            context_length: 77,
            width: 512,
            num_layers: 12,
            num_heads: 8,
            mlp_dim: 2048,
            activation: TextActivation::QuickGelu,
            template: "A computerized tomography of a {}.".into(),
        }
    }
}

impl Default for PromptEncoderConfig {
    fn default() -> Self {
        Self { mixed_axes: true, dense: false }
    }
}

impl Default for MaskDecoderConfig {
    fn default() -> Self {
        Self {
            num_layers: 2,
            num_heads: 8,
            mlp_dim: 2048,
            attention_downsample_rate: 2,
            num_mask_tokens: 4,
            iou_head_depth: 3,
            iou_head_hidden: 256,
        }
    }
}

impl Default for PreprocessingConfig {
    fn default() -> Self {
        Self { orientation: None, intensities: Intensities::default(), clip_percentiles: [0.05, 99.95] }
    }
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self { zoom_in: ZoomIn::default(), passes: 1, overlap: 0.5 }
    }
}

impl ImageEncoderConfig {
    /// Patches along (D, H, W).
    pub fn grid(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.image_size[axis] / self.patch_size[axis])
    }

    /// Tokens of one window.
    pub fn num_tokens(&self) -> usize {
        self.grid().iter().product()
    }

    /// Voxels of one patch, which is the length of the vector the projection takes.
    pub fn patch_voxels(&self) -> usize {
        self.patch_size.iter().product()
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.embed_dim / self.num_heads
    }
}

impl PreprocessingConfig {
    /// The orientation with its default filled in.
    pub fn orientation(&self) -> &str {
        self.orientation.as_deref().unwrap_or("RAS")
    }
}

impl ModelConfig {
    /// Reads and validates a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_value(read_json(path)?, path)
    }

    /// Reads and validates the text of a `config.json`; `path` names it in messages.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn from_json(text: &[u8], path: &Path) -> Result<Self> {
        let value = serde_json::from_slice(text);
        Self::from_value(value.map_err(|error| Error::format(path, format!("not valid JSON: {error}")))?, path)
    }

    fn from_value(value: serde_json::Value, path: &Path) -> Result<Self> {
        let config: Self = serde_json::from_value(value)
            .map_err(|error| Error::format(path, format!("not a model configuration: {error}")))?;
        config.validate()?;
        Ok(config)
    }

    /// The text of `config.json`.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a configuration holds nothing JSON cannot say");
        text.push('\n');
        text
    }

    /// Channels of the feature volume after the first and after the second up-scaling: a quarter and an eighth of
    /// the width, as in SAM.
    pub fn upscaled_channels(&self) -> [usize; 2] {
        [self.image_encoder.embed_dim / 4, self.image_encoder.embed_dim / 8]
    }

    /// Channels of the dense prompt path at a quarter, a half and the whole of the window's resolution: those of the
    /// up-scaled features they are added to.
    pub fn dense_channels(&self) -> [usize; 3] {
        let [first, second] = self.upscaled_channels();
        [first, second, self.image_encoder.embed_dim / 16]
    }

    /// Channels of the dense prompt path's residual blocks: on the way down at a half and a quarter of the window's
    /// resolution, on the way up at a quarter, a half and the whole.
    pub(crate) fn dense_blocks(&self) -> [Vec<usize>; 2] {
        let [quarter, half, full] = self.dense_channels();
        [vec![half, half, quarter, quarter, quarter], vec![quarter, quarter, half, half, full, full]]
    }

    /// Channels of the features that masks are made of.
    pub fn mask_channels(&self) -> usize {
        if self.prompt_encoder.dense { self.dense_channels()[2] } else { self.upscaled_channels()[1] }
    }

    /// Width inside the two-way transformer's cross attentions.
    pub fn cross_attention_dim(&self) -> usize {
        self.image_encoder.embed_dim / self.mask_decoder.attention_downsample_rate
    }

    /// Size of the masks the decoder makes before they are resampled to the window, (D, H, W).
    pub fn low_res_size(&self) -> [usize; 3] {
        self.image_encoder.grid().map(|size| size * if self.prompt_encoder.dense { 8 } else { 4 })
    }

    /// Checks that the numbers agree with one another and stay within sane limits.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is wrong; [`Error::Unsupported`] for a newer format.
    pub fn validate(&self) -> Result<()> {
        if self.format_version != FORMAT_VERSION {
            return Err(Error::Unsupported {
                message: format!("configuration: format_version {} is not {FORMAT_VERSION}", self.format_version),
                hint: (self.format_version > FORMAT_VERSION)
                    .then(|| "the model was written by a newer version of this library: update it".into()),
            });
        }
        for (field, text) in [("name", &self.name), ("license", &self.license)] {
            ensure(!text.trim().is_empty(), || format!("{field} is empty"))?;
            ensure(text.len() <= 4096, || format!("{field} has {} bytes; at most 4096", text.len()))?;
        }
        self.validate_image_encoder()?;
        self.validate_text_encoder()?;
        self.validate_mask_decoder()?;
        self.validate_processing()?;
        let parameters = self.parameter_bound();
        ensure(parameters <= u128::from(MAX_PARAMETERS), || {
            format!("the model would have about {parameters} weights; at most {MAX_PARAMETERS}")
        })
    }

    fn validate_image_encoder(&self) -> Result<()> {
        let image = &self.image_encoder;
        for (axis, name) in ["D", "H", "W"].into_iter().enumerate() {
            let (size, patch) = (image.image_size[axis], image.patch_size[axis]);
            within(&format!("image_encoder.image_size ({name})"), size, 1, 4096)?;
            within(&format!("image_encoder.patch_size ({name})"), patch, 1, 256)?;
            ensure(size.is_multiple_of(patch), || {
                format!("image_encoder.image_size {size} ({name}) is not a multiple of patch_size {patch}")
            })?;
        }
        within("the number of image tokens", image.num_tokens(), 1, 1 << 20)?;
        within("the number of voxels in a patch", image.patch_voxels(), 1, 1 << 20)?;
        within("image_encoder.embed_dim", image.embed_dim, 8, 16384)?;
        within("image_encoder.num_layers", image.num_layers, 1, 256)?;
        within("image_encoder.mlp_dim", image.mlp_dim, 1, 1 << 17)?;
        divides("image_encoder.num_heads", image.num_heads, "image_encoder.embed_dim", image.embed_dim)?;
        if self.prompt_encoder.dense {
            ensure(image.patch_size == [8; 3], || {
                format!("prompt_encoder.dense needs image_encoder.patch_size [8, 8, 8], not {:?}", image.patch_size)
            })?;
            divides("16 (the dense prompt path)", 16, "image_encoder.embed_dim", image.embed_dim)?;
        }
        divides("8 (the decoder's up-scaling)", 8, "image_encoder.embed_dim", image.embed_dim)
    }

    fn validate_text_encoder(&self) -> Result<()> {
        let text = &self.text_encoder;
        within("text_encoder.vocab_size", text.vocab_size, 1, 1 << 21)?;
        within("text_encoder.context_length", text.context_length, 2, 4096)?;
        within("text_encoder.width", text.width, 1, 16384)?;
        within("text_encoder.num_layers", text.num_layers, 1, 256)?;
        within("text_encoder.mlp_dim", text.mlp_dim, 1, 1 << 17)?;
        divides("text_encoder.num_heads", text.num_heads, "text_encoder.width", text.width)?;
        ensure(text.template.len() <= 4096, || "text_encoder.template is longer than 4096 bytes".into())?;
        ensure(text.template.matches("{}").count() == 1, || {
            format!("text_encoder.template {:?} needs exactly one {{}}, where the name goes", text.template)
        })
    }

    fn validate_mask_decoder(&self) -> Result<()> {
        let decoder = &self.mask_decoder;
        let width = self.image_encoder.embed_dim;
        within("mask_decoder.num_layers", decoder.num_layers, 1, 64)?;
        within("mask_decoder.mlp_dim", decoder.mlp_dim, 1, 1 << 17)?;
        within("mask_decoder.num_mask_tokens", decoder.num_mask_tokens, 1, 64)?;
        within("mask_decoder.iou_head_depth", decoder.iou_head_depth, 1, 16)?;
        within("mask_decoder.iou_head_hidden", decoder.iou_head_hidden, 1, 16384)?;
        divides("mask_decoder.num_heads", decoder.num_heads, "image_encoder.embed_dim", width)?;
        let rate = decoder.attention_downsample_rate;
        divides("mask_decoder.attention_downsample_rate", rate, "image_encoder.embed_dim", width)?;
        divides("mask_decoder.num_heads", decoder.num_heads, "the cross attentions' width", width / rate)
    }

    fn validate_processing(&self) -> Result<()> {
        let orientation = self.preprocessing.orientation();
        let axes = |pair: &str| orientation.chars().filter(|&letter| pair.contains(letter)).count();
        ensure(orientation.len() == 3 && ["RL", "AP", "SI"].into_iter().all(|pair| axes(pair) == 1), || {
            format!("preprocessing.orientation {orientation:?} is not three of R/L, A/P and S/I, one each")
        })?;
        let [low, high] = self.preprocessing.clip_percentiles;
        ensure((0.0..high).contains(&low) && high <= 100.0, || {
            format!("preprocessing.clip_percentiles [{low}, {high}] are not two rising numbers from 0 to 100")
        })?;
        let overlap = self.inference.overlap;
        ensure((0.0..1.0).contains(&overlap), || format!("inference.overlap {overlap} is not in [0, 1)"))?;
        within("inference.passes", self.inference.passes, 1, 16)
    }

    /// Somewhat more than the number of weights, from numbers that have been checked one by one already.
    fn parameter_bound(&self) -> u128 {
        let [width, tokens, mlp] =
            [self.image_encoder.embed_dim, self.image_encoder.num_tokens(), self.image_encoder.mlp_dim]
                .map(|n| n as u128);
        let image = width * (tokens + self.image_encoder.patch_voxels() as u128)
            + self.image_encoder.num_layers as u128 * (4 * width * width + 2 * width * mlp);
        let text = &self.text_encoder;
        let [rows, text_width, text_mlp] =
            [text.vocab_size + text.context_length, text.width, text.mlp_dim].map(|n| n as u128);
        let text = text_width * (rows + width)
            + text.num_layers as u128 * (4 * text_width * text_width + 2 * text_width * text_mlp);
        let decoder = &self.mask_decoder;
        let [layers, decoder_mlp, masks, hidden] =
            [decoder.num_layers, decoder.mlp_dim, decoder.num_mask_tokens, decoder.iou_head_hidden].map(|n| n as u128);
        let decoder = (layers + 1) * (12 * width * width + 2 * width * decoder_mlp)
            + 3 * masks * width * width
            + if self.prompt_encoder.dense { 4 * width * width } else { 0 }
            + decoder.iou_head_depth as u128 * (hidden + width) * (hidden + masks)
            // The up-scaling: two transposed convolutions, and a norm with a weight and a bias per element.
            + 3 * width * width
            + 4 * width * tokens;
        image + text + decoder
    }
}

/// The JSON of a configuration file, of bounded size.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
    let mut text = Vec::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut text).map_err(|error| Error::io(path, error))?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(Error::format(path, format!("longer than {MAX_CONFIG_BYTES} bytes: not a configuration")));
    }
    serde_json::from_slice(&text).map_err(|error| Error::format(path, format!("not valid JSON: {error}")))
}

fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::config(message())) }
}

fn within(field: &str, value: usize, low: usize, high: usize) -> Result<()> {
    ensure((low..=high).contains(&value), || format!("{field} is {value}; allowed is {low} to {high}"))
}

fn divides(field: &str, value: usize, whole_field: &str, whole: usize) -> Result<()> {
    ensure(value > 0 && whole > 0 && whole.is_multiple_of(value), || {
        format!("{field} = {value} does not divide {whole_field} = {whole}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut ModelConfig)) -> String {
        let mut config = ModelConfig::default();
        change(&mut config);
        config.validate().expect_err("this configuration must be refused").to_string()
    }

    #[test]
    fn config_default_is_the_published_model() {
        let config = ModelConfig::default();
        config.validate().unwrap();
        assert_eq!(config.image_encoder.grid(), [8, 16, 16]);
        assert_eq!(config.image_encoder.num_tokens(), 2048);
        assert_eq!(config.upscaled_channels(), [192, 96]);
        assert_eq!(config.low_res_size(), [32, 64, 64]);
    }

    #[test]
    fn config_survives_json_and_may_be_partial() {
        let config = ModelConfig::default();
        assert_eq!(serde_json::from_str::<ModelConfig>(&config.to_json()).unwrap(), config);
        let partial: ModelConfig = serde_json::from_str(r#"{"text_encoder": {"activation": "gelu_tanh"}}"#).unwrap();
        assert_eq!(partial.text_encoder.activation, TextActivation::GeluTanh);
        assert_eq!(partial.image_encoder, config.image_encoder);
    }

    #[test]
    fn config_unknown_fields_are_named() {
        let error = serde_json::from_str::<ModelConfig>(r#"{"image_encoder": {"embed_dims": 1}}"#).unwrap_err();
        assert!(error.to_string().contains("embed_dims"), "{error}");
    }

    #[test]
    fn config_refuses_what_cannot_be_built() {
        assert!(refused(|c| c.image_encoder.image_size[2] = 250).contains("not a multiple of patch_size 16"));
        assert!(refused(|c| c.image_encoder.patch_size[0] = 0).contains("patch_size (D) is 0"));
        assert!(refused(|c| c.image_encoder.num_heads = 7).contains("num_heads = 7 does not divide"));
        assert!(refused(|c| c.text_encoder.num_heads = 0).contains("num_heads = 0"));
        assert!(refused(|c| c.mask_decoder.attention_downsample_rate = 5).contains("does not divide"));
        assert!(refused(|c| c.text_encoder.template = "liver".into()).contains("exactly one {}"));
        assert!(refused(|c| c.preprocessing.orientation = Some("RRS".into())).contains("orientation"));
        assert!(refused(|c| c.preprocessing.clip_percentiles = [f64::NAN, 99.0]).contains("clip_percentiles"));
        assert!(refused(|c| c.inference.overlap = 1.0).contains("overlap"));
        assert!(refused(|c| c.license.clear()).contains("license is empty"));
        assert!(refused(|c| c.format_version = 2).contains("format_version 2"));
    }

    #[test]
    fn config_refuses_absurd_memory() {
        assert!(refused(|c| c.image_encoder.num_layers = usize::MAX).contains("num_layers"));
        assert!(refused(|c| c.image_encoder.image_size = [4096; 3]).contains("image tokens"));
        let message = refused(|c| {
            c.image_encoder.embed_dim = 16384;
            c.image_encoder.num_heads = 256;
            c.image_encoder.num_layers = 256;
        });
        assert!(message.contains("weights; at most"), "{message}");
    }
}
