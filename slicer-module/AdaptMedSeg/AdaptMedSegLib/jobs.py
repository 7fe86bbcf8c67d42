"""Long calls on a thread of their own; what they have to say is heard on the main one.

Slicer's main thread keeps Python to itself while it waits for the user: another thread gets its turn only when code of
the main thread lets go. The library computes without Python, so that a run is not slowed down, but each of its reports
waits for such a turn. `poll`, which a timer calls, gives one.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Optional

from . import library

#: How long `poll` lets other threads run, in seconds.
_TURN = 0.003


@dataclass
class Job:
    """A call: `work(progress, cancel)` runs on a thread, the rest on the thread that polls."""

    work: Callable[[Callable[[Any], None], Any], Any]
    on_done: Callable[[Any], None]
    on_error: Callable[[BaseException], None]
    on_progress: Optional[Callable[[Any], None]] = None


class Runner:
    """Runs one job at a time. All of it belongs to one thread, the main one."""

    def __init__(self):
        self._job = None
        self._thread = None
        self._cancel = None
        self._cancel_asked = False
        self._events = queue.SimpleQueue()

    @property
    def busy(self):
        """Whether a job runs whose end has not been heard yet."""
        return self._job is not None

    @property
    def cancelling(self):
        """Whether that job has been asked to stop."""
        return self.busy and self._cancel_asked

    def start(self, job):
        """Starts a job.

        Raises:
            RuntimeError: another one runs.
            LibraryUnavailable: there is no library.
        """
        if self.busy:
            raise RuntimeError("a job is running already")
        self._cancel, self._cancel_asked = library.load().CancelToken(), False
        self._job, self._events = job, queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_run, args=(job.work, self._events, self._cancel), name="AdaptMedSeg", daemon=True
        )
        self._thread.start()

    def cancel(self):
        """Asks the running job to stop; its end is heard as an error."""
        if self._cancel is not None:
            self._cancel_asked = True
            self._cancel.cancel()

    def poll(self):
        """Lets the thread go on, and hands over its news. Returns whether a job still runs."""
        if not self.busy:
            return False
        time.sleep(_TURN)
        while self.busy:
            try:
                kind, value = self._events.get_nowait()
            except queue.Empty:
                break
            self._hear(kind, value)
        return self.busy

    def wait(self, timeout=None):
        """Polls until the job has ended: for scripts, which have no timer. Returns whether it has."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll():
            if end is not None and time.monotonic() > end:
                return False
        return True

    def abandon(self):
        """Asks the job to stop and forgets what it was for: nothing is heard of it any more.

        Nobody waits for it: what it works on belongs to its thread until it ends, at the next window.
        """
        self.cancel()
        self._job = self._thread = self._cancel = None

    def _hear(self, kind, value):
        job = self._job
        if kind == "progress":
            if job.on_progress is not None:
                job.on_progress(value)
            return
        self._thread.join()
        self._cancel.close()
        self._job = self._thread = self._cancel = None
        (job.on_done if kind == "done" else job.on_error)(value)


def _run(work, events, cancel):
    """The thread. It knows no node, no window and no `Runner`."""
    try:
        result = work(lambda news: events.put(("progress", news)), cancel)
    except BaseException as error:  # noqa: BLE001: whatever it is, the main thread hears of it
        events.put(("error", error))
    else:
        events.put(("done", result))
