//! The parameters of any Burn module by name: to load them, to save them, to follow their gradients, to change them.

use crate::error::{Error, Result};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Gradients, Tensor, TensorData};
use std::collections::BTreeMap;

/// One tensor of a checkpoint. `bytes` may be shared with a memory-mapped file.
#[derive(Clone, Debug)]
pub struct RawTensor {
    /// Element type.
    pub dtype: DType,
    /// Sizes, slowest axis first, in PyTorch's layout.
    pub shape: Vec<usize>,
    /// The elements, row-major, little-endian.
    pub bytes: bytes::Bytes,
}

impl RawTensor {
    /// A float32 tensor.
    pub fn from_f32(shape: Vec<usize>, elements: &[f32]) -> Self {
        let bytes: Vec<u8> = elements.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: DType::F32, shape, bytes: bytes.into() }
    }

    /// Its elements as float32.
    pub fn to_f32(&self) -> Vec<f32> {
        self.clone().into_data().try_into_vec().expect("it holds float32")
    }

    /// The same as Burn takes it: where they are float32 the bytes are shared.
    fn into_data(self) -> TensorData {
        let bytes = Bytes::from_shared(self.bytes, AllocationProperty::File);
        let data = TensorData::from_bytes(bytes, self.shape, self.dtype);
        if self.dtype == DType::F32 { data } else { data.convert_dtype(DType::F32) }
    }
}

/// Tensors by the names and in the layout of a checkpoint: sizes, slowest axis first, and elements, row-major.
pub type NamedTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Gradients by the names of a checkpoint, each flattened in a checkpoint's layout.
pub(crate) type NamedGradients = BTreeMap<String, Tensor<1>>;

/// Every field on the way down to a parameter: its name, and the type of the module it is a field of.
#[derive(Default)]
struct Path(Vec<(String, String)>);

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.to_owned(), container.to_owned()));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    /// The checkpoint's name of the parameter just entered, and whether it is stored transposed.
    ///
    /// Burn calls a norm's parameters `gamma` and `beta` and keeps a linear layer's weight as `[in, out]`; PyTorch says
    /// `weight` and `bias`, and keeps `[out, in]`.
    fn key(&self) -> (String, bool) {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let (last, parents) = names.split_last().expect("a parameter has a name");
        let container = self.0.last().map_or("", |(_, container)| container.as_str());
        let last = match (container, *last) {
            ("Struct:LayerNorm", "gamma") => "weight",
            ("Struct:LayerNorm", "beta") => "bias",
            (_, name) => name,
        };
        let key = parents.iter().chain([&last]).copied().collect::<Vec<_>>().join(".");
        (key, container == "Struct:Linear" && last == "weight")
    }
}

/// The module with every parameter taken from `source`, which is asked by name.
///
/// On the Flex device the elements stay where they are, such as in a mapped file; other devices copy them once.
///
/// # Errors
/// The first tensor that is absent or has another shape.
pub fn load<M: Module>(module: M, device: &Device, source: impl Fn(&str) -> Option<RawTensor>) -> Result<M> {
    let mut loader = Loader { source, device: device.clone(), path: Path::default(), failure: None };
    let loaded = module.map(&mut loader);
    loader.failure.map_or(Ok(loaded), Err)
}

struct Loader<F> {
    source: F,
    device: Device,
    path: Path,
    failure: Option<Error>,
}

impl<F: Fn(&str) -> Option<RawTensor>> Loader<F> {
    fn tensor<const D: usize>(&self, wanted: [usize; D]) -> Result<Tensor<D>> {
        let (key, transposed) = self.path.key();
        let raw = (self.source)(&key)
            .ok_or_else(|| Error::Internal { message: format!("no tensor {key} in the checkpoint") })?;
        let mut stored = wanted;
        if transposed {
            stored.swap(D - 2, D - 1);
        }
        if raw.shape != stored {
            return Err(Error::Internal {
                message: format!("tensor {key} has shape {:?}, the network wants {stored:?}", raw.shape),
            });
        }
        let tensor = Tensor::from_data(raw.into_data(), &self.device);
        Ok(if transposed { tensor.swap_dims(D - 2, D - 1) } else { tensor })
    }
}

impl<F: Fn(&str) -> Option<RawTensor>> ModuleMapper for Loader<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failure.is_some() {
            return param;
        }
        match self.tensor(param.lazy_shape().dims()) {
            // Nothing learns until someone asks for it.
            Ok(tensor) => Param::initialized(param.id, tensor.set_require_grad(false)),
            Err(error) => {
                self.failure = Some(error);
                param
            }
        }
    }
}

