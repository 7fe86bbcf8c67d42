//! The operations of the dense prompt path on volumes kept channels-last, `[batch, voxels, channels]`, voxels row-major
//! over (d, h, w).
//!
//! On the Flex device they run the kernels of `adaptmedseg-kernels`, with gradients of their own, for a batch of one; on
//! every other device they are Burn's operations. Both compute the same function.

use burn::tensor::{Tensor, activation};

/// The epsilon of the instance norms: PyTorch's default.
const EPSILON: f64 = 1e-5;

/// Convolution with a kernel of 3 x 3 x 3 and zeros around the volume. On libtorch, where it learns and `bf16` says so, its
/// products are those of bfloat16 numbers.
///
/// # Shapes
/// - x: `[batch, voxels, in]` of volumes of `size` (D, H, W)
/// - weight: `[out, in, 3, 3, 3]`, PyTorch's layout; bias: `[out]`
/// - output: `[batch, voxels, out]`
#[cfg_attr(not(feature = "tch"), expect(unused_variables, reason = "there is one way to learn"))]
pub(crate) fn conv3(x: Tensor<3>, size: [usize; 3], weight: Tensor<5>, bias: Tensor<1>, bf16: bool) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if x.dims()[0] == 1 && flex::on_flex(&x) && flex::on_flex(&weight) && flex::on_flex(&bias) {
        return flex::conv3(x, size, weight, bias);
    }
    #[cfg(feature = "tch")]
    if x.is_tracked() || weight.is_tracked() {
        return torch::conv3(x, size, weight, bf16) + bias.unsqueeze();
    }
    let options = burn::tensor::ops::ConvOptions::new([1; 3], [1; 3], [1; 3], 1);
    from_volume(burn::tensor::module::conv3d(to_volume(x, size), weight, Some(bias), options))
}

/// Instance normalisation (Ulyanov et al., arXiv 1607.08022), then ReLU.
///
/// # Shapes
/// - x: `[batch, voxels, channels]`; gamma, beta: `[channels]`
/// - output: as x
pub(crate) fn instance_norm_relu(x: Tensor<3>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if x.dims()[0] == 1 && flex::on_flex(&x) && flex::on_flex(&gamma) && flex::on_flex(&beta) {
        return flex::instance_norm_relu(x, gamma, beta);
    }
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    activation::relu(centred / (variance + EPSILON).sqrt() * gamma.unsqueeze() + beta.unsqueeze())
}

/// Blocks of 2 x 2 x 2 voxels become one voxel of eight times the channels.
///
/// # Shapes
/// - x: `[batch, D * H * W, channels]`, `size` = (D, H, W), even
/// - output: `[batch, D/2 * H/2 * W/2, 8 * channels]`, the eight voxels row-major over (d, h, w)
pub(crate) fn gather_blocks(x: Tensor<3>, size: [usize; 3]) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if x.dims()[0] == 1 && flex::on_flex(&x) {
        return flex::blocks(x, size, flex::Blocks::Gather);
    }
    let ([batch, voxels, channels], [d, h, w]) = (x.dims(), size.map(|size| size / 2));
    let blocks = x.reshape([batch * d, 2, h, 2, w, 2, channels]).permute([0, 2, 4, 1, 3, 5, 6]);
    blocks.reshape([batch, voxels / 8, 8 * channels])
}

/// The way back from [`gather_blocks`]: what a transposed convolution of kernel 2 and stride 2 ends with.
///
/// # Shapes
/// - x: `[batch, D/2 * H/2 * W/2, 8 * channels]`, `size` = (D, H, W), even
/// - output: `[batch, D * H * W, channels]`
pub(crate) fn scatter_blocks(x: Tensor<3>, size: [usize; 3]) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if x.dims()[0] == 1 && flex::on_flex(&x) {
        return flex::blocks(x, size, flex::Blocks::Scatter);
    }
    let ([batch, voxels, channels], [d, h, w]) = (x.dims(), size.map(|size| size / 2));
    let channels = channels / 8;
    let blocks = x.reshape([batch * d, h, w, 2, 2, 2, channels]).permute([0, 3, 1, 4, 2, 5, 6]);
    blocks.reshape([batch, voxels * 8, channels])
}

