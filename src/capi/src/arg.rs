//! Arguments from C, checked for NULL, length and text, each named in the message.

use crate::error::{Failure, Result};
use crate::status::AMS_STATUS_UNSUPPORTED;
use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::path::PathBuf;
use std::ptr;

fn null(name: &str) -> Failure {
    Failure::argument(format!("{name} is NULL"))
}

/// A pointer that must not be NULL, to read.
///
/// # Safety
/// `pointer` is NULL or points to a live `T` for `'a`.
pub(crate) unsafe fn get<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: by contract.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// A place for a result, not yet written to.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub(crate) fn set(self, value: T) {
        // SAFETY: `out` saw that it is not NULL; its caller vouched for the rest.
        unsafe { self.0.write(value) }
    }
}

/// A pointer that must not be NULL, for a result.
///
/// # Safety
/// `pointer` is NULL or can be written to until the result is set.
pub(crate) unsafe fn out<T>(pointer: *mut T, name: &str) -> Result<Out<T>> {
    if pointer.is_null() { Err(null(name)) } else { Ok(Out(pointer)) }
}

/// `N` numbers, copied.
///
/// # Safety
/// `pointer` is NULL or points to `N` readable elements.
pub(crate) unsafe fn array<const N: usize, T: Copy>(pointer: *const T, name: &str) -> Result<[T; N]> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: not NULL, so it points to N elements.
    Ok(unsafe { pointer.cast::<[T; N]>().read_unaligned() })
}

/// `count` elements.
///
/// # Safety
/// `pointer` is NULL or points to `count` readable elements that nobody changes for `'a`.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if pointer.is_null() {
        return Err(null(name));
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::argument(format!("{name}: {count} elements are more than memory can hold")));
    }
    // SAFETY: not NULL, and small enough to exist; by contract it does.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Text that may be absent.
///
/// # Safety
/// `pointer` is NULL or points to a string that ends in NUL and that nobody changes for `'a`.
pub(crate) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so it is a string.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map(Some).map_err(|_| Failure::argument(format!("{name} is not UTF-8")))
}

/// A path: UTF-8, not empty.
///
/// # Safety
/// As [`optional_text`].
pub(crate) unsafe fn path(pointer: *const c_char, name: &str) -> Result<PathBuf> {
    // SAFETY: by contract.
    let text = unsafe { optional_text(pointer, name) }?.ok_or_else(|| null(name))?;
    if text.is_empty() { Err(Failure::argument(format!("{name} is empty"))) } else { Ok(text.into()) }
}

/// A structure of the header that starts with its size and may grow at its end.
///
/// # Safety
/// `repr(C)`, the first field is `struct_size: usize`, and all zeros is a value.
pub(crate) unsafe trait Growing: Copy {
    /// Its name in the header.
    const NAME: &'static str;
    /// Its size in the first version that had it.
    const FIRST_SIZE: usize;
}

/// No structure of this interface will be larger: a larger number is not a size.
const LARGEST: usize = 4096;

/// The size a caller gave a structure.
///
/// # Safety
/// `pointer` is NULL or points to a structure that is as large as its first field says.
unsafe fn struct_size<T: Growing>(pointer: *const T, name: &str) -> Result<usize> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: not NULL, and the first field is the size.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    if (T::FIRST_SIZE..=LARGEST).contains(&size) {
        return Ok(size);
    }
    Err(Failure::argument(format!("{name}->struct_size is {size}")).with_hint(format!(
        "set it to sizeof({}), {} in this version",
        T::NAME,
        size_of::<T>()
    )))
}

/// A structure of options; fields an older caller does not have are zero.
///
/// # Safety
/// As [`struct_size`].
pub(crate) unsafe fn options<T: Growing>(pointer: *const T, name: &str) -> Result<T> {
    // SAFETY: by contract.
    let size = unsafe { struct_size(pointer, name) }?;
    let (known, bytes) = (size.min(size_of::<T>()), pointer.cast::<u8>());
    for index in known..size {
        // SAFETY: within the size the caller gave.
        if unsafe { bytes.add(index).read() } != 0 {
            let message = format!("{name} has fields that this version does not know");
            return Err(Failure::new(AMS_STATUS_UNSUPPORTED, message).with_hint("install a newer libadaptmedseg"));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both are at least `known` bytes long, and apart; zeros are a value where nothing is copied.
    unsafe {
        ptr::copy_nonoverlapping(bytes, value.as_mut_ptr().cast::<u8>(), known);
        Ok(value.assume_init())
    }
}

/// A structure for results; fields an older caller does not have are left out.
///
/// # Safety
/// As [`struct_size`], and it can be written to.
pub(crate) unsafe fn result<T: Growing>(pointer: *mut T, name: &str, value: &T) -> Result<()> {
    // SAFETY: by contract.
    let size = unsafe { struct_size(pointer.cast_const(), name) }?;
    let (from, skip) = (ptr::from_ref(value).cast::<u8>(), size_of::<usize>());
    let count = size.min(size_of::<T>()) - skip;
    // SAFETY: both are at least that long, and apart; the size the caller gave stays.
    unsafe { ptr::copy_nonoverlapping(from.add(skip), pointer.cast::<u8>().add(skip), count) };
    Ok(())
}
