//! The operations in which inference spends its time, each with two ways to compute it.
//!
//! On the Flex device they run the kernels of `adaptmedseg-kernels`; on every other device, and, but for attention,
//! wherever gradients are wanted, they are Burn's own operations. Both compute the same function. (The image encoder's
//! blocks go to the kernels as a whole, past these, on libtorch's processor too: see `image_encoder.rs`.)

use crate::linear::{Linear, Linears};
use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::module as functional;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor, activation};

/// Which implementation [`attention`], [`layer_norm`], [`gelu`] and [`Linear::forward_then`] use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The project's own kernels where the device has them, Burn's operations elsewhere.
    #[default]
    Fused,
    /// Burn's operations always: what the fused kernels are compared with.
    Burn,
}

/// Whether the kernels multiply bfloat16 faster than float32 on this processor.
pub fn has_fast_bf16() -> bool {
    adaptmedseg_kernels::has_fast_bf16()
}

/// Whether the kernels have products of their own for this processor.
pub fn has_avx512() -> bool {
    adaptmedseg_kernels::has_avx512()
}

/// `softmax(scale * q k^T) v` with the heads put side by side again.
///
/// `mask`, where given, is true for the keys a query must not see.
///
/// # Shapes
/// - query, key, value: `[batch, heads, tokens, head_dim]`, any strides
/// - mask: `[batch, heads, queries, keys]`
/// - output: `[batch, queries, heads * head_dim]`
#[cfg_attr(not(feature = "flex"), expect(unused_variables, reason = "there is one way to compute it"))]
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
    kernels: Kernels,
) -> Tensor<3> {
    let [batch, heads, queries, head_dim] = query.dims();
    let value_dim = value.dims()[3];
    let scale = (head_dim as f64).powf(-0.5);
    #[cfg(feature = "flex")]
    if kernels == Kernels::Fused && mask.is_none() {
        let operands = [&query, &key, &value];
        if operands.into_iter().all(flex::runs_here) {
            return flex::attention(query, key, value, scale as f32);
        }
        if operands.into_iter().all(flex::learns_here) {
            return flex::learning_attention(query, key, value, scale as f32);
        }
    }
    let attended = if products_are_better(&query, mask.is_some()) {
        let query = query * scale;
        if mask.is_none() && queries * key.dims()[2] >= LARGE {
            let head = |head: usize| {
                let [query, key, value] = [&query, &key, &value].map(|tensor| tensor.clone().narrow(1, head, 1));
                products(query, key, value, None)
            };
            Tensor::cat((0..heads).map(head).collect(), 1)
        } else {
            products(query, key, value, mask)
        }
    } else {
        let options = AttentionModuleOptions { scale: Some(scale), ..Default::default() };
        functional::attention(query, key, value, mask, None, options)
    };
    attended.swap_dims(1, 2).reshape([batch, queries, heads * value_dim])
}

/// From so many scores on, heads attend one after the other, so that those of one are there at a time.
const LARGE: usize = 1 << 20;

/// Attention as two products and a softmax, for queries that are scaled already.
fn products(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, mask: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let scores = query.matmul(key.swap_dims(2, 3));
    let scores = match mask {
        Some(mask) => scores.mask_fill(mask, f32::NEG_INFINITY),
        None => scores,
    };
    activation::softmax(scores, 3).matmul(value)
}

/// Whether attention is better computed as products and a softmax than by Burn's own operation.
///
/// With a mask on libtorch, since Burn hands it over as it is, and libtorch takes it for the keys that *are* seen. On its
/// processor in half precision, where libtorch's fused attention takes as long as in float32; masks are no worse for it.
#[cfg(feature = "tch")]
fn products_are_better(query: &Tensor<4>, masked: bool) -> bool {
    let device = query.device().without_autodiff();
    #[cfg(feature = "flex")]
    if device == burn::tensor::Device::flex() {
        return false;
    }
    masked || crate::host::holds(&device) && query.dtype() != burn::tensor::DType::F32
}

/// Nowhere without libtorch.
#[cfg(not(feature = "tch"))]
fn products_are_better(_query: &Tensor<4>, _masked: bool) -> bool {
    false
}

/// Layer normalisation over the last axis.
#[cfg_attr(not(feature = "flex"), expect(unused_variables, reason = "there is one way to compute it"))]
pub fn layer_norm(norm: &LayerNorm, input: Tensor<3>, kernels: Kernels) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if kernels == Kernels::Fused && flex::runs_here(&input) && flex::runs_here(&norm.gamma.val()) {
        return flex::layer_norm(norm, input);
    }
    norm.forward(input)
}

