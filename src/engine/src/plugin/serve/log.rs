//! Messages of a plugin go to the host, through the call that is running.

use super::super::abi::*;
use super::super::wire::c_text;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::cell::Cell;
use std::ptr;

thread_local! {
    static CURRENT: Cell<*const ams_plugin_call> = const { Cell::new(ptr::null()) };
}

/// Runs the body of a call; what is logged on this thread meanwhile may go to its host.
pub(super) fn during<T>(call: *const ams_plugin_call, body: impl FnOnce() -> T) -> T {
    struct Restore(*const ams_plugin_call);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(call));
    body()
}

/// Sends this library's messages to the host. For a plugin that is a library of its own, and so has a logger of its own.
pub fn forward_logs() {
    // Fails if it was set before, which is as good.
    let _ = log::set_logger(&ToHost);
    log::set_max_level(LevelFilter::Debug);
}

struct ToHost;

impl Log for ToHost {
    fn enabled(&self, _metadata: &Metadata) -> bool {
        !CURRENT.get().is_null()
    }

    fn log(&self, record: &Record) {
        let call = CURRENT.get();
        if call.is_null() {
            return;
        }
        let level = match record.level() {
            Level::Error | Level::Warn => AMS_PLUGIN_WARNING,
            Level::Info => AMS_PLUGIN_INFO,
            Level::Debug | Level::Trace => AMS_PLUGIN_DEBUG,
        };
        let message = c_text(record.args().to_string());
        // SAFETY: the call runs on this thread; see `during`.
        unsafe { ((*call).log)(call, level, message.as_ptr()) };
    }

    fn flush(&self) {}
}