/// Every parameter of a module.
pub fn export<M: Module>(module: &M) -> NamedTensors {
    let mut visitor = Exporter { path: Path::default(), tensors: NamedTensors::new() };
    module.visit(&mut visitor);
    visitor.tensors
}

/// Names and sizes of a module's parameters, which are not drawn for it.
pub(crate) fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut visitor = Shapes { path: Path::default(), shapes: Vec::new() };
    module.visit(&mut visitor);
    visitor.shapes
}

struct Shapes {
    path: Path,
    shapes: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (key, transposed) = self.path.key();
        let mut shape = param.lazy_shape().to_vec();
        if transposed {
            shape.swap(D - 2, D - 1);
        }
        self.shapes.push((key, shape));
    }
}

struct Exporter {
    path: Path,
    tensors: NamedTensors,
}

impl ModuleVisitor for Exporter {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (key, transposed) = self.path.key();
        let tensor = param.val();
        let tensor = if transposed { tensor.swap_dims(D - 2, D - 1) } else { tensor };
        let shape = tensor.dims().to_vec();
        let elements = tensor.into_data().try_into_vec().expect("parameters are float32");
        self.tensors.insert(key, (shape, elements));
    }
}

/// The module with the parameters whose names `learns` says yes to as leaves of the autodiff graph.
pub fn tracked<M: Module>(module: M, learns: impl Fn(&str) -> bool) -> M {
    module.map(&mut Tracker { path: Path::default(), learns })
}

struct Tracker<F> {
    path: Path,
    learns: F,
}

impl<F: Fn(&str) -> bool> ModuleMapper for Tracker<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, _) = param.consume();
        let plain = tensor.without_autodiff();
        let learns = (self.learns)(&self.path.key().0);
        Param::initialized(id, if learns { plain.autodiff().require_grad() } else { plain })
    }
}

/// Moves the gradients of a module's parameters out of `gradients`, added to what is in `sums`.
pub(crate) fn collect<M: Module>(module: &M, gradients: &mut Gradients, sums: &mut NamedGradients) {
    module.visit(&mut Collector { path: Path::default(), gradients, sums });
}

struct Collector<'a> {
    path: Path,
    gradients: &'a mut Gradients,
    sums: &'a mut NamedGradients,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = param.val().grad_remove(self.gradients) else { return };
        let (key, transposed) = self.path.key();
        let gradient = if transposed { gradient.swap_dims(D - 2, D - 1) } else { gradient };
        let elements = gradient.shape().num_elements();
        let gradient = gradient.reshape([elements]);
        let sum = match self.sums.remove(&key) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.sums.insert(key, sum);
    }
}

/// The gradients of a module's parameters, by name and in the layout of a checkpoint.
pub fn gradients<M: Module>(module: &M, gradients: &mut Gradients) -> NamedTensors {
    let mut sums = NamedGradients::new();
    collect(module, gradients, &mut sums);
    named(shapes(module), sums)
}

/// Flattened gradients with their shapes.
pub(crate) fn named(shapes: Vec<(String, Vec<usize>)>, mut flat: NamedGradients) -> NamedTensors {
    let shaped = shapes.into_iter().filter_map(|(name, shape)| {
        let elements = flat.remove(&name)?.into_data().try_into_vec().expect("float32");
        Some((name, (shape, elements)))
    });
    shaped.collect()
}

/// The module with every parameter replaced by what `change` makes of its name and its elements, flattened in a
/// checkpoint's layout; `None` leaves it alone.
pub(crate) fn update<M: Module>(module: M, change: impl FnMut(&str, Tensor<1>) -> Option<Tensor<1>>) -> M {
    module.map(&mut Updater { path: Path::default(), change })
}

struct Updater<F> {
    path: Path,
    change: F,
}

impl<F: FnMut(&str, Tensor<1>) -> Option<Tensor<1>>> ModuleMapper for Updater<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, _) = param.consume();
        let plain = tensor.without_autodiff();
        let (key, transposed) = self.path.key();
        let turn = |tensor: Tensor<D>| if transposed { tensor.swap_dims(D - 2, D - 1) } else { tensor };
        let stored = turn(plain.clone());
        let shape = stored.dims();
        let flat = stored.reshape([shape.iter().product::<usize>()]);
        let changed = (self.change)(&key, flat).map_or(plain, |flat| turn(flat.reshape(shape)));
        Param::initialized(id, changed)
    }
}
