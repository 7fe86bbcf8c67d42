//! Messages of the library, for a host that wants them.
//!
//! The callback belongs to a model, not to the process: it receives what is said on the calling thread during calls on
//! that model and its sessions, and nothing at any other time. The facade's static logger used here is this library's
//! own copy.

use log::{LevelFilter, Log, Metadata, Record};
use std::cell::Cell;
use std::ffi::{c_char, c_void};

/// How much a message matters.
pub type ams_log_level = i32;

/// No messages.
pub const AMS_LOG_OFF: ams_log_level = 0;
/// Something failed.
pub const AMS_LOG_ERROR: ams_log_level = 1;
/// Something the user should know.
pub const AMS_LOG_WARNING: ams_log_level = 2;
/// What is being done.
pub const AMS_LOG_INFO: ams_log_level = 3;
/// For whoever looks into a problem.
pub const AMS_LOG_DEBUG: ams_log_level = 4;

/// Receives one message, UTF-8, without a line break at its end, valid during the call only.
///
/// It is called on the thread that called the library, while that call runs. It must return normally: no exception and
/// no longjmp may leave it; and it must not use the session the call is about.
pub type ams_log_callback =
    Option<unsafe extern "C" fn(level: ams_log_level, message: *const c_char, user_data: *mut c_void)>;

/// Where the messages of a model go.
#[derive(Clone, Copy)]
pub(crate) struct Sink {
    callback: unsafe extern "C" fn(ams_log_level, *const c_char, *mut c_void),
    user_data: *mut c_void,
    filter: LevelFilter,
}

// SAFETY: the pointer is never followed here; the header tells hosts that it travels with the model between threads.
unsafe impl Send for Sink {}
// SAFETY: as for `Send`.
unsafe impl Sync for Sink {}

thread_local! {
    static CURRENT: Cell<Option<Sink>> = const { Cell::new(None) };
}

impl Sink {
    /// A sink for messages up to `level`; none without callback, or with the level off.
    pub(crate) fn new(level: ams_log_level, callback: ams_log_callback, user_data: *mut c_void) -> Option<Self> {
        let filter = match level {
            ..=AMS_LOG_OFF => return None,
            AMS_LOG_ERROR => LevelFilter::Error,
            AMS_LOG_WARNING => LevelFilter::Warn,
            AMS_LOG_INFO => LevelFilter::Info,
            _ => LevelFilter::Debug,
        };
        let sink = Self { callback: callback?, user_data, filter };
        // Fails if it was set before, which is as good.
        let _ = log::set_logger(&Dispatch);
        log::set_max_level(LevelFilter::Debug);
        Some(sink)
    }
}

/// Runs `body` with its messages going to `sink`.
pub(crate) fn to<T>(sink: Option<Sink>, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<Sink>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(sink));
    body()
}

struct Dispatch;

impl Log for Dispatch {
    fn enabled(&self, metadata: &Metadata) -> bool {
        CURRENT.get().is_some_and(|sink| metadata.level() <= sink.filter)
    }

    fn log(&self, record: &Record) {
        let Some(sink) = CURRENT.get().filter(|sink| record.level() <= sink.filter) else { return };
        let message = crate::error::c_text(record.args().to_string());
        // SAFETY: the host gave the callback and its data together, to be called like this.
        unsafe { (sink.callback)(record.level() as ams_log_level, message.as_ptr(), sink.user_data) };
    }

    fn flush(&self) {}
}
