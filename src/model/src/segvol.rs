//! The whole network, from window and prompts to logits.

use crate::adapter::{Adapter, AdapterContext};
use crate::config::ModelConfig;
use crate::dense_prompt::DensePrompt;
use crate::error::{Error, Result};
use crate::host::Workers;
use crate::image_encoder::ImageEncoder;
use crate::linear::Lora;
use crate::linear::{Linear, Linears};
use crate::mask_decoder::{MaskDecoder, Masks, PromptTokens, interpolate_trilinear};
use crate::parameters::{self, RawTensor};
use crate::prior::{ContextPrior, Fused, MaskEffect, PriorConfig};
use crate::prompt_encoder::PromptEncoder;
use crate::text_encoder::TextEncoder;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::collections::HashMap;
use std::sync::Arc;

/// SegVol: image encoder, text encoder, prompt encoder, mask decoder (Du et al., figure 2).
#[derive(Module, Debug)]
pub struct SegVol {
    image_encoder: ImageEncoder,
    text_encoder: TextEncoder,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
    dense_prompt: Option<DensePrompt>,
    // Skipped, as the corrections of linear layers are: an adapter is not part of the base.
    #[module(skip)]
    prior: Option<(PriorConfig, ContextPrior)>,
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
    /// The same and more for the dense prompt path, where the model has one: `[1, voxels, 20]`, see
    /// [`DenseInput`](crate::dense_prompt::DenseInput).
    pub dense: Option<Tensor<3>>,
}

impl Prompts {
    /// Whether there is nothing to go by.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.bounding_box.is_none() && self.text.is_none()
    }

    /// What prompts have in common that can be decoded together: how many points, whether a box, whether a text.
    pub fn kind(&self) -> (usize, bool, bool) {
        (self.points.len(), self.bounding_box.is_some(), self.text.is_some())
    }
}

impl ModelConfig {
    /// A network of these sizes; its weights are drawn at random when first used, unless loaded before.
    pub fn init(&self, device: &Device) -> SegVol {
        let image = &self.image_encoder;
        SegVol {
            image_encoder: image.init(device),
            text_encoder: TextEncoder::new(self, device),
            prompt_encoder: PromptEncoder::new(image.image_size, image.embed_dim, &self.prompt_encoder, device),
            mask_decoder: MaskDecoder::new(self, device),
            dense_prompt: self.prompt_encoder.dense.then(|| DensePrompt::new(self, device)),
            prior: None,
        }
    }
}

impl SegVol {
    /// This network with every weight taken from `source`, which is asked by the names of
    /// [`expected_tensors`](crate::checkpoint::expected_tensors).
    ///
    /// On the Flex device the weights stay where they are, in the mapped file; other devices copy them once.
    ///
    /// # Errors
    /// The first tensor that is absent or has another shape. A model folder has been checked as a whole before.
    pub fn load(self, device: &Device, source: impl Fn(&str) -> Option<RawTensor>) -> Result<Self> {
        parameters::load(self, device, source)
    }

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

    /// This network with an adapter beside it. It shares every weight with this one, which is not changed.
    ///
    /// A part that does nothing yet, such as an untrained correction, is left out: the result is then this network's,
    /// bit for bit.
    ///
    /// # Errors
    /// An adapter for layers of other sizes.
    pub fn with_adapter(&self, adapter: &Adapter) -> Result<Self> {
        self.attached(adapter, true)
    }

    /// [`with_adapter`](Self::with_adapter) with every part, whether or not it does anything yet: to know, one would have
    /// to wait for the device.
    pub(crate) fn with_whole_adapter(&self, adapter: &Adapter) -> Result<Self> {
        self.attached(adapter, false)
    }

