//! The bridge to libtorch's C++ for what `tch` does not bind: see `native.h`.

#[cxx::bridge(namespace = "adaptmedseg")]
pub(crate) mod ffi {
    /// Memory of a device.
    struct Memory {
        /// Bytes in use.
        allocated: u64,
        /// Bytes in use, and those kept for later.
        reserved: u64,
    }

    unsafe extern "C++" {
        include!("adaptmedseg-torch/src/native.h");

        fn built_version() -> String;
        fn running_version() -> Result<String>;
        fn set_threads(count: i32) -> Result<i32>;
        fn wait_asleep() -> Result<()>;
        fn exact_float32() -> Result<()>;
        fn keep_memory() -> Result<()>;
        fn cpu_memory() -> Memory;
        fn release_cpu_memory() -> Result<()>;
        fn cuda_count() -> Result<i32>;
        fn has_mps() -> bool;
        fn cuda_memory(index: i32) -> Result<Memory>;
        fn release_cache() -> Result<()>;
    }
}
