//! The whole network, from window and prompts to logits.

use crate::config::ModelConfig;
use crate::image_encoder::ImageEncoder;
use crate::mask_decoder::{MaskDecoder, Masks, interpolate_trilinear};
use crate::prompt_encoder::PromptEncoder;
use crate::text_encoder::TextEncoder;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

/// SegVol: image encoder, text encoder, prompt encoder, mask decoder (Du et al., figure 2).
#[derive(Module, Debug)]
pub struct SegVol {
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
}

/// The prompts of one pass over one window. Coordinates are (d, h, w) in voxels of the window.
#[derive(Clone, Debug, Default)]
pub struct Prompts {
    /// Points with their labels: 1 positive, 0 negative, -1 not a point.
    pub points: Vec<([f32; 3], i8)>,
    /// A box (d0, h0, w0, d1, h1, w1) with inclusive corners.
    pub bounding_box: Option<[f32; 6]>,
    /// A text as the text encoder's aligned output, `[1, embed_dim]`.
    pub text: Option<Tensor<2>>,
}

impl Prompts {
    /// Whether there is nothing to go by.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.bounding_box.is_none() && self.text.is_none()
    }
}

impl ModelConfig {
    /// A network of these sizes; its weights are drawn at random when first used, unless loaded before.
    pub fn init(&self, device: &Device) -> SegVol {
        let image = &self.image_encoder;
        SegVol {
            image_encoder: image.init(device),
            text_encoder: TextEncoder::new(self, device),
            prompt_encoder: PromptEncoder::new(image.image_size, image.embed_dim, device),
            mask_decoder: MaskDecoder::new(self, device),
        }
    }
}

impl SegVol {
    /// The image encoder.
    pub fn image_encoder(&self) -> &ImageEncoder {
        &self.image_encoder
    }

    /// The text encoder.
    pub fn text_encoder(&self) -> &TextEncoder {
        &self.text_encoder
    }

    /// The prompt encoder.
    pub fn prompt_encoder(&self) -> &PromptEncoder {
        &self.prompt_encoder
    }

    /// The mask decoder.
    pub fn mask_decoder(&self) -> &MaskDecoder {
        &self.mask_decoder
    }

    /// Masks at low resolution for the prompts of one window.
    ///
    /// # Shapes
    /// - image: `[1, d * h * w, embed_dim]`, the image encoder's output for a token grid of `grid`
    pub fn decode(&self, image: Tensor<3>, grid: [usize; 3], prompts: &Prompts) -> Masks {
        let device = image.device();
        let points = (!prompts.points.is_empty()).then(|| {
            let count = prompts.points.len();
            let places: Vec<f32> = prompts.points.iter().flat_map(|(place, _)| *place).collect();
            let labels: Vec<f32> = prompts.points.iter().map(|(_, label)| f32::from(*label)).collect();
            (
                Tensor::<3>::from_data(TensorData::new(places, [1, count, 3]), &device),
                Tensor::<2>::from_data(TensorData::new(labels, [1, count]), &device),
            )
        });
        let boxes = prompts
            .bounding_box
            .map(|corners| Tensor::<2>::from_data(TensorData::new(corners.to_vec(), [1, 6]), &device));
        let sparse = self.prompt_encoder.forward(points, boxes, prompts.text.clone());
        self.mask_decoder.forward(
            image,
            self.prompt_encoder.dense_pe(grid),
            self.prompt_encoder.dense_prompt(),
            sparse,
            prompts.text.clone(),
        )
    }

    /// Mask 0 resampled to the window: `[batch, 1, D, H, W]` logits (quirks 29 and 30).
    pub fn upsample(low_res: Tensor<5>, image_size: [usize; 3]) -> Tensor<5> {
        interpolate_trilinear(low_res.narrow(1, 0, 1), image_size)
    }
}