fn to_volume(x: Tensor<3>, [d, h, w]: [usize; 3]) -> Tensor<5> {
    let [batch, _, channels] = x.dims();
    x.swap_dims(1, 2).reshape([batch, channels, d, h, w])
}

fn from_volume(x: Tensor<5>) -> Tensor<3> {
    let [batch, channels, d, h, w] = x.dims();
    x.reshape([batch, channels, d * h * w]).swap_dims(1, 2)
}

/// The convolution that learns, on libtorch. Burn's gradient of a convolution by its weight is a convolution with a kernel
/// as large as the volume, for which libtorch has no fast way. In float32, for which libtorch's own gradient is slower still
/// (cuDNN 9), all three are matrix products with the 27 neighbours of every voxel, which are gathered again for each, and not
/// kept. In bfloat16 they are libtorch's.
#[cfg(feature = "tch")]
#[expect(deprecated, reason = "what comes after libtorch is another plugin")]
mod torch {
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, LibTorch};
    use burn::tensor::{DType, Tensor};

    type TchTensor = FloatTensor<LibTorch>;

    /// [`conv3`](super::conv3) without its bias.
    pub(super) fn conv3(x: Tensor<3>, size: [usize; 3], weight: Tensor<5>, bf16: bool) -> Tensor<3> {
        let [outputs, inputs, ..] = weight.dims();
        // The gradient comes back through the same steps.
        let weight = weight.permute([2, 3, 4, 1, 0]).reshape([27, inputs, outputs]);
        let parts = |tensor: Tensor<3>| {
            let tensor = tensor.autodiff().try_into_primitive::<Autodiff<LibTorch>>();
            tensor.expect("with this feature there is no other device").into_parts()
        };
        let ((x, by_x), (weight, by_weight)) = (parts(x), parts(weight));
        let of = Operands { x: tensor(x), weight: tensor(weight), size };
        let of = if bf16 { of.in_bf16() } else { of };
        let out = plain(of.forward());
        let prepared = Conv3.prepare::<NoCheckpointing>([by_x, by_weight]).compute_bound().stateful();
        Tensor::from_primitive::<Autodiff<LibTorch>>(match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((of, inputs), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        })
    }

    #[derive(Debug)]
    struct Conv3;

    impl Backward<LibTorch, 2> for Conv3 {
        type State = (Operands, usize);

        fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
            let (of, inputs) = ops.state;
            let grad = tensor::<3>(gradients.consume::<LibTorch>(&ops.node)).cast(of.x.dtype());
            let [by_x, by_weight] = ops.parents;
            if let Some(parent) = by_x {
                let weight = of.weight.clone().flip([0]).swap_dims(1, 2);
                let turned = Operands { x: grad.clone(), weight, size: of.size };
                gradients.register::<LibTorch>(parent.id, plain(turned.forward().narrow(2, 0, inputs)));
            }
            if let Some(parent) = by_weight {
                gradients.register::<LibTorch>(parent.id, plain(of.weight_gradient(grad).narrow(1, 0, inputs)));
            }
        }
    }

    /// What is convolved, in float32 or bfloat16, outside autodiff.
    #[derive(Clone, Debug)]
    struct Operands {
        /// `[batch, voxels, in]`.
        x: Tensor<3>,
        /// `[27, in, out]`.
        weight: Tensor<3>,
        size: [usize; 3],
    }

    impl Operands {
        /// With a multiple of eight channels, as the units that multiply want them.
        fn in_bf16(self) -> Self {
            let missing = self.x.dims()[2].next_multiple_of(8) - self.x.dims()[2];
            let padded = |tensor: Tensor<3>, axis: usize| {
                let mut dims = tensor.dims();
                dims[axis] = missing;
                let zeros = Tensor::zeros(dims, (&tensor.device(), DType::BF16));
                let tensor = tensor.cast(DType::BF16);
                if missing == 0 { tensor } else { Tensor::cat(vec![tensor, zeros], axis) }
            };
            Self { x: padded(self.x, 2), weight: padded(self.weight, 1), size: self.size }
        }

        /// `[batch, voxels, out]`, in float32.
        fn forward(&self) -> Tensor<3> {
            let [taps, inputs, outputs] = self.weight.dims();
            if self.x.dtype() == DType::F32 {
                let weight = self.weight.clone().reshape([1, taps * inputs, outputs]);
                return neighbours(self.x.clone(), self.size).matmul(weight);
            }
            let (x, weight) = self.native();
            let out = convolved(&x, &weight);
            super::from_volume(tensor(TchTensor::new(out))).cast(DType::F32)
        }

        /// The gradient by the weight, `[27, in, out]`, in float32.
        fn weight_gradient(self, grad: Tensor<3>) -> Tensor<3> {
            let [_, inputs, outputs] = self.weight.dims();
            if self.x.dtype() == DType::F32 {
                let of = neighbours(self.x, self.size).swap_dims(1, 2).matmul(grad).sum_dim(0);
                return of.reshape([27, inputs, outputs]);
            }
            let (x, weight) = self.native();
            let pull = plain(super::to_volume(grad, self.size)).tensor;
            // Not bound by itself, so libtorch's own autodiff makes it: of the product with the gradient that came.
            let weight = weight.detach().set_requires_grad(true);
            let loss = (convolved(&x, &weight) * pull).sum(tch::Kind::Float);
            let of = tch::Tensor::run_backward(&[loss], &[&weight], false, false).remove(0);
            let of: Tensor<5> = tensor(TchTensor::new(of));
            of.permute([2, 3, 4, 1, 0]).reshape([27, inputs, outputs]).cast(DType::F32)
        }

        /// As libtorch has them: `[batch, in, D, H, W]` with its channels last in memory, and `[out, in, 3, 3, 3]`.
        fn native(&self) -> (tch::Tensor, tch::Tensor) {
            let [_, inputs, outputs] = self.weight.dims();
            let weight: Tensor<5> = self.weight.clone().reshape([3, 3, 3, inputs, outputs]).permute([4, 3, 0, 1, 2]);
            (plain(super::to_volume(self.x.clone(), self.size)).tensor, plain(weight).tensor)
        }
    }

    fn convolved(x: &tch::Tensor, weight: &tch::Tensor) -> tch::Tensor {
        x.conv3d(weight, None::<tch::Tensor>, [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)
    }

    /// The 27 neighbours of every voxel, `[batch, voxels, 27 * in]`.
    fn neighbours(x: Tensor<3>, [d, h, w]: [usize; 3]) -> Tensor<3> {
        let [batch, voxels, inputs] = x.dims();
        let padded = Tensor::<5>::zeros([batch, d + 2, h + 2, w + 2, inputs], &x.device())
            .slice_assign([0..batch, 1..d + 1, 1..h + 1, 1..w + 1, 0..inputs], x.reshape([batch, d, h, w, inputs]));
        let one = |tap: usize| {
            let [i, j, k] = [tap / 9, tap / 3 % 3, tap % 3];
            padded.clone().slice([0..batch, i..i + d, j..j + h, k..k + w, 0..inputs])
        };
        Tensor::cat((0..27).map(one).collect(), 4).reshape([batch, voxels, 27 * inputs])
    }

    fn tensor<const D: usize>(tensor: TchTensor) -> Tensor<D> {
        Tensor::from_primitive::<LibTorch>(tensor)
    }

    fn plain<const D: usize>(tensor: Tensor<D>) -> TchTensor {
        tensor.try_into_primitive::<LibTorch>().expect("with this feature there is no other device")
    }
}

