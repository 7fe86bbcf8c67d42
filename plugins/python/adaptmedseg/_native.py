"""The C ABI of the library: what `adaptmedseg.h` declares, for ctypes. Nothing here is public."""

from __future__ import annotations

import ctypes as c
import os
import sys
from pathlib import Path
from typing import Any, Callable, Optional

# The version of the ABI this package was written for; the library says which one it has.
ABI_VERSION = 0

SCALAR_TYPES = {
    "uint8": 1,
    "int8": 2,
    "uint16": 3,
    "int16": 4,
    "uint32": 5,
    "int32": 6,
    "uint64": 7,
    "int64": 8,
    "float32": 9,
    "float64": 10,
}


class FinetuneOptions(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("method", c.c_int32),
        ("prior_variant", c.c_int32),
        ("loss", c.c_int32),
        ("start", c.c_int32),
        ("rank", c.c_uint32),
        ("accumulation", c.c_uint32),
        ("alpha", c.c_double),
        ("learning_rate", c.c_double),
        ("steps", c.c_uint64),
        ("validate_every", c.c_uint64),
        ("patience", c.c_uint64),
        ("seed", c.c_uint64),
        ("no_checkpointing", c.c_int32),
        ("all_decoder_layers", c.c_int32),
        ("freeze_encoder", c.c_int32),
        ("from_", c.c_char_p),
        ("name", c.c_char_p),
        ("license", c.c_char_p),
    ]


class FinetuneProgress(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("step", c.c_uint64),
        ("total", c.c_uint64),
        ("loss", c.c_double),
        ("seconds_left", c.c_double),
        ("validation_loss", c.c_double),
        ("validation_dice", c.c_double),
        ("validation_json", c.c_char_p),
    ]


class ImageDesc(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("data", c.c_void_p),
        ("scalar_type", c.c_int32),
        ("size", c.c_size_t * 3),
        ("strides", c.c_ssize_t * 3),
        ("spacing", c.c_double * 3),
        ("origin", c.c_double * 3),
        ("direction", c.c_double * 9),
    ]


LOG_CALLBACK = c.CFUNCTYPE(None, c.c_int32, c.c_char_p, c.c_void_p)


class ModelOptions(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("device", c.c_char_p),
        ("threads", c.c_uint32),
        ("log_level", c.c_int32),
        ("log_callback", LOG_CALLBACK),
        ("log_user_data", c.c_void_p),
        ("precision", c.c_int32),
        ("plugin", c.c_char_p),
    ]


class Progress(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("stage", c.c_int32),
        ("done", c.c_uint64),
        ("total", c.c_uint64),
        ("fraction", c.c_double),
        ("stage_name", c.c_char_p),
    ]


class MemoryEstimate(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("weights", c.c_uint64),
        ("working", c.c_uint64),
        ("cache", c.c_uint64),
        ("total", c.c_uint64),
    ]


PROGRESS_CALLBACK = c.CFUNCTYPE(None, c.POINTER(Progress), c.c_void_p)
FINETUNE_CALLBACK = c.CFUNCTYPE(None, c.POINTER(FinetuneProgress), c.c_void_p)

_HANDLE = c.c_void_p
_OUT = c.POINTER(c.c_void_p)
_STRING_OUT = c.POINTER(c.c_void_p)
_DOUBLES = c.POINTER(c.c_double)

# Arguments of the functions that return a status; the last, `ams_error **`, is left out.
_FALLIBLE: dict[str, list[Any]] = {
    "ams_adapter_open": [_HANDLE, c.c_char_p, c.c_int32, _OUT],
    "ams_adapter_describe": [_HANDLE, _STRING_OUT],
    "ams_session_set_adapter": [_HANDLE, _HANDLE],
    "ams_session_set_task": [_HANDLE, c.c_char_p],
    "ams_session_set_modality_prior": [_HANDLE, c.c_char_p],
    "ams_cancel_new": [_OUT],
    "ams_device_count": [c.POINTER(c.c_size_t)],
    "ams_device_describe": [c.c_size_t, _STRING_OUT],
    "ams_finetune_new": [_HANDLE, _OUT],
    "ams_finetune_add_pair": [_HANDLE, _HANDLE, c.c_void_p, c.c_size_t, c.c_char_p, c.c_char_p, c.c_char_p, c.c_char_p],
    "ams_finetune_add_data": [_HANDLE, c.c_char_p],
    "ams_finetune_run": [
        _HANDLE, c.c_char_p, c.POINTER(FinetuneOptions), FINETUNE_CALLBACK, c.c_void_p, _HANDLE, _OUT,
    ],
    "ams_finetune_report": [_HANDLE, _STRING_OUT],
    "ams_image_from_buffer": [c.POINTER(ImageDesc), _OUT],
    "ams_image_read": [c.c_char_p, c.c_int32, _OUT],
    "ams_image_size": [_HANDLE, c.POINTER(c.c_size_t)],
    "ams_image_spacing": [_HANDLE, _DOUBLES],
    "ams_image_origin": [_HANDLE, _DOUBLES],
    "ams_image_direction": [_HANDLE, _DOUBLES],
    "ams_session_mask_read": [_HANDLE, c.c_void_p, c.c_size_t, c.c_uint8],
    "ams_session_probabilities": [_HANDLE, c.c_void_p, c.c_size_t],
    "ams_session_mask_write": [_HANDLE, c.c_char_p, c.c_int32],
    "ams_session_mask_voxels": [_HANDLE, c.POINTER(c.c_uint64)],
    "ams_session_mask_volume_ml": [_HANDLE, _DOUBLES],
    "ams_session_report": [_HANDLE, _STRING_OUT],
    "ams_model_open": [c.c_char_p, c.POINTER(ModelOptions), _OUT],
    "ams_model_describe": [_HANDLE, _STRING_OUT],
    "ams_session_set_text": [_HANDLE, c.c_char_p],
    "ams_session_add_point": [_HANDLE, _DOUBLES, c.c_int32, c.c_int32],
    "ams_session_clear_points": [_HANDLE],
    "ams_session_set_box": [_HANDLE, _DOUBLES, _DOUBLES, c.c_int32],
    "ams_session_set_box_from_mask": [_HANDLE, c.c_void_p, c.c_size_t],
    "ams_session_clear_box": [_HANDLE],
    "ams_session_clear_prompts": [_HANDLE],
    "ams_session_new": [_HANDLE, _HANDLE, _OUT],
    "ams_session_set_mode": [_HANDLE, c.c_int32],
    "ams_session_set_modality": [_HANDLE, c.c_int32],
    "ams_session_segment": [_HANDLE, PROGRESS_CALLBACK, c.c_void_p, _HANDLE],
    "ams_session_undo": [_HANDLE, c.POINTER(c.c_bool)],
    "ams_session_redo": [_HANDLE, c.POINTER(c.c_bool)],
    "ams_session_can_undo": [_HANDLE, c.POINTER(c.c_bool)],
    "ams_session_can_redo": [_HANDLE, c.POINTER(c.c_bool)],
    "ams_session_estimate_memory": [_HANDLE, c.POINTER(MemoryEstimate)],
    "ams_session_replaced_voxels": [_HANDLE, c.POINTER(c.c_uint64)],
}

