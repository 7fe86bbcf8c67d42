"""What can go wrong. Every exception carries the library's message, and its hint where there is one."""

from __future__ import annotations

import ctypes as c
from typing import NoReturn, Optional

from . import _native


class AdaptMedSegError(Exception):
    """A call failed.

    Attributes:
        message: what was wrong.
        hint: what to do about it, or None.
        status: the library's name of the failure, such as ``IO``.
    """

    def __init__(self, message: str, hint: Optional[str] = None, status: str = "") -> None:
        super().__init__(message if hint is None else f"{message} ({hint})")
        self.message = message
        self.hint = hint
        self.status = status


class InvalidArgumentError(AdaptMedSegError, ValueError):
    """An argument, a prompt or an option that cannot be used."""


class FileError(AdaptMedSegError, OSError):
    """A file that cannot be read or written."""


class ExistsError(FileError):
    """A file or folder that is there already."""


class FormatError(AdaptMedSegError, ValueError):
    """A file whose content cannot be used."""


class UnsupportedError(AdaptMedSegError):
    """Well-formed, but nothing this version handles."""


class OutOfMemoryError(AdaptMedSegError, MemoryError):
    """Too little memory; nothing has changed."""


class CancelledError(AdaptMedSegError):
    """The call was cancelled; nothing has changed."""


class BusyError(AdaptMedSegError):
    """The session or the training run is in use by another thread, or by a callback."""


class NoMaskError(AdaptMedSegError):
    """Nothing has been segmented yet."""


class InternalError(AdaptMedSegError):
    """A mistake in the library; please report it."""


_CLASSES: dict[int, type[AdaptMedSegError]] = {
    1: InvalidArgumentError,
    2: FileError,
    3: FormatError,
    4: UnsupportedError,
    5: ExistsError,
    6: OutOfMemoryError,
    7: CancelledError,
    8: BusyError,
    11: NoMaskError,
}


def raise_error(status: int, error: c.c_void_p) -> NoReturn:
    """Raises what a status and an ``ams_error`` say; the latter is freed."""
    library = _native.LIBRARY
    name = (library.ams_status_name(status) or b"").decode().replace("AMS_STATUS_", "")
    message, hint = name, None
    if error:
        message = (library.ams_error_message(error) or b"").decode()
        said = library.ams_error_hint(error)
        hint = said.decode() if said else None
        library.ams_error_free(error)
    raise _CLASSES.get(status, InternalError)(message, hint, name)