/// GELU in its exact form, `x * Phi(x)` with the error function (quirk 2 of the reference: not the tanh form).
#[cfg_attr(not(feature = "flex"), expect(unused_variables, reason = "there is one way to compute it"))]
pub fn gelu<const D: usize>(input: Tensor<D>, kernels: Kernels) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if kernels == Kernels::Fused && flex::runs_here(&input) {
        return flex::gelu(input);
    }
    activation::gelu(input)
}

/// `[batch, tokens, heads * head_dim]` -> `[batch, heads, tokens, head_dim]`, without a copy.
pub fn split_heads(tokens: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, count, width] = tokens.dims();
    tokens.reshape([batch, count, heads, width / heads]).swap_dims(1, 2)
}

/// A stack of linear layers with ReLU between them (reference: SAM's `MLP`).
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// `depth` layers: `input -> hidden -> ... -> hidden -> output`.
    pub fn new(input: usize, hidden: usize, output: usize, depth: usize, device: &burn::tensor::Device) -> Self {
        let width = |layer: usize| if layer == 0 { input } else { hidden };
        let layers = (0..depth)
            .map(|layer| Linear::new(width(layer), if layer + 1 == depth { output } else { hidden }, device))
            .collect();
        Self { layers }
    }

    /// # Shapes
    /// - input: `[.., input]`
    /// - output: `[.., output]`
    pub fn forward<const D: usize>(&self, mut x: Tensor<D>) -> Tensor<D> {
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x);
            if index + 1 < self.layers.len() {
                x = activation::relu(x);
            }
        }
        x
    }
}

impl Linears for Mlp {
    fn visit_linears(&mut self, prefix: &str, visit: &mut dyn FnMut(String, &mut Linear)) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            visit(format!("{prefix}.layers.{index}"), layer);
        }
    }
}

