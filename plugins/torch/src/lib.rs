//! The libtorch engine: the model crate on Burn's libtorch backend, behind the plugin table.
//!
//! Nothing but `ams_plugin_init` is exported. Everything that the process shares stays as it was: no environment variable is
//! set, and libtorch's settings are those of this copy of it.

mod device;
mod engine;
mod failure;
#[allow(missing_docs, unreachable_pub)]
mod native;

use adaptmedseg_engine::plugin::abi::{ams_plugin, ams_plugin_call, ams_plugin_status};
use adaptmedseg_engine::plugin::serve::{self, Provider};
use adaptmedseg_engine::{DeviceInfo, Engine, EngineOptions, Error, ErrorKind, ModelSource, Result};
use native::ffi;
use serde_json::{Value, json};
use std::sync::Once;

struct Torch;

static TORCH: Torch = Torch;

impl Provider for Torch {
    fn describe(&self) -> Value {
        json!({
            "name": "torch",
            "version": env!("CARGO_PKG_VERSION"),
            "libtorch": ffi::running_version().unwrap_or_default(),
            "cuda_devices": ffi::cuda_count().unwrap_or(0),
        })
    }

    fn check(&self) -> Result<()> {
        let (built, running) = (ffi::built_version(), ffi::running_version().map_err(failure::thrown)?);
        if built != running {
            return Err(Error::Plugin {
                kind: ErrorKind::Unsupported,
                message: format!("the libtorch plugin was built for PyTorch {built}, and has found {running}"),
                hint: Some(format!(
                    "install PyTorch {built} where the plugin was built with it, or build the plugin anew"
                )),
            });
        }
        Ok(())
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>> {
        device::list()
    }

    fn open(&self, source: ModelSource, options: &EngineOptions) -> Result<Box<dyn Engine>> {
        engine::open(source, options)
    }

    fn explain(&self, panic: &str) -> Option<Error> {
        failure::explain(panic)
    }
}

/// Fills the table of the plugin: see `adaptmedseg_plugin.h`.
///
/// # Safety
/// As it says there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ams_plugin_init(
    version: u32,
    plugin: *mut ams_plugin,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        serve::forward_logs();
        // This library's own hook: libtorch's exceptions come as panics, and are told to the host.
        std::panic::set_hook(Box::new(|_| {}));
    });
    // SAFETY: by contract.
    unsafe { serve::init(&TORCH, version, plugin, call) }
}
