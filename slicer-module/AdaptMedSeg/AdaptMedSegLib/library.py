"""The package `adaptmedseg`, loaded when it is first needed: opening the module costs nothing, and works without it."""

from __future__ import annotations


class LibraryUnavailable(RuntimeError):
    """The native library is not there, or does not fit this computer."""


def load():
    """The package `adaptmedseg`.

    Raises:
        LibraryUnavailable: it cannot be imported; the message says what to do.
    """
    try:
        import adaptmedseg
    except ImportError as error:
        raise LibraryUnavailable(
            f"The AdaptMedSeg library cannot be loaded: {error}\n"
            "It is part of the extension: install the extension again, or install the Python package `adaptmedseg`."
        ) from error
    return adaptmedseg


def devices():
    """Devices a model can run on: dictionaries with `name` and `description`."""
    return load().devices()


def explain(error):
    """An exception as a person should read it: what was wrong, and what to do."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    hint = getattr(error, "hint", None)
    return f"{message}\n{hint}" if hint else message
