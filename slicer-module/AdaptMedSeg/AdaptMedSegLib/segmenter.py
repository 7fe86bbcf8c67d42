"""A volume being segmented: runs in the background, undo and redo, and the next segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np

from . import geometry, library, segments
from .jobs import Job, Runner
from .prompts import Prompts


@dataclass(frozen=True)
class Setting:
    """What a run is done with, beside the prompts."""

    model: str = "builtin"
    #: An adapter's folder; none: the model alone.
    adapter: Optional[str] = None
    #: `unknown`, `CT`, `MR`, or the name an adapter knows a modality by.
    modality: str = "unknown"
    task: Optional[str] = None
    #: One of `library.devices()`; none: the best there is.
    device: Optional[str] = None


@dataclass(frozen=True)
class Target:
    """Where the mask is to go."""

    volume: Any
    segmentation: Any
    segment_id: str
    policy: str = segments.OVERWRITE


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    voxels: int
    millilitres: float
    seconds: float
    device: str
    notes: tuple = ()


class Segmenter:
    """Segments one volume after another. All of it belongs to the main thread, which has to call `poll`.

    A run works on a session of the library, which keeps what was computed for the volume, so that a further prompt is
    quick. The session's own undo is followed by the history of prompts here: undo puts both back.
    """

    def __init__(self):
        self.runner = Runner()
        self._models = {}
        self._adapters = {}
        self._session = None
        self._session_of = None
        # Prompts after each run for this segment; the first entry is the segment before any run.
        self._history = [Prompts()]
        self._at = 0

    # Runs

    def start(
        self,
        target: Target,
        prompts: Prompts,
        setting: Setting,
        on_done: Callable[[Outcome], None],
        on_error: Callable[[BaseException], None],
        on_progress: Optional[Callable[[Any], None]] = None,
    ):
        """Starts a run. The mask is written to the target when it has ended, unless the target is gone by then.

        Raises:
            ValueError: no prompts, a volume or a box that cannot be used.
            RuntimeError: another run is going on.
            LibraryUnavailable: there is no library.
        """
        if not prompts:
            raise ValueError("There is no prompt: place a point in the structure, draw a box around it, or name it")
        if self.runner.busy:
            raise RuntimeError("A run is going on: wait for it, or cancel it")
        geometry.check(target.volume)
        loaded = library.load()
        places = prompts.in_voxels(target.volume)
        state = (geometry.state_of(target.volume), setting.model, setting.device)
        image = None
        if state != self._session_of:
            image = geometry.image_of(target.volume, loaded)
            self._forget_session()
        session = self._session
        self.runner.start(
            Job(
                lambda progress, cancel: self._work(loaded, session, image, prompts, places, setting, progress, cancel),
                lambda found: self._finish(found, state, target, prompts, on_done, on_error),
                on_error,
                on_progress,
            )
        )

    def poll(self):
        """Hears what a run has to say. Returns whether one is still going on."""
        return self.runner.poll()

    def cancel(self):
        """Asks the run to stop; nothing has changed then."""
        self.runner.cancel()

    def _work(self, loaded, session, image, prompts, places, setting, progress, cancel):
        """On the job's thread, and the only one to use models and the session while it runs."""
        model = self._model(loaded, setting)
        if session is None:
            session = model.session(image)
            image.close()
        prompts.apply(session, places)
        session.set_adapter(self._adapter(model, setting))
        known = setting.modality.lower() in ("unknown", "ct", "mr")
        session.set_modality(setting.modality if known else "unknown")
        session.set_modality_prior(None if setting.modality.lower() == "unknown" else setting.modality)
        session.set_task(setting.task or None)
        mask = session.segment(progress=progress, cancel=cancel)
        report = session.report()
        return session, mask, Outcome(
            session.voxels, session.volume_ml, report["seconds"]["total"], model.describe()["device"],
            tuple(report["notes"]),
        )

    def _model(self, loaded, setting):
        key = (setting.model, setting.device)
        if key not in self._models:
            # One at a time: a full-size model is most of a gigabyte.
            self._models.clear()
            self._adapters.clear()
            self._models[key] = loaded.Model(setting.model, device=setting.device)
        return self._models[key]

    def _adapter(self, model, setting):
        if not setting.adapter:
            return None
        if setting.adapter not in self._adapters:
            self._adapters[setting.adapter] = model.adapter(setting.adapter)
        return self._adapters[setting.adapter]

    def model(self, setting):
        """The opened model of a setting, if a run has opened it: for what is to share it."""
        return self._models.get((setting.model, setting.device))

    def _finish(self, found, state, target, prompts, on_done, on_error):
        session, mask, outcome = found
        self._session, self._session_of = session, state
        self._history[self._at + 1 :] = [prompts]
        self._at += 1
        try:
            self._write(target, mask)
        except Exception as error:  # the scene has changed meanwhile
            on_error(error)
        else:
            on_done(outcome)

    # The segment

    def _write(self, target, mask):
        """Writes a mask where it belongs, if that is still there."""
        if not _in_scene(target.volume) or not _in_scene(target.segmentation):
            raise RuntimeError("The volume or the segmentation was removed while it was being segmented")
        if geometry.state_of(target.volume)[2] != self._session_of[0][2]:
            raise RuntimeError("The volume's grid was changed while it was being segmented: segment again")
        if not segments.exists(target.segmentation, target.segment_id):
            raise RuntimeError("The segment was removed while it was being segmented")
        if target.policy == segments.KEEP:
            mask = segments.spare_others(target.segmentation, target.segment_id, mask, target.volume)
        segments.write(target.segmentation, target.segment_id, mask, target.volume)

    @property
    def can_undo(self):
        """Whether there is a run for this segment to take back."""
        return not self.runner.busy and self._at > 0

    @property
    def can_redo(self):
        """Whether there is an undo to take back."""
        return not self.runner.busy and self._at + 1 < len(self._history)

    def undo(self, target):
        """Takes back the last run for this segment: mask and prompts. Returns the prompts, to be shown again."""
        return self._step(target, -1) if self.can_undo else None

    def redo(self, target):
        """Takes back an undo. Returns the prompts."""
        return self._step(target, 1) if self.can_redo else None

    def _step(self, target, by):
        if by < 0:
            self._session.undo()
        else:
            self._session.redo()
        self._at += by
        # Before the first run of this segment the session may still hold the mask of the segment before.
        mask = self._session.mask() if self._at > 0 else np.zeros(self._session.shape, dtype=np.uint8)
        self._write(target, mask)
        return self._history[self._at]

    def next_segment(self, target):
        """Finishes the segment: other segments give way to it if they are to, and undo begins anew."""
        if target is not None and target.policy == segments.OVERWRITE and self._at > 0:
            segments.take_from_others(target.segmentation, target.segment_id, target.volume)
        self._history, self._at = [Prompts()], 0

    # The end

    def memory(self):
        """Bytes that a run on the current session needs; None before the first."""
        return None if self._session is None or self.runner.busy else self._session.estimate_memory().total

    def _forget_session(self):
        self._session = self._session_of = None
        self._history, self._at = [Prompts()], 0

    def reset(self):
        """Stops what runs and forgets the volume, as when the scene is closed. Models stay open."""
        self.runner.abandon()
        self._forget_session()

    def close(self):
        """Gives everything back."""
        self.reset()
        self._models, self._adapters = {}, {}


def _in_scene(node):
    return node is not None and node.GetScene() is not None
