//! The built-in engine behind a table in this very process: the contract without a second library.

use adaptmedseg_engine::plugin::abi::{ams_plugin, ams_plugin_call, ams_plugin_status};
use adaptmedseg_engine::plugin::serve::{self, Provider};
use adaptmedseg_engine::{BurnEngine, DeviceInfo, Engine, EngineOptions, Error, ModelSource, Result};
use serde_json::{Value, json};

struct Flex;

static FLEX: Flex = Flex;

/// A device that panics.
pub const PANICS: &str = "inproc:panics";
/// A device whose panic means that there is no memory.
pub const EXHAUSTED: &str = "inproc:exhausted";

impl Provider for Flex {
    fn describe(&self) -> Value {
        json!({ "name": "inproc", "version": env!("CARGO_PKG_VERSION"), "built_with": "Burn Flex" })
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>> {
        Ok(vec![DeviceInfo {
            name: "inproc:cpu".into(),
            description: "the built-in engine behind a table".into(),
            memory_bytes: None,
            accelerator: false,
        }])
    }

    fn open(&self, source: ModelSource, options: &EngineOptions) -> Result<Box<dyn Engine>> {
        match options.device.as_str() {
            "inproc:cpu" => {}
            PANICS => panic!("on purpose"),
            EXHAUSTED => panic!("no memory"),
            name => return Err(Error::UnknownDevice { name: name.into(), known: vec!["inproc:cpu".into()] }),
        }
        let options = EngineOptions { device: "cpu".into(), ..options.clone() };
        let tokenizer = source.read_tokenizer()?;
        let weight = |name: &str| source.tensors.get(name).cloned();
        Ok(Box::new(BurnEngine::new(source.config.clone(), tokenizer, &options, weight)?))
    }

    fn explain(&self, panic: &str) -> Option<Error> {
        (panic == "no memory")
            .then(|| Error::OutOfMemory { message: panic.into(), hint: Some("close something".into()) })
    }
}

/// What a library would export as `ams_plugin_init`.
///
/// # Safety
/// As that.
pub unsafe extern "C" fn init(
    version: u32,
    plugin: *mut ams_plugin,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: by contract.
    unsafe { serve::init(&FLEX, version, plugin, call) }
}