# Those that cannot fail: arguments and result.
_INFALLIBLE: dict[str, tuple[list[Any], Any]] = {
    "ams_adapter_free": ([_HANDLE], None),
    "ams_cancel_cancel": ([_HANDLE], None),
    "ams_cancel_free": ([_HANDLE], None),
    "ams_error_code": ([_HANDLE], c.c_int32),
    "ams_error_message": ([_HANDLE], c.c_char_p),
    "ams_error_hint": ([_HANDLE], c.c_char_p),
    "ams_error_free": ([_HANDLE], None),
    "ams_finetune_free": ([_HANDLE], None),
    "ams_image_free": ([_HANDLE], None),
    "ams_model_free": ([_HANDLE], None),
    "ams_session_free": ([_HANDLE], None),
    "ams_status_name": ([c.c_int32], c.c_char_p),
    "ams_string_free": ([c.c_void_p], None),
    "ams_version": ([], c.c_char_p),
    "ams_abi_version": ([], c.c_uint32),
}


def _file_name() -> str:
    if sys.platform == "win32":
        return "adaptmedseg.dll"
    return "libadaptmedseg.dylib" if sys.platform == "darwin" else "libadaptmedseg.so"


def _load() -> c.CDLL:
    """The library named by ADAPTMEDSEG_LIBRARY, else the one in this package."""
    path = os.environ.get("ADAPTMEDSEG_LIBRARY") or str(Path(__file__).parent / _file_name())
    try:
        library = c.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"libadaptmedseg cannot be loaded: {error}. Install the package again, or set ADAPTMEDSEG_LIBRARY to the "
            f"library's file."
        ) from error
    for name, (arguments, result) in _INFALLIBLE.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    found = library.ams_abi_version()
    if found != ABI_VERSION:
        raise ImportError(f"{path} has ABI version {found}, this package wants {ABI_VERSION}: install the two together")
    for name, arguments in _FALLIBLE.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [*arguments, _OUT], c.c_int32
    return library


LIBRARY = _load()


def check(name: str, *arguments: Any) -> None:
    """Calls a function that can fail; raises what it says."""
    from .errors import raise_error

    error = c.c_void_p()
    status = getattr(LIBRARY, name)(*arguments, c.byref(error))
    if status != 0:
        raise_error(status, error)


def new(name: str, *arguments: Any) -> c.c_void_p:
    """Calls a function that makes a handle."""
    handle = c.c_void_p()
    check(name, *arguments, c.byref(handle))
    return handle


def text(name: str, *arguments: Any) -> str:
    """Calls a function that makes a string."""
    string = c.c_void_p()
    check(name, *arguments, c.byref(string))
    try:
        return (c.cast(string, c.c_char_p).value or b"").decode()
    finally:
        LIBRARY.ams_string_free(string)


def encoded(value: Optional[str]) -> Optional[bytes]:
    """UTF-8 for the library; None stays None."""
    return None if value is None else value.encode()


def choice(what: str, known: dict[str, int], name: str) -> int:
    """The number of a name."""
    try:
        return known[name.lower()]
    except KeyError:
        raise ValueError(f"unknown {what} {name!r}: one of {', '.join(known)}") from None


class Handle:
    """Owns something of the library's until it is closed, or forgotten."""

    _free: Callable[[c.c_void_p], None]

    def __init__(self, handle: c.c_void_p, free: str) -> None:
        self._handle: Optional[c.c_void_p] = handle
        self._free = getattr(LIBRARY, free)

    @property
    def raw(self) -> c.c_void_p:
        if self._handle is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._handle

    def close(self) -> None:
        """Gives back what it holds. Closing twice is allowed."""
        handle, self._handle = getattr(self, "_handle", None), None
        if handle is not None:
            self._free(handle)

    def __enter__(self) -> Any:
        self.raw
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
