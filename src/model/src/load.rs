//! Puts the tensors of a checkpoint into a network, without copying them.

use crate::error::{Error, Result};
use crate::segvol::SegVol;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Tensor, TensorData};

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

impl SegVol {
    /// This network with every weight taken from `source`, which is asked by the names of
    /// [`expected_tensors`](crate::checkpoint::expected_tensors).
    ///
    /// On the Flex device the weights stay where they are, in the mapped file; other devices copy them once.
    ///
    /// # Errors
    /// The first tensor that is absent or has another shape. A model folder has been checked as a whole before.
    pub fn load(self, device: &Device, source: impl Fn(&str) -> Option<RawTensor>) -> Result<Self> {
        let mut loader = Loader { source, device: device.clone(), path: Vec::new(), failure: None };
        let loaded = self.map(&mut loader);
        loader.failure.map_or(Ok(loaded), Err)
    }
}

struct Loader<F> {
    source: F,
    device: Device,
    /// Every field on the way down: its name, and the type of the module it is a field of.
    path: Vec<(String, String)>,
    failure: Option<Error>,
}

impl<F: Fn(&str) -> Option<RawTensor>> Loader<F> {
    /// The checkpoint's name of the parameter just entered, and whether it is stored transposed.
    ///
    /// Burn calls a norm's parameters `gamma` and `beta` and keeps a linear layer's weight as `[in, out]`; PyTorch says
    /// `weight` and `bias`, and keeps `[out, in]`.
    fn key(&self) -> (String, bool) {
        let names: Vec<&str> = self.path.iter().map(|(name, _)| name.as_str()).collect();
        let (last, parents) = names.split_last().expect("a parameter has a name");
        let container = self.path.last().map_or("", |(_, container)| container.as_str());
        let last = match (container, *last) {
            ("Struct:LayerNorm", "gamma") => "weight",
            ("Struct:LayerNorm", "beta") => "bias",
            (_, name) => name,
        };
        let mut key = parents.join(".");
        if !key.is_empty() {
            key.push('.');
        }
        key.push_str(last);
        (key, container == "Struct:Linear" && last == "weight")
    }

    fn tensor<const D: usize>(&self, wanted: [usize; D]) -> Result<Tensor<D>> {
        let (key, transposed) = self.key();
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
        let data = TensorData::from_bytes(Bytes::from_shared(raw.bytes, AllocationProperty::File), stored, raw.dtype);
        let data = if raw.dtype == DType::F32 { data } else { data.convert_dtype(DType::F32) };
        let tensor = Tensor::from_data(data, &self.device);
        Ok(if transposed { tensor.swap_dims(D - 2, D - 1) } else { tensor })
    }
}

impl<F: Fn(&str) -> Option<RawTensor>> ModuleMapper for Loader<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failure.is_some() {
            return param;
        }
        match self.tensor(param.lazy_shape().dims()) {
            // The network is for inference until someone asks to train it.
            Ok(tensor) => Param::initialized(param.id, tensor.set_require_grad(false)),
            Err(error) => {
                self.failure = Some(error);
                param
            }
        }
    }
}