#[cfg(feature = "flex")]
pub(crate) mod flex {
    use crate::host::{Layer, Norm};
    use crate::linear::{Epilogue, Linear};
    use adaptmedseg_kernels::{AttentionGradients, AttentionShape, View};
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Flex};
    use burn::nn::LayerNorm;
    use burn::tensor::{Device, Tensor, TensorData};
    use burn_flex::FlexTensor;

    /// Whether a tensor lies on the Flex device, in float32, outside autodiff.
    pub(crate) fn runs_here<const D: usize>(tensor: &Tensor<D>) -> bool {
        let device = tensor.device();
        !device.is_autodiff() && device == Device::flex() && tensor.dtype() == burn::tensor::DType::F32
    }

    fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
        tensor.try_into_primitive::<Flex>().expect("runs_here has checked the device")
    }

    /// The elements from the first on, and their strides. Flex's views share a buffer and may run backwards (flip);
    /// the network never flips, so a negative stride is copied away.
    fn view(tensor: &FlexTensor) -> Option<View<'_>> {
        let layout = tensor.layout();
        let mut strides = [0; 4];
        for (out, stride) in strides.iter_mut().zip(layout.strides().iter()) {
            *out = usize::try_from(*stride).ok()?;
        }
        Some(View { data: &tensor.storage::<f32>()[layout.start_offset()..], strides })
    }

    fn forward_only(tensor: Tensor<4>) -> FlexTensor {
        let tensor = primitive(tensor);
        if view(&tensor).is_some() { tensor } else { tensor.to_contiguous() }
    }

    /// Whether a tensor lies on the Flex device, in float32, with or without autodiff.
    pub(super) fn learns_here<const D: usize>(tensor: &Tensor<D>) -> bool {
        tensor.device().without_autodiff() == Device::flex() && tensor.dtype() == burn::tensor::DType::F32
    }

    pub(super) fn attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, scale: f32) -> Tensor<3> {
        let heads = Heads { query: forward_only(query), key: forward_only(key), value: forward_only(value), scale };
        Tensor::from_primitive::<Flex>(heads.attend())
    }

    /// The operands of an attention, none of negative stride.
    #[derive(Clone, Debug)]
    struct Heads {
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        scale: f32,
    }

    fn tensor(data: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(data, shape))
    }

    impl Heads {
        fn shape(&self) -> AttentionShape {
            let sizes = |tensor: &FlexTensor| <[usize; 4]>::try_from(&tensor.layout().shape()[..]).expect("four axes");
            let [batch, heads, queries, head_dim] = sizes(&self.query);
            let [_, _, keys, value_dim] = sizes(&self.value);
            AttentionShape { batch, heads, queries, keys, head_dim, value_dim }
        }

        fn views(&self) -> [View<'_>; 3] {
            [&self.query, &self.key, &self.value].map(|tensor| view(tensor).expect("no negative stride"))
        }

        fn attend(&self) -> FlexTensor {
            let shape = self.shape();
            let width = shape.heads * shape.value_dim;
            let mut out = vec![0.0; shape.batch * shape.queries * width];
            let [query, key, value] = self.views();
            adaptmedseg_kernels::attention(&shape, query, key, value, self.scale, &mut out);
            tensor(out, [shape.batch, shape.queries, width])
        }

        /// Gradients by query, key and value.
        fn backward(&self, out: &FlexTensor, grad: FlexTensor) -> [FlexTensor; 3] {
            let shape @ AttentionShape { batch, heads, queries, keys, head_dim, value_dim } = self.shape();
            let sizes =
                [[batch, heads, queries, head_dim], [batch, heads, keys, head_dim], [batch, heads, keys, value_dim]];
            let mut of = sizes.map(|sizes| vec![0.0; sizes.iter().product()]);
            let [query, key, value] = self.views();
            let grad = grad.to_contiguous();
            let [q, k, v] = &mut of;
            let gradients = AttentionGradients { q, k, v };
            adaptmedseg_kernels::attention_backward(
                &shape,
                query,
                key,
                value,
                self.scale,
                slice(out),
                slice(&grad),
                gradients,
            );
            let [q, k, v] = of;
            [tensor(q, sizes[0]), tensor(k, sizes[1]), tensor(v, sizes[2])]
        }
    }

    /// [`attention`] with a gradient.
    pub(super) fn learning_attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, scale: f32) -> Tensor<3> {
        let parts = [query, key, value].map(|tensor| {
            let tensor = tensor.autodiff().try_into_primitive::<Autodiff<Flex>>();
            let (tensor, node) = tensor.expect("learns_here has checked the device").into_parts();
            (if view(&tensor).is_some() { tensor } else { tensor.to_contiguous() }, node)
        });
        let [(query, by_query), (key, by_key), (value, by_value)] = parts;
        let heads = Heads { query, key, value, scale };
        let out = heads.attend();
        let prepared =
            FusedAttention.prepare::<NoCheckpointing>([by_query, by_key, by_value]).compute_bound().stateful();
        Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((heads, out.clone()), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        })
    }

    /// The step of the autodiff graph.
    #[derive(Debug)]
    struct FusedAttention;

    impl Backward<Flex, 3> for FusedAttention {
        type State = (Heads, FlexTensor);

        fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
            let (heads, out) = ops.state;
            let of = heads.backward(&out, gradients.consume::<Flex>(&ops.node));
            for (parent, gradient) in ops.parents.into_iter().zip(of) {
                if let Some(parent) = parent {
                    gradients.register::<Flex>(parent.id, gradient);
                }
            }
        }
    }

    pub(super) fn layer_norm(norm: &LayerNorm, input: Tensor<3>) -> Tensor<3> {
        let (device, dims) = (input.device(), input.dims());
        let input = primitive(input).to_contiguous();
        let mut out = vec![0.0; dims.iter().product()];
        Norm::new(norm).forward(slice(&input), &mut out);
        Tensor::from_data(TensorData::new(out, dims), &device)
    }

    /// Whether everything lies on the device, and the weight in memory as a checkpoint stores it, one row per output:
    /// the layout the kernel reads. A weight drawn at random or replaced in training may lie the other way round.
    pub(crate) fn linear_runs_here(layer: &Linear, input: &Tensor<3>, epilogue: Epilogue) -> bool {
        runs_here(input)
            && !matches!(epilogue, Epilogue::Add(residual) if !runs_here(residual))
            && Layer::lies_in_rows(layer)
    }

    pub(crate) fn linear(layer: &Linear, input: Tensor<3>, epilogue: Epilogue) -> Tensor<3> {
        let (device, [batch, tokens, _]) = (input.device(), input.dims());
        let layer = Layer::new(layer);
        let residual = match epilogue {
            Epilogue::Add(residual) => Some(primitive(residual.clone()).to_contiguous()),
            _ => None,
        };
        let epilogue = match (epilogue, &residual) {
            (Epilogue::Gelu, _) => adaptmedseg_kernels::Epilogue::Gelu,
            (_, Some(residual)) => adaptmedseg_kernels::Epilogue::Add(slice(residual)),
            _ => adaptmedseg_kernels::Epilogue::None,
        };
        let input = primitive(input).to_contiguous();
        let mut out = vec![0.0; batch * tokens * layer.outputs()];
        layer.forward(slice(&input), epilogue, &mut out);
        Tensor::from_data(TensorData::new(out, [batch, tokens, layer.outputs()]), &device)
    }

    pub(super) fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
        let mut tensor = primitive(input).to_contiguous();
        adaptmedseg_kernels::gelu_erf(tensor.storage_mut::<f32>());
        Tensor::from_primitive::<Flex>(tensor)
    }

    fn slice(tensor: &FlexTensor) -> &[f32] {
        tensor.as_slice::<f32>().expect("contiguous float32")
    }
}
