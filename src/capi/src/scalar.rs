//! Voxels of any type and layout, as the library wants them: `f32`, i fastest.

use crate::error::{Failure, Result};
use crate::image::*;
use crate::status::AMS_STATUS_OUT_OF_MEMORY;
use std::mem::size_of;

/// How voxels lie in memory: bytes from one to the next along i, j, k.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub size: [usize; 3],
    pub strides: [isize; 3],
}

impl Layout {
    /// Checks the strides a caller gave; all zeros are those of packed voxels of `width` bytes.
    pub(crate) fn new(size: [usize; 3], strides: [isize; 3], width: usize) -> Result<Self> {
        let large = || Failure::argument(format!("an image of {size:?} voxels is larger than memory can be"));
        let mut strides = strides;
        if strides == [0; 3] {
            let mut step = width;
            for axis in 0..3 {
                strides[axis] = isize::try_from(step).map_err(|_| large())?;
                step = step.checked_mul(size[axis]).ok_or_else(large)?;
            }
        }
        let mut reach = [0isize; 2];
        for axis in 0..3 {
            if size[axis] > 1 && strides[axis].unsigned_abs() < width {
                return Err(Failure::argument(format!(
                    "strides[{axis}] is {} bytes, a voxel has {width}",
                    strides[axis]
                ))
                .with_hint("strides are bytes from one voxel to the next; all zeros stand for packed voxels"));
            }
            let last = isize::try_from(size[axis].saturating_sub(1)).map_err(|_| large())?;
            let far = last.checked_mul(strides[axis]).ok_or_else(large)?;
            let end = usize::from(far > 0);
            reach[end] = reach[end].checked_add(far).ok_or_else(large)?;
        }
        reach[1].checked_sub(reach[0]).and_then(|bytes| bytes.checked_add(width as isize)).ok_or_else(large)?;
        Ok(Self { size, strides })
    }
}

/// Bytes of a voxel of this type.
pub(crate) fn width(scalar: ams_scalar_type) -> Result<usize> {
    match scalar {
        AMS_SCALAR_UINT8 | AMS_SCALAR_INT8 => Ok(1),
        AMS_SCALAR_UINT16 | AMS_SCALAR_INT16 => Ok(2),
        AMS_SCALAR_UINT32 | AMS_SCALAR_INT32 | AMS_SCALAR_FLOAT32 => Ok(4),
        AMS_SCALAR_UINT64 | AMS_SCALAR_INT64 | AMS_SCALAR_FLOAT64 => Ok(8),
        _ => Err(Failure::argument(format!("unknown scalar type {scalar}")).with_hint("use an AMS_SCALAR_ constant")),
    }
}

/// Copies voxels, converted.
///
/// # Safety
/// Every voxel of the layout can be read, `data` being the one at (0, 0, 0).
pub(crate) unsafe fn read(data: *const u8, scalar: ams_scalar_type, layout: Layout) -> Result<Vec<f32>> {
    // SAFETY: by contract.
    unsafe {
        match scalar {
            AMS_SCALAR_UINT8 => gather(data, layout, |value: u8| value as f32),
            AMS_SCALAR_INT8 => gather(data, layout, |value: i8| value as f32),
            AMS_SCALAR_UINT16 => gather(data, layout, |value: u16| value as f32),
            AMS_SCALAR_INT16 => gather(data, layout, |value: i16| value as f32),
            AMS_SCALAR_UINT32 => gather(data, layout, |value: u32| value as f32),
            AMS_SCALAR_INT32 => gather(data, layout, |value: i32| value as f32),
            AMS_SCALAR_UINT64 => gather(data, layout, |value: u64| value as f32),
            AMS_SCALAR_INT64 => gather(data, layout, |value: i64| value as f32),
            AMS_SCALAR_FLOAT32 => gather(data, layout, |value: f32| value),
            _ => gather(data, layout, |value: f64| value as f32),
        }
    }
}

/// # Safety
/// As [`read`], each voxel a `T`.
unsafe fn gather<T: Copy>(data: *const u8, layout: Layout, convert: impl Fn(T) -> f32) -> Result<Vec<f32>> {
    let Layout { size, strides } = layout;
    let count = size.iter().product::<usize>();
    let mut voxels = Vec::new();
    voxels.try_reserve_exact(count).map_err(|_| {
        let megabytes = (count * size_of::<f32>()) >> 20;
        Failure::new(AMS_STATUS_OUT_OF_MEMORY, format!("a copy of the image takes {megabytes} MB, which are not there"))
    })?;
    for k in 0..size[2] as isize {
        for j in 0..size[1] as isize {
            // SAFETY: the start of a row of the layout.
            let row = unsafe { data.offset(k * strides[2] + j * strides[1]) };
            // SAFETY: each a voxel of the layout, wherever it is aligned.
            let voxel = |i: isize| unsafe { row.offset(i * strides[0]).cast::<T>().read_unaligned() };
            voxels.extend((0..size[0] as isize).map(|i| convert(voxel(i))));
        }
    }
    Ok(voxels)
}
