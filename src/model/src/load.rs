//! Puts the tensors of a checkpoint into a network, without copying them.

use crate::error::Result;
use crate::parameters;
use crate::segvol::SegVol;
use burn::tensor::{DType, Device};

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
}