#[cfg(feature = "flex")]
mod flex {
    use adaptmedseg_kernels::{self as kernels, ChannelStatistics, Conv3Shape};
    use burn::backend::autodiff::NodeId;
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{DType, Device, Tensor, TensorData};
    use burn_flex::FlexTensor;

    /// Whether a tensor lies on the Flex device, in float32, with or without autodiff.
    pub(super) fn on_flex<const D: usize>(tensor: &Tensor<D>) -> bool {
        tensor.device().without_autodiff() == Device::flex() && tensor.dtype() == DType::F32
    }

    fn new(data: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(data, shape))
    }

    fn slice(tensor: &FlexTensor) -> &[f32] {
        tensor.as_slice::<f32>().expect("contiguous float32")
    }

    /// The contiguous tensor and its node in the autodiff graph.
    macro_rules! parts {
        ($tensor:expr) => {{
            let tensor = $tensor.autodiff().try_into_primitive::<Autodiff<Flex>>();
            let (tensor, node) = tensor.expect("on_flex has checked the device").into_parts();
            (tensor.to_contiguous(), node)
        }};
    }

    /// Runs an operation with what its gradient needs noted, where a gradient is wanted.
    macro_rules! tracked {
        ($operation:expr, $nodes:expr, $state:expr, $out:expr) => {
            Tensor::from_primitive::<Autodiff<Flex>>(
                match $operation.prepare::<NoCheckpointing>($nodes).compute_bound().stateful() {
                    OpsKind::Tracked(prepared) => prepared.finish($state, $out),
                    OpsKind::UnTracked(prepared) => prepared.finish($out),
                },
            )
        };
    }

    fn untracked<const D: usize>(tensor: &Tensor<D>) -> bool {
        !tensor.device().is_autodiff()
    }

    fn plain<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
        tensor.try_into_primitive::<Flex>().expect("on_flex has checked the device").to_contiguous()
    }

    pub(super) fn conv3(x: Tensor<3>, size: [usize; 3], weight: Tensor<5>, bias: Tensor<1>) -> Tensor<3> {
        let [outputs, inputs, ..] = weight.dims();
        // To the kernel's layout; the gradient comes back through the same steps.
        let weight = weight.permute([2, 3, 4, 1, 0]).reshape([27, inputs, outputs]);
        let shape = Conv3Shape { size, inputs, outputs };
        let run = |x: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor| {
            let mut out = vec![0.0; size.iter().product::<usize>() * outputs];
            kernels::conv3(&shape, slice(x), slice(weight), Some(slice(bias)), &mut out);
            let voxels = out.len() / outputs;
            new(out, [1, voxels, outputs])
        };
        if untracked(&x) && untracked(&weight) && untracked(&bias) {
            let (x, weight, bias) = (plain(x), plain(weight), plain(bias));
            return Tensor::from_primitive::<Flex>(run(&x, &weight, &bias));
        }
        let ((x, by_x), (weight, by_weight), (bias, by_bias)) = (parts!(x), parts!(weight), parts!(bias));
        let out = run(&x, &weight, &bias);
        tracked!(Conv3, [by_x, by_weight, by_bias], (shape, x, weight), out)
    }

    #[derive(Debug)]
    struct Conv3;

    impl Backward<Flex, 3> for Conv3 {
        type State = (Conv3Shape, FlexTensor, FlexTensor);

        fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
            let (shape, x, weight) = ops.state;
            let grad = gradients.consume::<Flex>(&ops.node).to_contiguous();
            let Conv3Shape { size, inputs, outputs } = shape;
            let voxels: usize = size.iter().product();
            let [by_x, by_weight, by_bias] = ops.parents;
            if let Some(parent) = by_x {
                let mut of = vec![0.0; voxels * inputs];
                kernels::conv3_input_gradient(&shape, slice(&grad), slice(&weight), &mut of);
                gradients.register::<Flex>(parent.id, new(of, [1, voxels, inputs]));
            }
            if by_weight.is_some() || by_bias.is_some() {
                let (mut of, mut of_bias) = (vec![0.0; 27 * inputs * outputs], vec![0.0; outputs]);
                kernels::conv3_weight_gradient(&shape, slice(&x), slice(&grad), &mut of, &mut of_bias);
                let mut give = |parent: Option<NodeId>, tensor: FlexTensor| {
                    if let Some(id) = parent {
                        gradients.register::<Flex>(id, tensor);
                    }
                };
                give(by_weight.map(|parent| parent.id), new(of, [27, inputs, outputs]));
                give(by_bias.map(|parent| parent.id), new(of_bias, [outputs]));
            }
        }
    }

    pub(super) fn instance_norm_relu(x: Tensor<3>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<3> {
        let dims = x.dims();
        let run = |x: &FlexTensor, gamma: &FlexTensor, beta: &FlexTensor| {
            let mut out = vec![0.0; dims.iter().product()];
            let epsilon = super::EPSILON as f32;
            let statistics = kernels::instance_norm_relu(slice(x), slice(gamma), slice(beta), epsilon, &mut out);
            (new(out, dims), statistics)
        };
        if untracked(&x) && untracked(&gamma) && untracked(&beta) {
            return Tensor::from_primitive::<Flex>(run(&plain(x), &plain(gamma), &plain(beta)).0);
        }
        let ((x, by_x), (gamma, by_gamma), (beta, by_beta)) = (parts!(x), parts!(gamma), parts!(beta));
        let (out, statistics) = run(&x, &gamma, &beta);
        tracked!(InstanceNormRelu, [by_x, by_gamma, by_beta], (x, gamma, beta, statistics), out)
    }

    #[derive(Debug)]
    struct InstanceNormRelu;

    impl Backward<Flex, 3> for InstanceNormRelu {
        type State = (FlexTensor, FlexTensor, FlexTensor, ChannelStatistics);

        fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
            let (x, gamma, beta, statistics) = ops.state;
            let grad = gradients.consume::<Flex>(&ops.node).to_contiguous();
            let (elements, channels) = (slice(&x).len(), slice(&gamma).len());
            let (mut by_x, mut by_gamma, mut by_beta) = (vec![0.0; elements], vec![0.0; channels], vec![0.0; channels]);
            kernels::instance_norm_relu_gradient(
                slice(&x),
                slice(&gamma),
                slice(&beta),
                &statistics,
                slice(&grad),
                &mut by_x,
                &mut by_gamma,
                &mut by_beta,
            );
            let of =
                [new(by_x, [1, elements / channels, channels]), new(by_gamma, [channels]), new(by_beta, [channels])];
            for (parent, gradient) in ops.parents.into_iter().zip(of) {
                if let Some(parent) = parent {
                    gradients.register::<Flex>(parent.id, gradient);
                }
            }
        }
    }

    /// Which way blocks go.
    #[derive(Clone, Copy, Debug)]
    pub(super) enum Blocks {
        Gather,
        Scatter,
    }

    impl Blocks {
        fn run(self, size: [usize; 3], x: &FlexTensor) -> FlexTensor {
            let x = slice(x);
            let voxels: usize = size.iter().product();
            let channels = x.len() / voxels;
            let mut out = vec![0.0; x.len()];
            match self {
                Self::Gather => {
                    kernels::gather_blocks(size, channels, x, &mut out);
                    new(out, [1, voxels / 8, 8 * channels])
                }
                Self::Scatter => {
                    kernels::scatter_blocks(size, channels, x, &mut out);
                    new(out, [1, voxels, channels])
                }
            }
        }
    }

    pub(super) fn blocks(x: Tensor<3>, size: [usize; 3], way: Blocks) -> Tensor<3> {
        if untracked(&x) {
            return Tensor::from_primitive::<Flex>(way.run(size, &plain(x)));
        }
        let (x, by_x) = parts!(x);
        let out = way.run(size, &x);
        tracked!(Rearrange, [by_x], (way, size), out)
    }

    #[derive(Debug)]
    struct Rearrange;

    impl Backward<Flex, 1> for Rearrange {
        type State = (Blocks, [usize; 3]);

        fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
            let (way, size) = ops.state;
            let grad = gradients.consume::<Flex>(&ops.node).to_contiguous();
            let back = match way {
                Blocks::Gather => Blocks::Scatter,
                Blocks::Scatter => Blocks::Gather,
            };
            let [parent] = ops.parents;
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, back.run(size, &grad));
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    const SIZE: [usize; 3] = [4, 6, 2];

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn close<const D: usize>(got: Tensor<D>, want: Tensor<D>, what: &str) {
        let error = (got.without_autodiff() - want.without_autodiff()).abs().max().into_scalar::<f32>();
        assert!(error < 1e-4, "{what}: {error:e}");
    }

    #[test]
    fn convolution_and_its_gradients_are_burns() {
        let leaf = |t: Tensor<3>| t.autodiff().require_grad();
        let (x, pull) = (random([1, 48, 3]), random([1, 48, 5]));
        let (weight, bias) = (random([5, 3, 3, 3, 3]) * 0.2, random([5]));
        let plain = conv3(x.clone(), SIZE, weight.clone(), bias.clone(), false);
        let run = |own: bool| {
            let x = leaf(x.clone());
            let (weight, bias) = (weight.clone().autodiff().require_grad(), bias.clone().autodiff().require_grad());
            let y = if own {
                conv3(x.clone(), SIZE, weight.clone(), bias.clone(), false)
            } else {
                let options = burn::tensor::ops::ConvOptions::new([1; 3], [1; 3], [1; 3], 1);
                let volume = to_volume(x.clone(), SIZE);
                from_volume(burn::tensor::module::conv3d(volume, weight.clone(), Some(bias.clone()), options))
            };
            let grads = (y.clone() * pull.clone().autodiff()).sum().backward();
            (y, x.grad(&grads).unwrap(), weight.grad(&grads).unwrap(), bias.grad(&grads).unwrap())
        };
        let (got, want) = (run(true), run(false));
        close(plain, want.0.clone(), "without gradient");
        close(got.0, want.0, "output");
        close(got.1, want.1, "by x");
        close(got.2, want.2, "by weight");
        close(got.3, want.3, "by bias");
    }

    #[test]
    fn blocks_and_norms_have_the_gradients_of_their_definition() {
        let x = random([1, 48, 3]);
        let gathered = gather_blocks(x.clone(), SIZE);
        assert_eq!(gathered.dims(), [1, 6, 24]);
        close(scatter_blocks(gathered.clone(), SIZE), x.clone(), "back");
        let pull = random([1, 6, 24]);
        let leaf = x.clone().autodiff().require_grad();
        let grads = (gather_blocks(leaf.clone(), SIZE) * pull.clone().autodiff()).sum().backward();
        close(leaf.grad(&grads).unwrap(), scatter_blocks(pull, SIZE), "gradient");

        let (gamma, beta, pull) = (random([3]), random([3]), random([1, 48, 3]));
        let run = |own: bool| {
            let x = x.clone().autodiff().require_grad();
            let (gamma, beta) = (gamma.clone().autodiff().require_grad(), beta.clone().autodiff().require_grad());
            let y = if own {
                instance_norm_relu(x.clone(), gamma.clone(), beta.clone())
            } else {
                let centred = x.clone() - x.clone().mean_dim(1);
                let variance = (centred.clone() * centred.clone()).mean_dim(1);
                let normal = centred / (variance + EPSILON).sqrt();
                activation::relu(normal * gamma.clone().unsqueeze() + beta.clone().unsqueeze())
            };
            let grads = (y.clone() * pull.clone().autodiff()).sum().backward();
            (y, x.grad(&grads).unwrap(), gamma.grad(&grads).unwrap(), beta.grad(&grads).unwrap())
        };
        let (got, want) = (run(true), run(false));
        close(got.0, want.0, "output");
        close(got.1, want.1, "by x");
        close(got.2, want.2, "by gamma");
        close(got.3, want.3, "by beta");
    }
}
