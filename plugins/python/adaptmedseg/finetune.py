"""Learning from masks."""

from __future__ import annotations

import ctypes as c
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np
import numpy.typing as npt

from . import _native, _running
from .model import Adapter, Model
from .session import as_image

_METHODS = {"lora": 0, "prior": 1, "lora+prior": 2}
_PRIORS = {"hermes": 0, "additive": 1}
_LOSSES = {"segvol": 0, "adaptive-dice": 1, "volume": 2}
_STARTS = {"new": 0, "overwrite": 1, "resume": 2}


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run has come; loss and Dice of the last validation, NaN before there is one."""

    step: int
    total: int
    loss: float
    seconds_left: float
    validation_loss: float
    validation_dice: float


@dataclass(frozen=True)
class TrainingOptions:
    """How a run is to go. None, or 0 where there is a number, is the library's own choice."""

    method: str = "lora"
    prior_variant: str = "hermes"
    loss: str = "segvol"
    start: str = "new"
    rank: int = 0
    alpha: float = 0.0
    accumulation: int = 0
    learning_rate: float = 0.0
    steps: int = 0
    validate_every: int = 0
    patience: int = 0
    seed: int = 0
    checkpointing: bool = True
    all_decoder_layers: bool = False
    freeze_encoder: bool = False
    from_adapter: Optional[Union[str, Path]] = None
    name: Optional[str] = None
    license: Optional[str] = None


class FineTune(_native.Handle):
    """A training run of an adapter: pairs of image and mask, then :meth:`run`."""

    def __init__(self, model: Model) -> None:
        super().__init__(_native.new("ams_finetune_new", model.raw), "ams_finetune_free")

    def add_pair(
        self,
        image: Any,
        mask: npt.ArrayLike,
        *,
        label: Optional[str] = None,
        task: Optional[str] = None,
        modality: Optional[str] = None,
        subject: Optional[str] = None,
    ) -> None:
        """Adds an image (as :func:`as_image` takes it) and the mask ``(k, j, i)`` of one structure in it.

        Args:
            label: what the structure is called in text prompts.
            task: the task of context priors; none: the label.
            modality: the modality of context priors, such as ``"MR"``.
            subject: who was scanned; pairs of one subject are never on both sides of a split.
        """
        opened = as_image(image)
        try:
            voxels = np.asarray(mask)
            if voxels.shape != opened.shape:
                raise ValueError(f"the mask has shape {voxels.shape}, the image {opened.shape}")
            inside = np.ascontiguousarray(voxels != 0).view(np.uint8)
            said = [_native.encoded(text) for text in (label, task, modality, subject)]
            _native.check("ams_finetune_add_pair", self.raw, opened.raw, inside.ctypes.data, inside.size, *said)
        finally:
            if opened is not image:
                opened.close()

    def add_data(self, path: Union[str, Path]) -> None:
        """Adds the pairs of a ``pairs.json``, or of a folder that holds one."""
        _native.check("ams_finetune_add_data", self.raw, str(path).encode())

    def run(
        self,
        path: Union[str, Path],
        options: Optional[TrainingOptions] = None,
        *,
        progress: Optional[Callable[[TrainingProgress], None]] = None,
        cancel: Optional[_running.CancelToken] = None,
    ) -> Adapter:
        """Trains, and writes the adapter's folder to ``path``; the adapter, opened.

        Cancelled by Ctrl-C, ``cancel`` or an exception in ``progress``, it leaves a state beside ``path`` that
        ``TrainingOptions(start="resume")`` goes on from.
        """
        chosen = options if options is not None else TrainingOptions()
        given = _native.FinetuneOptions()
        given.struct_size = c.sizeof(given)
        given.method = _native.choice("method", _METHODS, chosen.method)
        given.prior_variant = _native.choice("prior", _PRIORS, chosen.prior_variant)
        given.loss = _native.choice("loss", _LOSSES, chosen.loss)
        given.start = _native.choice("start", _STARTS, chosen.start)
        for name in ("rank", "alpha", "accumulation", "learning_rate", "steps", "validate_every", "patience", "seed"):
            setattr(given, name, getattr(chosen, name))
        given.no_checkpointing = int(not chosen.checkpointing)
        given.all_decoder_layers = int(chosen.all_decoder_layers)
        given.freeze_encoder = int(chosen.freeze_encoder)
        given.from_ = None if chosen.from_adapter is None else str(chosen.from_adapter).encode()
        given.name = _native.encoded(chosen.name)
        given.license = _native.encoded(chosen.license)
        made = c.c_void_p()

        def call(report: Callable[[Any], None], token: c.c_void_p) -> None:
            def seen(pointer: Any, _: Any) -> None:
                now = pointer.contents
                report(
                    TrainingProgress(
                        now.step, now.total, now.loss, now.seconds_left, now.validation_loss, now.validation_dice
                    )
                )

            arguments = (str(path).encode(), c.byref(given), _native.FINETUNE_CALLBACK(seen), None, token, c.byref(made))
            _native.check("ams_finetune_run", self.raw, *arguments)

        _running.run(call, progress, cancel)
        return Adapter(made)

    def report(self) -> dict[str, Any]:
        """What the last run came to: losses and Dice before and after."""
        report: dict[str, Any] = json.loads(_native.text("ams_finetune_report", self.raw))
        return report
