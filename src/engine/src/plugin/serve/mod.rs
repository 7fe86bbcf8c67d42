//! A plugin's side of the table, made of any engine: what a plugin in Rust consists of, but for its engine.
//!
//! ```ignore
//! static PROVIDER: MyProvider = MyProvider;
//!
//! #[unsafe(no_mangle)]
//! unsafe extern "C" fn ams_plugin_init(version: u32, plugin: *mut ams_plugin, call: *const ams_plugin_call) -> i32 {
//!     unsafe { serve::init(&PROVIDER, version, plugin, call) }
//! }
//! ```

mod log;
mod model;
mod trainer;

pub use log::forward_logs;

use super::abi::*;
use super::wire::{self, c_pointer, c_text};
use crate::error::{Error, ErrorKind, Result};
use crate::{DeviceInfo, Engine, EngineOptions, ModelSource};
use std::any::Any;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Engines of one kind, and the devices they run on.
pub trait Provider: Sync + 'static {
    /// `name` (what its devices' names begin with), `version`, and what else helps to tell which build of what this is.
    fn describe(&self) -> serde_json::Value;

    /// Whether it can work in this process: the libraries it finds are those it was built for.
    ///
    /// # Errors
    /// They are not.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Its devices, best first.
    ///
    /// # Errors
    /// They cannot be listed.
    fn devices(&self) -> Result<Vec<DeviceInfo>>;

    /// Opens a model on one of them.
    ///
    /// # Errors
    /// An unknown device; a model or a precision it does not run; too little memory.
    fn open(&self, source: ModelSource, options: &EngineOptions) -> Result<Box<dyn Engine>>;

    /// What a panic means that is not a mistake, such as one for want of memory.
    fn explain(&self, _panic: &str) -> Option<Error> {
        None
    }
}

/// Fills the table for a provider: the body of a plugin's `ams_plugin_init`.
///
/// # Safety
/// As the contract of `ams_plugin_init`: a zeroed table of `version`, and a call of the host's.
pub unsafe fn init<P: Provider>(
    provider: &'static P,
    version: u32,
    plugin: *mut ams_plugin,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    if version != AMS_PLUGIN_VERSION {
        return AMS_PLUGIN_NOT_IMPLEMENTED;
    }
    let body = || {
        provider.check()?;
        let table = ams_plugin {
            private_data: (&raw const *provider).cast_mut().cast(),
            describe: Some(describe::<P>),
            devices: Some(devices::<P>),
            model_open: Some(model::open::<P>),
            ..model::TABLE
        };
        // SAFETY: the host's table of this version, by contract.
        unsafe { plugin.write(table) };
        Ok(())
    };
    // SAFETY: by contract.
    unsafe { guarded(call, provider, body) }
}

/// The provider of a table.
///
/// # Safety
/// A table that [`init`] has filled for a `P`.
unsafe fn provider_of<P: Provider>(plugin: *const ams_plugin) -> &'static P {
    // SAFETY: by contract; the provider is static.
    unsafe { &*(*plugin).private_data.cast::<P>() }
}

unsafe extern "C" fn describe<P: Provider>(
    plugin: *const ams_plugin,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: the host hands over its table, and a call of its own.
    unsafe {
        let provider = provider_of::<P>(plugin);
        guarded(call, provider, || answer(call, &provider.describe()))
    }
}

unsafe extern "C" fn devices<P: Provider>(
    plugin: *const ams_plugin,
    call: *const ams_plugin_call,
) -> ams_plugin_status {
    // SAFETY: as in `describe`.
    unsafe {
        let provider = provider_of::<P>(plugin);
        guarded(call, provider, || answer(call, &provider.devices()?))
    }
}

/// Runs the body of a function of the table: no panic leaves it, and every failure is told to the host.
///
/// # Safety
/// `call` is a call of the host's.
unsafe fn guarded(
    call: *const ams_plugin_call,
    provider: &dyn Provider,
    body: impl FnOnce() -> Result<()>,
) -> ams_plugin_status {
    let error = match catch_unwind(AssertUnwindSafe(|| log::during(call, body))) {
        Ok(Ok(())) => return AMS_PLUGIN_OK,
        Ok(Err(error)) => error,
        Err(payload) => {
            let text = said(payload.as_ref()).to_owned();
            // A destructor of an unknown type could panic again.
            std::mem::forget(payload);
            let explained = catch_unwind(AssertUnwindSafe(|| provider.explain(&text))).ok().flatten();
            explained.unwrap_or_else(|| Error::Plugin {
                kind: ErrorKind::Internal,
                message: format!("mistake in the engine: {text}"),
                hint: Some("report this message".into()),
            })
        }
    };
    let (message, hint) = (c_text(error.to_string()), error.hint().map(c_text));
    // SAFETY: the call is the host's, and copies what it is given.
    unsafe { ((*call).fail)(call, message.as_ptr(), c_pointer(hint.as_ref())) };
    wire::status_of(error.kind())
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Answers with JSON.
///
/// # Safety
/// `call` is a call of the host's.
unsafe fn answer(call: *const ams_plugin_call, value: &impl serde::Serialize) -> Result<()> {
    let text = c_text(serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))?);
    // SAFETY: by contract.
    unsafe { ((*call).text)(call, text.as_ptr()) };
    Ok(())
}

/// Answers with arrays.
///
/// # Safety
/// `call` is a call of the host's.
unsafe fn answer_arrays(call: *const ams_plugin_call, arrays: &wire::Arrays) {
    // SAFETY: by contract; the arrays live until the host has copied them.
    arrays.list().iter().for_each(|tensor| unsafe { ((*call).tensor)(call, tensor) });
}

fn misused(what: impl Into<String>) -> Error {
    Error::Plugin { kind: ErrorKind::InvalidArgument, message: what.into(), hint: None }
}

/// What a pointer of the host's points to.
///
/// # Safety
/// NULL, or what it says and alive.
unsafe fn get<'a, T>(pointer: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: by contract.
    unsafe { pointer.as_ref() }.ok_or_else(|| misused(format!("{what} is NULL")))
}

/// A text of the host's.
///
/// # Safety
/// As [`wire::read_text`].
unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str> {
    // SAFETY: by contract.
    unsafe { wire::read_text(text, what) }.map_err(misused)
}

/// JSON of the host's.
///
/// # Safety
/// As [`wire::read_text`].
unsafe fn json<T: serde::de::DeserializeOwned>(pointer: *const c_char, what: &str) -> Result<T> {
    // SAFETY: by contract.
    let text = unsafe { text(pointer, what)? };
    serde_json::from_str(text).map_err(|error| misused(format!("{what}: {error}")))
}

/// Writes a handle for the host to hold.
///
/// # Safety
/// `out` is NULL or can be written to; `Raw` is how the table calls a `T`.
unsafe fn hand_out<T, Raw>(out: *mut *mut Raw, value: T) -> Result<()> {
    if out.is_null() {
        return Err(misused("there is nowhere to write the handle to"));
    }
    // SAFETY: not NULL, so it can be written to.
    unsafe { out.write(Box::into_raw(Box::new(value)).cast()) };
    Ok(())
}

/// Frees a handle; NULL is left alone.
///
/// # Safety
/// NULL, or what [`hand_out`] has written for a `T`, used nowhere else.
unsafe extern "C" fn take_back<T, Raw>(handle: *mut Raw) {
    if !handle.is_null() {
        // SAFETY: by contract.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle.cast::<T>()) })));
    }
}
