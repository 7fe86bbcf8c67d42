//! Voxels and geometry: image files, normalisation, cropping, resampling, orientation. No network, no tensors.

mod error;
mod geometry;
mod io;
pub mod preprocess;
mod volume;

pub use error::{Error, ErrorKind, Result};
pub use geometry::{Geometry, Reorientation};
pub use io::{
    DicomSeries, ImageInfo, ReadOptions, Scalar, ScalarType, Stack, WriteOptions, read, read_dicom_series, read_info,
    read_labels, read_tiff, read_tiff_labels, write, write_like,
};
pub use preprocess::Region;
pub use volume::{NonFinite, Volume, sanitise};
