//! Voxels and geometry: image files, normalisation, cropping, resampling, orientation. No network, no tensors.

mod error;
mod geometry;
mod io;
pub mod preprocess;
mod volume;

pub use error::{Error, ErrorKind, Result};
pub use geometry::{Geometry, Reorientation};
pub use io::{
    ImageInfo, ReadOptions, Scalar, ScalarType, WriteOptions, read, read_info, read_labels, write, write_like,
};
pub use preprocess::Region;
pub use volume::{NonFinite, Volume, sanitise};