    fn attached(&self, adapter: &Adapter, sparing: bool) -> Result<Self> {
        let mut network = self.without_adapter();
        let mut corrections: HashMap<&str, &Lora> = adapter.lora().collect();
        let mut misfit = None;
        network.visit_linears(&mut |name, layer| {
            let Some(lora) = corrections.remove(name.as_str()) else { return };
            let ([input, output], [rank, a]) = (layer.sizes(), lora.a.lazy_shape().dims());
            if a != input || lora.b.lazy_shape().dims() != [output, rank] {
                misfit = Some(format!("its correction of {name} is for {a} inputs, the layer has {input} to {output}"));
            } else if !(sparing && lora.is_zero()) {
                layer.set_lora(Some(lora.clone()));
            }
        });
        if let Some(name) = corrections.keys().next() {
            misfit = Some(format!("it corrects {name}, which this model does not have"));
        }
        if let Some(message) = misfit {
            return Err(Error::Unsupported {
                message: format!("the adapter does not fit the model: {message}"),
                hint: Some("use it with the model it was trained on".into()),
            });
        }
        if let (Some(config), Some(prior)) = (&adapter.config().prior, adapter.prior())
            && !(sparing && prior.is_identity())
        {
            network.prior = Some((config.clone(), prior.clone()));
        }
        Ok(network)
    }

    /// The base alone.
    #[must_use]
    pub fn without_adapter(&self) -> Self {
        let mut network = self.clone();
        network.visit_linears(&mut |_, layer| layer.set_lora(None));
        network.image_encoder.round_as(None);
        network.prior = None;
        network
    }

    /// This network with the products of the image encoder's blocks computed in half precision, or again in float32. Sums,
    /// norms and everything else stay float32: the decoder takes no time, and the phase of a place's encoding needs the
    /// digits. So does the last layer of attention, a twelfth of the work: with it in bfloat16 the worst golden mask had a Dice
    /// of 0.9990 with float32's, so it has 0.9994. Weights are kept in both.
    #[must_use]
    pub fn with_half(mut self, dtype: Option<DType>) -> Self {
        self.visit_linears(&mut |name, layer| {
            if name.starts_with("image_encoder.blocks.") && !name.ends_with(".out_proj") {
                layer.set_half(dtype);
            }
        });
        self
    }

    /// This network, whose dense prompt path learns in bfloat16 on libtorch: products of its convolutions and of their
    /// gradients are those of bfloat16 numbers, sums and weights stay float32. Inference is as before.
    #[must_use]
    pub fn learning_in_bf16(mut self) -> Self {
        if let Some(path) = &mut self.dense_prompt {
            path.learn_in_bf16();
        }
        self
    }

    /// Adds the attached corrections to copies of the weights: more memory, and no time afterwards.
    #[must_use]
    pub fn merged(mut self) -> Self {
        self.visit_linears(&mut |_, layer| layer.merge());
        self
    }

    /// This network, whose image encoder is computed by the project's kernels on libtorch's processor too, wherever it does not
    /// learn: on these threads, which are not libtorch's.
    #[must_use]
    pub fn with_workers(mut self, workers: Arc<dyn Workers>) -> Self {
        self.image_encoder.set_workers(workers);
        self
    }

    /// This network, whose image encoder computes in bfloat16 on a processor wherever it does not learn. An attached
    /// adapter's corrections are rounded into the weights.
    ///
    /// # Errors
    /// Layers of an odd width.
    pub fn in_bf16(mut self) -> Result<Self> {
        let mut odd = !self.image_encoder.has_even_heads();
        self.image_encoder.visit_linears("image_encoder", &mut |_, layer| odd |= layer.sizes()[0] % 2 == 1);
        if odd {
            return Err(Error::Unsupported {
                message: "the image encoder has layers of an odd width, which bfloat16 cannot pair".into(),
                hint: Some("open the model in f32".into()),
            });
        }
        self.image_encoder.round();
        Ok(self)
    }

    /// This network with the rounded image encoder of another one of the same weights, without rounding them again.
    #[must_use]
    pub fn in_bf16_as(mut self, other: &Self) -> Self {
        self.image_encoder.round_as(Some(&other.image_encoder));
        self
    }

