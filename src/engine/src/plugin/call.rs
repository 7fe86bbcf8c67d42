//! The host's side of a call into a plugin: what the plugin says and answers, copied.

use super::abi::*;
use super::wire;
use crate::error::{Error, ErrorKind, Result};
use adaptmedseg_model::NamedTensors;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// What a plugin answered.
#[derive(Debug, Default)]
pub(super) struct Reply {
    text: Option<String>,
    /// Name, shape and elements, in the order of arrival.
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// An array that cannot be taken.
    unusable: Option<String>,
    failure: Option<(String, Option<String>)>,
}

impl Reply {
    /// The answer that is text.
    ///
    /// # Errors
    /// There was none.
    pub(super) fn text(&mut self) -> Result<String> {
        self.text.take().ok_or_else(|| broken("it answered without a text"))
    }

    /// The answer that is JSON.
    ///
    /// # Errors
    /// There was none, or it is not what was asked for.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| broken(&format!("it answered {text:?}: {error}")))
    }

    /// The answered arrays by name.
    pub(super) fn named(self) -> NamedTensors {
        self.tensors.into_iter().map(|(name, shape, elements)| (name, (shape, elements))).collect()
    }

    /// Takes the array of this name.
    ///
    /// # Errors
    /// There is none, or it has another number of elements.
    pub(super) fn take(&mut self, name: &str, count: Option<usize>) -> Result<Vec<f32>> {
        let index = self.tensors.iter().position(|(found, ..)| found == name);
        let (_, shape, elements) =
            self.tensors.swap_remove(index.ok_or_else(|| broken(&format!("it answered without an array `{name}`")))?);
        if count.is_some_and(|count| count != elements.len()) {
            return Err(broken(&format!("its array `{name}` has the shape {shape:?}")));
        }
        Ok(elements)
    }
}

/// A plugin that does not keep its contract.
pub(super) fn broken(what: &str) -> Error {
    Error::Plugin {
        kind: ErrorKind::Internal,
        message: format!("the plugin is broken: {what}"),
        hint: Some("report it to whoever made the plugin".into()),
    }
}

/// Runs `body` with a call to hand to the plugin; returns what it answered.
///
/// # Errors
/// What the plugin failed with; an answer that cannot be read.
pub(super) fn with(body: impl FnOnce(*const ams_plugin_call) -> ams_plugin_status) -> Result<Reply> {
    let (status, reply) = raw(body);
    checked(status, reply)
}

/// The reply of a call that went well.
///
/// # Errors
/// What the plugin failed with; an answer that cannot be read.
pub(super) fn checked(status: ams_plugin_status, reply: Reply) -> Result<Reply> {
    let Some(kind) = wire::kind_of(status) else {
        return match reply.unusable {
            Some(what) => Err(broken(&what)),
            None => Ok(reply),
        };
    };
    let (message, hint) =
        reply.failure.unwrap_or_else(|| (format!("the plugin failed without a word (status {status})"), None));
    Err(match kind {
        ErrorKind::OutOfMemory => Error::OutOfMemory { message, hint },
        kind => Error::Plugin { kind, message, hint },
    })
}

/// [`with`], whatever the status.
pub(super) fn raw(body: impl FnOnce(*const ams_plugin_call) -> ams_plugin_status) -> (ams_plugin_status, Reply) {
    let reply = Mutex::new(Reply::default());
    let context = (&raw const reply).cast_mut().cast::<c_void>();
    let status = body(&ams_plugin_call { context, fail, log, text, tensor });
    (status, reply.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Lets `body` look at the reply of a call. Nothing unwinds into the plugin.
///
/// # Safety
/// `call` is one of [`raw`], which still runs.
unsafe fn note(call: *const ams_plugin_call, body: impl FnOnce(&mut Reply)) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: by contract; the context is the `Mutex<Reply>` of that call.
        let reply = unsafe { &*(*call).context.cast::<Mutex<Reply>>() };
        body(&mut reply.lock().unwrap_or_else(PoisonError::into_inner));
    }));
}

/// A copy of what a plugin says; `None` for NULL.
///
/// # Safety
/// NULL, or a string that ends in NUL.
unsafe fn said(text: *const c_char) -> Option<String> {
    // SAFETY: not NULL, so a string by contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

unsafe extern "C" fn fail(call: *const ams_plugin_call, message: *const c_char, hint: *const c_char) {
    // SAFETY: the plugin keeps to the contract of `ams_plugin_call`.
    unsafe { note(call, |reply| reply.failure = Some((said(message).unwrap_or_default(), said(hint)))) };
}

unsafe extern "C" fn log(call: *const ams_plugin_call, level: ams_plugin_level, message: *const c_char) {
    // SAFETY: as in `fail`.
    unsafe {
        note(call, |_| {
            let level = match level {
                ..AMS_PLUGIN_WARNING => log::Level::Error,
                AMS_PLUGIN_WARNING => log::Level::Warn,
                AMS_PLUGIN_INFO => log::Level::Info,
                _ => log::Level::Debug,
            };
            log::log!(level, "{}", said(message).unwrap_or_default());
        });
    }
}

unsafe extern "C" fn text(call: *const ams_plugin_call, text: *const c_char) {
    // SAFETY: as in `fail`.
    unsafe { note(call, |reply| reply.text = said(text)) };
}

unsafe extern "C" fn tensor(call: *const ams_plugin_call, tensor: *const ams_plugin_tensor) {
    // SAFETY: as in `fail`; a tensor is NULL or valid during the call.
    unsafe {
        note(call, |reply| match wire::read_floats(tensor) {
            Ok(tensor) => reply.tensors.push(tensor),
            Err(what) => reply.unusable = Some(what),
        });
    }
}
