//! Weights and activations in the processor's memory, read where they lie, whichever backend they belong to: what the
//! kernels take.

#![cfg_attr(
    not(any(feature = "flex", feature = "tch")),
    allow(unused, unreachable_code, reason = "without a backend there are no tensors to read")
)]
#![cfg_attr(feature = "tch", expect(deprecated, reason = "what comes after libtorch is another plugin"))]

use crate::linear::Linear;
use adaptmedseg_kernels::{Bf16Weight, Epilogue, LinearShape};
#[cfg(feature = "flex")]
use burn::backend::Flex;
#[cfg(feature = "tch")]
use burn::backend::LibTorch;
use burn::backend::tensor::FloatTensor;
use burn::nn::LayerNorm;
use burn::tensor::{DType, Device, Tensor};
use std::fmt;
use std::time::Instant;

/// The epsilon of every `LayerNorm` of the network (quirk 4); Burn keeps its own private.
pub(crate) const LAYER_NORM_EPSILON: f32 = 1e-5;

/// Threads that the kernels compute on, where their caller is not one of them.
pub trait Workers: fmt::Debug + Send + Sync {
    /// Runs `work` on a thread of a rayon pool, and returns when it is done.
    fn run(&self, work: &mut (dyn FnMut() + Send));
}

/// Whether tensors of a device lie in the processor's memory.
pub(crate) fn holds(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    if *device == Device::flex() {
        return true;
    }
    #[cfg(feature = "tch")]
    if *device == Device::libtorch() {
        return true;
    }
    false
}

/// The elements of a float32 tensor outside autodiff, row-major.
pub(crate) enum Floats {
    #[cfg(feature = "flex")]
    Flex(FloatTensor<Flex>),
    /// The tensor of Burn, not libtorch's alone: while it is held, Burn changes nothing in place.
    #[cfg(feature = "tch")]
    Torch(FloatTensor<LibTorch>),
}

impl Floats {
    /// Copies them only where they lie in another order.
    pub(crate) fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        assert_eq!(tensor.dtype(), DType::F32, "whoever asks has checked it");
        #[cfg(feature = "flex")]
        if tensor.device() == Device::flex() {
            let tensor = tensor.try_into_primitive::<Flex>().expect("its device is Flex");
            return Self::Flex(tensor.to_contiguous());
        }
        #[cfg(feature = "tch")]
        {
            let mut tensor = tensor.try_into_primitive::<LibTorch>().expect("there is no other device");
            if !tensor.tensor.is_contiguous() {
                tensor = FloatTensor::<LibTorch>::new(tensor.tensor.contiguous());
            }
            Self::Torch(tensor)
        }
        #[cfg(not(feature = "tch"))]
        unreachable!("there is no other device")
    }

    pub(crate) fn slice(&self) -> &[f32] {
        match *self {
            #[cfg(feature = "flex")]
            Self::Flex(ref tensor) => tensor.as_slice::<f32>().expect("contiguous float32"),
            #[cfg(feature = "tch")]
            Self::Torch(ref tensor) => {
                assert_eq!(tensor.tensor.device(), tch::Device::Cpu, "whoever asks has checked it");
                // SAFETY: so many float32 numbers lie there one after the other, in the processor's memory, for as long as
                // the tensor lives; nothing is written to a tensor that is shared.
                unsafe { std::slice::from_raw_parts(tensor.tensor.data_ptr().cast(), tensor.tensor.numel()) }
            }
        }
    }
}

/// What a panic says where a buffer finds no memory: a host that closes something can go on with the model.
pub const NO_MEMORY: &str = "out of memory: the image encoder's buffers";

fn reserved<T>(length: usize) -> Vec<T> {
    let mut buffer = Vec::new();
    if buffer.try_reserve_exact(length).is_err() {
        panic!("{NO_MEMORY}, one of {} MB", length * size_of::<T>() / 1_000_000);
    }
    buffer
}

/// A buffer of `length` zeros. Panics with [`NO_MEMORY`], where `vec!` would end the process.
pub(crate) fn buffer<T: Clone + Default>(length: usize) -> Vec<T> {
    let mut buffer = reserved(length);
    buffer.resize(length, T::default());
    buffer
}

