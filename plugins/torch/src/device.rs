//! The devices of libtorch: `torch:cuda:N`, `torch:mps`, `torch:cpu`.

use crate::failure;
use crate::native::ffi;
use adaptmedseg_engine::{DeviceInfo, Error, Result};
use adaptmedseg_model::Device;
use std::ffi::{CStr, c_char, c_int};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A GPU of NVIDIA, counted as CUDA counts them.
    Cuda(usize),
    /// The GPU of an Apple processor.
    Mps,
    /// The processor.
    Cpu,
}

impl Place {
    /// The name it is opened by.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Cuda(index) => format!("torch:cuda:{index}"),
            Self::Mps => "torch:mps".into(),
            Self::Cpu => "torch:cpu".into(),
        }
    }

    /// Burn's device.
    #[expect(deprecated, reason = "what comes after libtorch is another plugin")]
    pub(crate) fn device(self) -> Device {
        match self {
            Self::Cuda(index) => Device::libtorch_cuda(index),
            Self::Mps => Device::libtorch_mps(),
            Self::Cpu => Device::libtorch(),
        }
    }
}

/// Those there are, best first.
fn places() -> Result<Vec<Place>> {
    let count = ffi::cuda_count().map_err(failure::thrown)?;
    let mut places: Vec<Place> = (0..usize::try_from(count).unwrap_or(0)).map(Place::Cuda).collect();
    if ffi::has_mps() {
        places.push(Place::Mps);
    }
    places.push(Place::Cpu);
    Ok(places)
}

/// The place of a name; `torch:cuda` is the first of them.
///
/// # Errors
/// A name no device has.
pub(crate) fn find(name: &str) -> Result<Place> {
    let wanted = if name == "torch:cuda" { "torch:cuda:0" } else { name };
    let places = places()?;
    places.iter().find(|place| place.name() == wanted).copied().ok_or_else(|| Error::UnknownDevice {
        name: name.into(),
        known: places.iter().map(|place| place.name()).collect(),
    })
}

/// Descriptions of them.
///
/// # Errors
/// CUDA cannot be asked.
pub(crate) fn list() -> Result<Vec<DeviceInfo>> {
    let places = places()?;
    let driver = places.iter().any(|place| matches!(place, Place::Cuda(_))).then(Driver::open).flatten();
    let describe = |place: Place| {
        let (description, memory_bytes) = match place {
            Place::Cuda(index) => {
                let known = driver.as_ref().and_then(|driver| driver.describe(index));
                known.map_or_else(
                    || (format!("GPU {index} (libtorch, CUDA)"), None),
                    |(name, memory)| (format!("{name} (libtorch, CUDA)"), Some(memory)),
                )
            }
            Place::Mps => ("Apple GPU (libtorch, MPS)".into(), None),
            Place::Cpu => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                (format!("processor, {threads} threads (libtorch)"), None)
            }
        };
        DeviceInfo { name: place.name(), description, memory_bytes, accelerator: place != Place::Cpu }
    };
    Ok(places.into_iter().map(describe).collect())
}

/// NVIDIA's driver, which knows names and memory without a context, as libtorch does not.
struct Driver(libloading::Library);

impl Driver {
    fn open() -> Option<Self> {
        let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
        // SAFETY: the driver's library, which libtorch has loaded too.
        let driver = Self(unsafe { libloading::Library::new(name) }.ok()?);
        // SAFETY: the function has this type in every version of the driver.
        let init = unsafe { driver.0.get::<unsafe extern "C" fn(u32) -> c_int>(b"cuInit\0") }.ok()?;
        // SAFETY: it takes 0.
        (unsafe { init(0) } == 0).then_some(())?;
        Some(driver)
    }

    /// Name and bytes of memory.
    fn describe(&self, index: usize) -> Option<(String, u64)> {
        type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
        type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        type Total = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
        let (mut device, mut name, mut total) = (0, [0; 256], 0);
        // SAFETY: the functions have these types in every version of the driver, and write to what they are given.
        unsafe {
            let get = self.0.get::<Get>(b"cuDeviceGet\0").ok()?;
            let name_of = self.0.get::<Name>(b"cuDeviceGetName\0").ok()?;
            let total_of = self.0.get::<Total>(b"cuDeviceTotalMem_v2\0").ok()?;
            let asked = [
                get(&raw mut device, c_int::try_from(index).ok()?),
                name_of(name.as_mut_ptr(), 255, device),
                total_of(&raw mut total, device),
            ];
            (asked == [0; 3]).then(|| (CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(), total as u64))
        }
    }
}
