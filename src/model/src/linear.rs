//! The linear layer of the network, and the low-rank correction that an adapter puts beside it.

use crate::nn::{self, Kernels};
use burn::module::{Module, Param};
use burn::tensor::module as functional;
use burn::tensor::{DType, Device, Tensor};

/// `x W + b`, plus an adapter's low-rank correction where one is attached.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`.
    pub(crate) weight: Param<Tensor<2>>,
    /// `[out]`.
    pub(crate) bias: Option<Param<Tensor<1>>>,
    // Skipped: whoever visits a network's weights means the base's, which an adapter never changes.
    #[module(skip)]
    pub(crate) lora: Option<Lora>,
    // A copy of the weight in half precision, where products are computed in it; what learns and what is saved is the weight.
    #[module(skip)]
    half: Option<Tensor<2>>,
}

/// What is done to the result of a linear layer.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// [`gelu`](nn::gelu).
    Gelu,
    /// A residual of the result's shape is added.
    Add(&'a Tensor<3>),
}

/// A low-rank correction of a linear layer: `scale * x A^T B^T` (LoRA, Hu et al., arXiv 2106.09685).
#[derive(Module, Debug)]
pub struct Lora {
    /// `[rank, in]`, as PEFT stores it.
    pub a: Param<Tensor<2>>,
    /// `[out, rank]`, as PEFT stores it.
    pub b: Param<Tensor<2>>,
    /// `alpha / rank`, or `alpha / sqrt(rank)` for rsLoRA (Kalajdzievski, arXiv 2312.03732).
    pub scale: f64,
}

impl Lora {
    /// Whether it changes nothing, as before training.
    pub(crate) fn is_zero(&self) -> bool {
        self.b.val().without_autodiff().abs().max().into_scalar::<f32>() == 0.0
    }

    fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let inner = functional::linear(input, self.a.val().transpose(), None);
        functional::linear(inner, self.b.val().transpose(), None) * self.scale
    }
}

impl Linear {
    /// A layer with a bias.
    pub fn new(input: usize, output: usize, device: &Device) -> Self {
        burn::nn::LinearConfig::new(input, output).init(device).into()
    }

    /// A layer without a bias.
    pub fn without_bias(input: usize, output: usize, device: &Device) -> Self {
        burn::nn::LinearConfig::new(input, output).with_bias(false).init(device).into()
    }

    /// In half precision the output stays in it, whatever the input's.
    ///
    /// # Shapes
    /// - input: `[.., in]`
    /// - output: `[.., out]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(|bias| bias.val());
        if let Some(half) = &self.half {
            let dtype = half.dtype();
            let output = functional::linear(input.clone().cast(dtype), half.clone(), bias.map(|bias| bias.cast(dtype)));
            return match &self.lora {
                Some(lora) => output + lora.forward(input.cast(DType::F32)).cast(dtype),
                None => output,
            };
        }
        // After a layer in half precision.
        let input = if input.dtype() == DType::F32 { input } else { input.cast(DType::F32) };
        let output = functional::linear(input.clone(), self.weight.val(), bias);
        match &self.lora {
            Some(lora) => output + lora.forward(input),
            None => output,
        }
    }

    /// The layer and what follows it, in one pass over the result where the device has a kernel for that.
    ///
    /// # Shapes
    /// - input: `[batch, tokens, in]`
    /// - output: `[batch, tokens, out]`
    pub fn forward_then(&self, input: Tensor<3>, epilogue: Epilogue, kernels: Kernels) -> Tensor<3> {
        #[cfg(feature = "flex")]
        if kernels == Kernels::Fused
            && nn::flex::linear_runs_here(self, &input, epilogue)
            && self.lora.as_ref().is_none_or(|lora| !lora.b.val().is_autodiff())
        {
            let Some(lora) = &self.lora else { return nn::flex::linear(self, input, epilogue) };
            let correction = lora.forward(input.clone());
            // A sum is a sum: the correction goes in with the residual, and only GELU must wait for it.
            return match epilogue {
                Epilogue::None => nn::flex::linear(self, input, Epilogue::Add(&correction)),
                Epilogue::Add(residual) => {
                    nn::flex::linear(self, input, Epilogue::Add(&(correction + residual.clone())))
                }
                Epilogue::Gelu => nn::gelu(nn::flex::linear(self, input, Epilogue::Add(&correction)), kernels),
            };
        }
        let output = self.forward(input);
        match epilogue {
            Epilogue::None => output,
            Epilogue::Gelu => nn::gelu(output, kernels),
            // Sums of layers are float32, whatever products are computed in.
            Epilogue::Add(residual) if output.dtype() != residual.dtype() => {
                residual.clone() + output.cast(residual.dtype())
            }
            Epilogue::Add(residual) => residual.clone() + output,
        }
    }

    /// `[in, out]`.
    pub fn sizes(&self) -> [usize; 2] {
        self.weight.lazy_shape().dims()
    }

    /// Puts a correction beside the layer, or takes it away.
    pub(crate) fn set_lora(&mut self, lora: Option<Lora>) {
        self.lora = lora;
    }

    /// Adds the correction to the weight itself, which costs a copy of the weight and no time afterwards.
    pub(crate) fn merge(&mut self) {
        if self.lora.is_some() {
            self.weight = Param::initialized(self.weight.id, self.corrected_weight());
            self.lora = None;
            self.set_half(self.half.as_ref().map(Tensor::dtype));
        }
    }

    /// `[in, out]`: the weight, with the correction where there is one.
    pub(crate) fn corrected_weight(&self) -> Tensor<2> {
        let weight = self.weight.val();
        let Some(lora) = &self.lora else { return weight };
        // Through `[out, in]`, so that the sum lies in memory as a checkpoint's weight does.
        (weight.transpose() + lora.b.val().matmul(lora.a.val()) * lora.scale).transpose()
    }

    /// Computes products in half precision from here on, or again in the weight's own.
    pub(crate) fn set_half(&mut self, dtype: Option<DType>) {
        self.half = dtype.map(|dtype| self.weight.val().cast(dtype));
    }
}

impl From<burn::nn::Linear> for Linear {
    fn from(linear: burn::nn::Linear) -> Self {
        Self { weight: linear.weight, bias: linear.bias, lora: None, half: None }
    }
}

/// The linear layers of a part of the network, by the names a checkpoint gives them.
pub(crate) trait Linears {
    /// Hands every layer to `visit`, its name after `prefix`.
    fn visit_linears(&mut self, prefix: &str, visit: &mut dyn FnMut(String, &mut Linear));
}

/// Implements [`Linears`] by naming the fields: `self` layers, then parts that have layers, then lists of parts.
macro_rules! linears {
    ($type:ty, layers: [$($layer:ident),*], parts: [$($part:ident),*], lists: [$($list:ident),*]) => {
        impl $crate::linear::Linears for $type {
            fn visit_linears(&mut self, prefix: &str, visit: &mut dyn FnMut(String, &mut $crate::linear::Linear)) {
                $(visit(format!("{prefix}.{}", stringify!($layer)), &mut self.$layer);)*
                $($crate::linear::Linears::visit_linears(
                    &mut self.$part,
                    &format!("{prefix}.{}", stringify!($part)),
                    visit,
                );)*
                $(for (index, item) in self.$list.iter_mut().enumerate() {
                    let prefix = format!("{prefix}.{}.{index}", stringify!($list));
                    $crate::linear::Linears::visit_linears(item, &prefix, visit);
                })*
            }
        }
    };
}
pub(crate) use linears;