/// The elements, row-major. Panics as [`buffer`].
pub(crate) fn elements<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let floats = Floats::new(tensor);
    let mut elements = reserved(floats.slice().len());
    elements.extend_from_slice(floats.slice());
    elements
}

/// A layer norm's weights where the kernel can read them.
pub(crate) struct Norm {
    gamma: Floats,
    beta: Floats,
}

impl Norm {
    pub(crate) fn new(norm: &LayerNorm) -> Self {
        let beta = norm.beta.as_ref().expect("every LayerNorm of the network has a bias").val();
        Self { gamma: Floats::new(norm.gamma.val()), beta: Floats::new(beta) }
    }

    /// # Shapes
    /// - x, out: `[rows, width]`
    pub(crate) fn forward(&self, x: &[f32], out: &mut [f32]) {
        adaptmedseg_kernels::layer_norm(x, self.gamma.slice(), self.beta.slice(), LAYER_NORM_EPSILON, out);
    }
}

/// A linear layer's weights where the kernel can read them; without a correction.
pub(crate) struct Layer {
    /// `[out, in]`.
    weight: Floats,
    bias: Option<Floats>,
    sizes: [usize; 2],
}

impl Layer {
    /// Whether the weight lies in the processor's memory as a checkpoint stores it, one row per output: the layout the kernel
    /// reads. One drawn at random or replaced in training may lie the other way round.
    pub(crate) fn lies_in_rows(layer: &Linear) -> bool {
        let weight = layer.weight.val();
        let device = weight.device();
        let [inputs, _] = weight.dims();
        #[cfg(feature = "flex")]
        if device == Device::flex() {
            let weight = weight.try_into_primitive::<Flex>().expect("its device is Flex");
            return weight.dtype() == DType::F32 && *weight.layout().strides() == [1, inputs as isize];
        }
        #[cfg(feature = "tch")]
        if !device.is_autodiff() && holds(&device) && weight.dtype() == DType::F32 {
            let weight = weight.try_into_primitive::<LibTorch>().expect("there is no other device");
            return weight.tensor.stride() == [1, inputs as i64];
        }
        false
    }

    pub(crate) fn new(layer: &Linear) -> Self {
        Self {
            // Transposed back, a weight stored by rows is contiguous.
            weight: Floats::new(layer.weight.val().transpose()),
            bias: layer.bias.as_ref().map(|bias| Floats::new(bias.val())),
            sizes: layer.sizes(),
        }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.sizes[1]
    }

    /// # Shapes
    /// - x: `[rows, in]`; out: `[rows, out]`
    pub(crate) fn forward(&self, x: &[f32], epilogue: Epilogue, out: &mut [f32]) {
        let [inputs, outputs] = self.sizes;
        let shape = LinearShape { rows: x.len() / inputs, inputs, outputs };
        let bias = self.bias.as_ref().map(Floats::slice);
        adaptmedseg_kernels::linear(&shape, x, self.weight.slice(), bias, epilogue, out);
    }
}

/// A weight `[in, out]` for bfloat16 products.
pub(crate) fn pack_bf16(weight: Tensor<2>) -> Bf16Weight {
    let [inputs, outputs] = weight.dims();
    Bf16Weight::pack(Floats::new(weight.transpose()).slice(), outputs, inputs, [inputs, 1])
}

/// How long float32 products of the kernels take, as linear layers compute them: `rows x inner` by `inner x columns`, on the
/// rayon pool of the caller, after one that does not count. Seconds.
pub fn product_seconds([rows, inner, columns]: [usize; 3], turns: usize) -> Vec<f64> {
    let numbers = |count: usize| -> Vec<f32> { (0..count).map(|index| (index % 1009) as f32 / 504.0 - 1.0).collect() };
    let (left, weight, mut out) = (numbers(rows * inner), numbers(columns * inner), vec![0.0; rows * columns]);
    let shape = LinearShape { rows, inputs: inner, outputs: columns };
    let mut turn = || {
        let started = Instant::now();
        adaptmedseg_kernels::linear(&shape, &left, &weight, None, Epilogue::None, &mut out);
        started.elapsed().as_secs_f64()
    };
    turn();
    (0..turns).map(|_| turn()).collect()
}
