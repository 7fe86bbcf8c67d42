//! `ams_image`: voxels, and where they lie.

use crate::arg::Growing;
use crate::error::{Failure, Result, ams_error};
use crate::guard::{Entered, Shared};
use crate::scalar::{self, Layout};
use crate::status::ams_status;
use crate::{arg, guard};
use adaptmedseg_segment::volume::{self, Geometry, Volume};
use std::ffi::{c_char, c_void};
use std::mem::size_of;
use std::sync::Arc;

/// A 3-D image: voxels and where they lie. It never changes, so any number of threads may use it at the same time.
/// Sessions keep what they need of it, so it may be freed before them.
pub struct ams_image {
    inner: Shared<Arc<Volume<f32>>>,
}

impl ams_image {
    /// The image of a handle.
    ///
    /// # Safety
    /// `image` is NULL or a live handle.
    pub(crate) unsafe fn enter<'a>(image: *const Self) -> Result<Entered<'a, Arc<Volume<f32>>>> {
        // SAFETY: by contract.
        unsafe { arg::get(image, "image") }?.inner.enter()
    }

    fn boxed(volume: Volume<f32>) -> *mut Self {
        Box::into_raw(Box::new(Self { inner: Shared::new(Arc::new(volume)) }))
    }
}

/// Type of a voxel, in the byte order of the machine.
pub type ams_scalar_type = i32;

/// Unsigned, 8 bits.
pub const AMS_SCALAR_UINT8: ams_scalar_type = 1;
/// Signed, 8 bits.
pub const AMS_SCALAR_INT8: ams_scalar_type = 2;
/// Unsigned, 16 bits.
pub const AMS_SCALAR_UINT16: ams_scalar_type = 3;
/// Signed, 16 bits.
pub const AMS_SCALAR_INT16: ams_scalar_type = 4;
/// Unsigned, 32 bits.
pub const AMS_SCALAR_UINT32: ams_scalar_type = 5;
/// Signed, 32 bits.
pub const AMS_SCALAR_INT32: ams_scalar_type = 6;
/// Unsigned, 64 bits.
pub const AMS_SCALAR_UINT64: ams_scalar_type = 7;
/// Signed, 64 bits.
pub const AMS_SCALAR_INT64: ams_scalar_type = 8;
/// IEEE 754, 32 bits.
pub const AMS_SCALAR_FLOAT32: ams_scalar_type = 9;
/// IEEE 754, 64 bits.
pub const AMS_SCALAR_FLOAT64: ams_scalar_type = 10;

/// Voxels of the caller and where they lie. Set it to zeros first, then `struct_size`.
///
/// Axes are i, j, k, in the order of memory: i is the fastest unless the strides say otherwise. The world is LPS in
/// millimetres, as in ITK and DICOM; for RAS (NIfTI, 3D Slicer) turn the sign of the first two numbers of the origin
/// and of the first two rows of the direction.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ams_image_desc {
    /// `sizeof(ams_image_desc)`.
    pub struct_size: usize,
    /// The voxel at (0, 0, 0). It need not be aligned.
    pub data: *const c_void,
    /// Type of a voxel, an `AMS_SCALAR_` constant. Voxels are converted to 32-bit floating point.
    pub scalar_type: ams_scalar_type,
    /// Voxels along i, j, k.
    pub size: [usize; 3],
    /// Bytes from one voxel to the next along i, j, k; they may be negative. All zeros: packed, i fastest.
    pub strides: [isize; 3],
    /// Millimetres between voxel centres along i, j, k, each above zero.
    pub spacing: [f64; 3],
    /// LPS position of the centre of voxel (0, 0, 0), in millimetres.
    pub origin: [f64; 3],
    /// 3 x 3, row by row: column c is the unit LPS vector along axis c.
    pub direction: [f64; 9],
}

// SAFETY: `repr(C)`, the size first, and NULL and 0 are values of every field.
unsafe impl Growing for ams_image_desc {
    const NAME: &'static str = "ams_image_desc";
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Makes an image of voxels in memory, which are copied.
///
/// `out` receives the image; free it with `ams_image_free`. Voxels that are not finite are kept here; a session
/// replaces them in its own copy.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument or NULL voxels, a wrong `struct_size`, an unknown scalar
/// type, an axis without voxels, a spacing that is not above zero, a singular direction, numbers that are not finite,
/// strides smaller than a voxel; `AMS_STATUS_OUT_OF_MEMORY` if the copy does not fit.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_image_from_buffer(
    desc: *const ams_image_desc,
    out: *mut *mut ams_image,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked. The voxels are where the description says.
    unsafe {
        guard::call(error, || {
            let (desc, out) = (arg::options(desc, "desc")?, arg::out(out, "out")?);
            arg::get(desc.data.cast::<u8>(), "desc->data")?;
            let width = scalar::width(desc.scalar_type)?;
            let [a, b, c, d, e, f, g, h, i] = desc.direction;
            let direction = [[a, b, c], [d, e, f], [g, h, i]];
            let geometry = Geometry::new(desc.size, desc.spacing, desc.origin, direction)?;
            let layout = Layout::new(desc.size, desc.strides, width)?;
            let voxels = scalar::read(desc.data.cast(), desc.scalar_type, layout)?;
            out.set(ams_image::boxed(Volume::new(geometry, voxels)?));
            Ok(())
        })
    }
}

