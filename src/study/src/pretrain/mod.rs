//! Training from scratch on phantoms: how the built-in model is made.

mod atlas;
mod frame;
mod init;
mod run;
mod sample;
mod stage;
mod vocabulary;

pub use run::{PretrainHooks, PretrainOptions, PretrainProgress, PretrainReport, PretrainValidation, pretrain};

use adaptmedseg_model::config::{
    ImageEncoderConfig, InferenceConfig, Intensities, MaskDecoderConfig, ModelConfig, PreprocessingConfig,
    PromptEncoderConfig, TextActivation, TextEncoderConfig, ZoomIn,
};

/// The architecture of the built-in model: see its model card for what else was tried.
pub fn small_config() -> ModelConfig {
    let vocabulary = vocabulary::words().len() + vocabulary::SPECIAL.len();
    ModelConfig {
        name: "builtin".into(),
        license: "Apache-2.0".into(),
        image_encoder: ImageEncoderConfig {
            image_size: [48; 3],
            patch_size: [8; 3],
            embed_dim: 256,
            num_layers: 2,
            num_heads: 8,
            mlp_dim: 480,
        },
        text_encoder: TextEncoderConfig {
            vocab_size: vocabulary,
            context_length: 16,
            width: 64,
            num_layers: 1,
            num_heads: 2,
            mlp_dim: 128,
            activation: TextActivation::Gelu,
            template: "{}".into(),
        },
        prompt_encoder: PromptEncoderConfig { mixed_axes: false, dense: true },
        mask_decoder: MaskDecoderConfig {
            num_layers: 1,
            num_heads: 8,
            mlp_dim: 256,
            attention_downsample_rate: 2,
            num_mask_tokens: 1,
            iou_head_depth: 1,
            iou_head_hidden: 64,
        },
        preprocessing: PreprocessingConfig {
            intensities: Intensities::Volume,
            clip_percentiles: [0.5, 99.5],
            ..PreprocessingConfig::default()
        },
        inference: InferenceConfig { zoom_in: ZoomIn::Focus, passes: 2, ..InferenceConfig::default() },
        ..ModelConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adaptmedseg_model::checkpoint::expected_tensors;

    #[test]
    fn the_small_model_fits_into_eight_megabytes_of_half_precision() {
        let config = small_config();
        config.validate().expect("valid");
        let weights: usize =
            expected_tensors(&config).iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        let bytes = 2 * weights + vocabulary::tokenizer().len();
        assert!(bytes < 8_000_000, "{weights} weights, {bytes} bytes");
    }
}
