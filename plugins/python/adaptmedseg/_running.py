"""Long calls: progress on the caller's thread, Ctrl-C cancels."""

from __future__ import annotations

import ctypes as c
import queue
import threading
from typing import Any, Callable, Optional

from . import _native


class CancelToken(_native.Handle):
    """Asks a running call to stop, from any thread. There is no way back: make a new one for the next call."""

    def __init__(self) -> None:
        super().__init__(_native.new("ams_cancel_new"), "ams_cancel_free")

    def cancel(self) -> None:
        """Asks the calls that were given this token to stop."""
        _native.LIBRARY.ams_cancel_cancel(self.raw)


def run(
    call: Callable[[Callable[[Any], None], c.c_void_p], None],
    progress: Optional[Callable[[Any], None]],
    cancel: Optional[CancelToken],
) -> None:
    """Runs ``call(report, token)`` on a thread of its own and waits for it.

    A Python thread inside a C call sees no signal, so that Ctrl-C would do nothing until the call is over. Here the
    caller's thread stays in Python: it hands what ``report`` is given to ``progress``, and cancels the call when it is
    interrupted or when ``progress`` raises; the exception goes on once the call has ended.
    """
    token = cancel if cancel is not None else CancelToken()
    events: "queue.SimpleQueue[tuple[str, Any]]" = queue.SimpleQueue()

    def work() -> None:
        try:
            call(lambda event: events.put(("progress", event)), token.raw)
            events.put(("done", None))
        except BaseException as error:
            events.put(("done", error))

    worker = threading.Thread(target=work, name="adaptmedseg", daemon=True)
    worker.start()
    interrupted: Optional[BaseException] = None
    while True:
        try:
            kind, event = events.get(timeout=0.1)
            if kind == "done":
                break
            if progress is not None and interrupted is None:
                progress(event)
        except queue.Empty:
            continue
        except BaseException as error:
            interrupted = error
            token.cancel()
    worker.join()
    if cancel is None:
        token.close()
    if interrupted is not None:
        raise interrupted
    if event is not None:
        raise event