    /// Hands the linear layers an adapter can correct to `visit`, with their names in a checkpoint.
    pub(crate) fn visit_linears(&mut self, visit: &mut dyn FnMut(String, &mut Linear)) {
        self.image_encoder.visit_linears("image_encoder", visit);
        self.mask_decoder.visit_linears("mask_decoder", visit);
    }

    /// Whether a context prior is attached.
    pub fn has_prior(&self) -> bool {
        self.prior.is_some()
    }

    /// Joins the encoded window with the context prior, if one is attached.
    ///
    /// # Shapes
    /// - image: `[1, d * h * w, embed_dim]`, the image encoder's output
    pub fn fuse(&self, image: Tensor<3>, context: &AdapterContext) -> Fused {
        match &self.prior {
            None => Fused { image, effect: MaskEffect::default(), modality_logits: None },
            Some((config, prior)) => prior.forward(
                image,
                config.modality_row(context.modality.as_deref()),
                config.task_row(context.task.as_deref()),
            ),
        }
    }

    /// Masks at low resolution for the prompts of one window.
    ///
    /// # Shapes
    /// - image: `[1, d * h * w, embed_dim]`, the image of [`fuse`](Self::fuse) for a token grid of `grid`
    pub fn decode(&self, image: Tensor<3>, grid: [usize; 3], prompts: &Prompts, effect: &MaskEffect) -> Masks {
        self.decode_batch(image, grid, &[prompts], effect)
    }

    /// [`decode`](Self::decode) for several windows, each with its prompts. The fewer changes of
    /// [`kind`](Prompts::kind) there are from one to the next, the less there is to do.
    ///
    /// # Shapes
    /// - image: `[windows, d * h * w, embed_dim]`
    pub fn decode_batch(&self, image: Tensor<3>, grid: [usize; 3], prompts: &[&Prompts], effect: &MaskEffect) -> Masks {
        let device = image.device();
        let groups = prompts.chunk_by(|a, b| a.kind() == b.kind());
        let tokens = groups.map(|group| self.prompt_tokens(group, &device)).collect();
        let image_pe = self.prompt_encoder.dense_pe(grid);
        if let Some(path) = &self.dense_prompt {
            let volume = |prompts: &&Prompts| {
                prompts.dense.clone().expect("whoever calls a model with a dense prompt path makes its input")
            };
            let features = path.forward(Tensor::cat(prompts.iter().map(volume).collect(), 0));
            return self.mask_decoder.forward_dense(image, image_pe, (path, &features), tokens, effect);
        }
        self.mask_decoder.forward(image, image_pe, self.prompt_encoder.dense_prompt(), tokens, effect)
    }

    /// The tokens of prompts of one kind.
    fn prompt_tokens(&self, prompts: &[&Prompts], device: &Device) -> PromptTokens {
        let rows = prompts.len();
        let (count, boxed, named) = prompts[0].kind();
        let points = (count > 0).then(|| {
            let all = || prompts.iter().flat_map(|prompts| &prompts.points);
            let places: Vec<f32> = all().flat_map(|(place, _)| *place).collect();
            let labels: Vec<f32> = all().map(|(_, label)| f32::from(*label)).collect();
            (
                Tensor::<3>::from_data(TensorData::new(places, [rows, count, 3]), device),
                Tensor::<2>::from_data(TensorData::new(labels, [rows, count]), device),
            )
        });
        let boxes = boxed.then(|| {
            let corners: Vec<f32> = prompts.iter().flat_map(|prompts| prompts.bounding_box).flatten().collect();
            Tensor::<2>::from_data(TensorData::new(corners, [rows, 6]), device)
        });
        let text = named.then(|| Tensor::cat(prompts.iter().filter_map(|prompts| prompts.text.clone()).collect(), 0));
        PromptTokens { sparse: self.prompt_encoder.forward(points, boxes, text.clone()), text }
    }

    /// Mask 0 resampled to the window: `[batch, 1, D, H, W]` logits (quirks 29 and 30).
    pub fn upsample(low_res: Tensor<5>, image_size: [usize; 3]) -> Tensor<5> {
        interpolate_trilinear(low_res.narrow(1, 0, 1), image_size)
    }
}
