//! What stands around every exported function: no panic leaves it, and every failure is reported the same way.

use crate::error::{Failure, Result, ams_error};
use crate::status::{AMS_STATUS_INTERNAL, AMS_STATUS_OK, AMS_STATUS_POISONED, ams_status};
use std::any::Any;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Runs the body of a fallible function; returns its status and fills `error`.
///
/// # Safety
/// `error` is NULL or can be written to.
pub(crate) unsafe fn call(error: *mut *mut ams_error, body: impl FnOnce() -> Result<()>) -> ams_status {
    // What a panic leaves half-done is poisoned by `Shared` and by the session's mutex.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return AMS_STATUS_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::new(AMS_STATUS_INTERNAL, format!("mistake in the library: {}", said(payload)))
            .with_hint("free the handle and report this message"),
    };
    let code = failure.code;
    if !error.is_null() {
        let boxed = Box::into_raw(Box::new(ams_error::from(failure)));
        // SAFETY: not NULL, so it can be written to.
        unsafe { error.write(boxed) };
    }
    code
}

/// Runs the body of a function that answers with a plain value; after a panic, that is `fallback`.
pub(crate) fn value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        said(payload);
        fallback
    })
}

/// Frees a handle; NULL is left alone.
///
/// # Safety
/// `handle` is NULL or came from `Box::into_raw`, and is used nowhere else.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    value((), || {
        if !handle.is_null() {
            // SAFETY: not NULL, so it came from a box.
            drop(unsafe { Box::from_raw(handle) });
        }
    });
}

fn said(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => {
                // A destructor of an unknown type could panic again.
                std::mem::forget(payload);
                "no message".to_owned()
            }
        },
    }
}

fn poisoned() -> Failure {
    Failure::new(AMS_STATUS_POISONED, "an earlier call on this handle hit a mistake in the library")
        .with_hint("free the handle and make a new one")
}

/// A value many threads may read. A panic while one does so shuts it.
pub(crate) struct Shared<T> {
    value: T,
    poisoned: AtomicBool,
}

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value, poisoned: AtomicBool::new(false) }
    }

    pub(crate) fn enter(&self) -> Result<Entered<'_, T>> {
        if self.poisoned.load(Ordering::Acquire) { Err(poisoned()) } else { Ok(Entered(self)) }
    }
}

/// A look at a [`Shared`] value.
pub(crate) struct Entered<'a, T>(&'a Shared<T>);

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poisoned.store(true, Ordering::Release);
        }
    }
}

/// Takes what one thread at a time may use; says so if another call has it, or a panic has left it broken.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    mutex.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => adaptmedseg_segment::Error::Busy.into(),
        TryLockError::Poisoned(_) => poisoned(),
    })
}
