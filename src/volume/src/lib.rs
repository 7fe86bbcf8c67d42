//! Voxels and geometry: image files, normalisation, cropping, resampling, orientation. No network, no tensors.

mod error;
mod geometry;
pub mod preprocess;
mod volume;

pub use error::{Error, ErrorKind, Result};
pub use geometry::{Geometry, Reorientation};
pub use preprocess::Region;
pub use volume::{NonFinite, Volume, sanitise};