/// Reads an image from a file: NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd).
///
/// `channel` chooses one of a file with several values per voxel or several volumes, counted from 0; -1 is for files
/// with a single one. `out` receives the image; free it with `ams_image_free`.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` for a NULL argument, an empty path, a channel below -1, a geometry that cannot
/// be; `AMS_STATUS_IO` for a file that cannot be read; `AMS_STATUS_FORMAT` for one that is empty, damaged or cut short;
/// `AMS_STATUS_UNSUPPORTED` for another format, for an image that is not three-dimensional, for several channels when
/// `channel` is -1, and for a channel that is not there; `AMS_STATUS_OUT_OF_MEMORY`.
///
/// Thread: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_image_read(
    path: *const c_char,
    channel: i32,
    out: *mut *mut ams_image,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (path, out) = (arg::path(path, "path")?, arg::out(out, "out")?);
            let channel = match channel {
                -1 => None,
                _ => Some(usize::try_from(channel).map_err(|_| {
                    Failure::argument(format!("channel {channel}")).with_hint("count from 0, or -1 for a file with one")
                })?),
            };
            let options = volume::ReadOptions { channel, ..Default::default() };
            out.set(ams_image::boxed(volume::read(&path, &options)?));
            Ok(())
        })
    }
}

/// Frees an image. NULL is allowed. Sessions that look at it stay usable.
///
/// Thread: any, but once, and while no other call uses the handle. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_image_free(image: *mut ams_image) {
    // SAFETY: NULL or an image of this library that nobody uses any more, by contract.
    unsafe { guard::free(image) }
}

/// Number of voxels along i, j, k.
///
/// `out` receives three numbers.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `image` or `out` is NULL.
///
/// Thread: any. Since 0.1.
/// cbindgen:ptrs-as-arrays=[[out;3]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_image_size(
    image: *const ams_image,
    out: *mut usize,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (image, out) = (ams_image::enter(image)?, arg::out(out.cast::<[usize; 3]>(), "out")?);
            out.set(image.geometry.size);
            Ok(())
        })
    }
}

/// Millimetres between voxel centres along i, j, k.
///
/// `out` receives three numbers.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `image` or `out` is NULL.
///
/// Thread: any. Since 0.1.
/// cbindgen:ptrs-as-arrays=[[out;3]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_image_spacing(
    image: *const ams_image,
    out: *mut f64,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (image, out) = (ams_image::enter(image)?, arg::out(out.cast::<[f64; 3]>(), "out")?);
            out.set(image.geometry.spacing);
            Ok(())
        })
    }
}

/// LPS position in millimetres of the centre of voxel (0, 0, 0).
///
/// `out` receives three numbers.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `image` or `out` is NULL.
///
/// Thread: any. Since 0.1.
/// cbindgen:ptrs-as-arrays=[[out;3]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_image_origin(
    image: *const ams_image,
    out: *mut f64,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (image, out) = (ams_image::enter(image)?, arg::out(out.cast::<[f64; 3]>(), "out")?);
            out.set(image.geometry.origin);
            Ok(())
        })
    }
}

/// Direction of the axes: 3 x 3, row by row, column c the unit LPS vector along axis c.
///
/// `out` receives nine numbers.
///
/// Errors: `AMS_STATUS_INVALID_ARGUMENT` if `image` or `out` is NULL.
///
/// Thread: any. Since 0.1.
/// cbindgen:ptrs-as-arrays=[[out;9]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_image_direction(
    image: *const ams_image,
    out: *mut f64,
    error: *mut *mut ams_error,
) -> ams_status {
    // SAFETY: by contract each pointer is NULL or valid; NULL is checked.
    unsafe {
        guard::call(error, || {
            let (image, out) = (ams_image::enter(image)?, arg::out(out.cast::<[[f64; 3]; 3]>(), "out")?);
            out.set(image.geometry.direction);
            Ok(())
        })
    }
}
