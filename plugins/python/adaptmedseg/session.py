"""A model looking at one image."""

from __future__ import annotations

import ctypes as c
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from . import _native, _running
from .image import Image
from .model import Adapter, Model

_SPACES = {"ijk": 1, "lps": 2, "ras": 3}
_MODES = {"default": 0, "reference": 1}
_MODALITIES = {"unknown": 0, "ct": 1, "mr": 2}


@dataclass(frozen=True)
class Progress:
    """How far a run has come: its stage, parts done and in all, and the share of the whole, from 0 to 1."""

    stage: str
    done: int
    total: int
    fraction: float


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes a run will need."""

    weights: int
    working: int
    cache: int
    total: int


def as_image(image: Any) -> Image:
    """An :class:`Image` of an image, a NumPy array ``(k, j, i)``, a SimpleITK or a nibabel image, or a file's name."""
    if isinstance(image, Image):
        return image
    if isinstance(image, (str, Path)):
        return Image.read(image)
    if hasattr(image, "GetSpacing") and hasattr(image, "GetDirection"):
        return Image.from_sitk(image)
    if hasattr(image, "affine") and hasattr(image, "dataobj"):
        return Image.from_nibabel(image)
    return Image.from_array(image)


def _vector(values: Sequence[float]) -> Any:
    if len(values) != 3:
        raise ValueError(f"{list(values)} has {len(values)} coordinates, not 3")
    return (c.c_double * 3)(*(float(value) for value in values))


class Session(_native.Handle):
    """Prompts, encoded windows, the mask, undo. It belongs to one thread at a time.

    Coordinates are voxel indices ``(i, j, k)``, fastest axis first, unless ``space`` says ``"lps"`` or ``"ras"``
    millimetres. Masks are arrays ``(k, j, i)`` on the image's own grid.
    """

    def __init__(self, model: Model, image: Any) -> None:
        opened = as_image(image)
        try:
            handle = _native.new("ams_session_new", model.raw, opened.raw)
            self._shape = opened.shape
        finally:
            if opened is not image:
                opened.close()
        super().__init__(handle, "ams_session_free")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the masks: (k, j, i)."""
        return self._shape

    def set_text(self, text: Optional[str]) -> None:
        """Names the structure, or forgets its name."""
        _native.check("ams_session_set_text", self.raw, _native.encoded(text))

    def add_point(self, position: Sequence[float], *, positive: bool = True, space: str = "ijk") -> None:
        """Adds a point in the structure, or with ``positive=False`` one outside it."""
        place = _native.choice("space", _SPACES, space)
        _native.check("ams_session_add_point", self.raw, _vector(position), place, int(positive))

    def set_box(self, first: Sequence[float], second: Sequence[float], *, space: str = "ijk") -> None:
        """Sets the box to that between two opposite corners; in voxels the first is the lower one."""
        place = _native.choice("space", _SPACES, space)
        _native.check("ams_session_set_box", self.raw, _vector(first), _vector(second), place)

    def set_box_from_mask(self, mask: npt.ArrayLike) -> None:
        """Sets the box to that of a mask ``(k, j, i)`` on the image's grid."""
        voxels = self._mask(mask)
        _native.check("ams_session_set_box_from_mask", self.raw, voxels.ctypes.data, voxels.size)

    def _mask(self, mask: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        voxels = np.asarray(mask)
        if voxels.shape != self._shape:
            raise ValueError(f"the mask has shape {voxels.shape}, the image {self._shape}")
        return np.ascontiguousarray(voxels != 0).view(np.uint8)

    def clear_points(self) -> None:
        """Forgets all points."""
        _native.check("ams_session_clear_points", self.raw)

    def clear_box(self) -> None:
        """Forgets the box."""
        _native.check("ams_session_clear_box", self.raw)

    def clear_prompts(self) -> None:
        """Forgets all prompts."""
        _native.check("ams_session_clear_prompts", self.raw)

    def set_mode(self, mode: str) -> None:
        """``"default"``, or ``"reference"``: the original's behaviour, mistakes included."""
        _native.check("ams_session_set_mode", self.raw, _native.choice("mode", _MODES, mode))

    def set_modality(self, modality: str) -> None:
        """``"ct"``, ``"mr"`` or ``"unknown"``: which tokens the context prior of an adapter takes."""
        _native.check("ams_session_set_modality", self.raw, _native.choice("modality", _MODALITIES, modality))

    def set_modality_prior(self, modality: Optional[str]) -> None:
        """Names the modality's tokens where :meth:`set_modality` is too coarse."""
        _native.check("ams_session_set_modality_prior", self.raw, _native.encoded(modality))

    def set_adapter(self, adapter: Optional[Adapter]) -> None:
        """Uses an adapter, or none: then the model is the base, bit for bit."""
        _native.check("ams_session_set_adapter", self.raw, None if adapter is None else adapter.raw)

    def set_task(self, task: Optional[str]) -> None:
        """Says what is looked for, for the context prior of an adapter."""
        _native.check("ams_session_set_task", self.raw, _native.encoded(task))

    def segment(
        self,
        *,
        progress: Optional[Callable[[Progress], None]] = None,
        cancel: Optional[_running.CancelToken] = None,
    ) -> npt.NDArray[np.uint8]:
        """Segments with the prompts there are; the mask, 1 in the structure.

        Other Python threads run meanwhile. ``progress`` is called on this thread; Ctrl-C, an exception in ``progress`` or
        ``cancel`` end the run, and nothing has changed then.

        Raises:
            InvalidArgumentError: no prompt.
            CancelledError: cancelled by ``cancel``.
            OutOfMemoryError: too little memory.
        """

        def call(report: Callable[[Any], None], token: c.c_void_p) -> None:
            def seen(pointer: Any, _: Any) -> None:
                now = pointer.contents
                report(Progress((now.stage_name or b"").decode(), now.done, now.total, now.fraction))

            _native.check("ams_session_segment", self.raw, _native.PROGRESS_CALLBACK(seen), None, token)

        _running.run(call, progress, cancel)
        return self.mask()

    def mask(self, label: int = 1) -> npt.NDArray[np.uint8]:
        """The current mask ``(k, j, i)``: ``label`` in the structure, 0 elsewhere.

        Raises:
            NoMaskError: nothing has been segmented.
        """
        out = np.empty(self._shape, dtype=np.uint8)
        _native.check("ams_session_mask_read", self.raw, out.ctypes.data, out.size, label)
        return out

    def probabilities(self) -> npt.NDArray[np.float32]:
        """How sure the network is of each voxel, from 0 to 1."""
        out = np.empty(self._shape, dtype=np.float32)
        _native.check("ams_session_probabilities", self.raw, out.ctypes.data, out.size)
        return out

    def write_mask(self, path: Union[str, Path], *, overwrite: bool = False) -> None:
        """Writes the mask to a NIfTI or MetaImage file, whole or not at all."""
        _native.check("ams_session_mask_write", self.raw, str(path).encode(), int(overwrite))

    @property
    def voxels(self) -> int:
        """Voxels in the mask."""
        out = c.c_uint64()
        _native.check("ams_session_mask_voxels", self.raw, c.byref(out))
        return out.value

    @property
    def volume_ml(self) -> float:
        """Volume of the mask in millilitres."""
        out = c.c_double()
        _native.check("ams_session_mask_volume_ml", self.raw, c.byref(out))
        return out.value

    def report(self) -> dict[str, Any]:
        """How the mask came about: prompts, windows, times, notes."""
        report: dict[str, Any] = json.loads(_native.text("ams_session_report", self.raw))
        return report

    def undo(self) -> bool:
        """Goes back to the segmentation before, prompts and mask together. False if there is none."""
        return self._changed("ams_session_undo")

    def redo(self) -> bool:
        """Takes back an :meth:`undo`. False if there is none."""
        return self._changed("ams_session_redo")

    @property
    def can_undo(self) -> bool:
        """Whether there is a state to go back to."""
        return self._changed("ams_session_can_undo")

    @property
    def can_redo(self) -> bool:
        """Whether there is an undo to take back."""
        return self._changed("ams_session_can_redo")

    def _changed(self, name: str) -> bool:
        out = c.c_bool()
        _native.check(name, self.raw, c.byref(out))
        return out.value

    def estimate_memory(self) -> MemoryEstimate:
        """Memory that a run will need."""
        out = _native.MemoryEstimate()
        out.struct_size = c.sizeof(out)
        _native.check("ams_session_estimate_memory", self.raw, c.byref(out))
        return MemoryEstimate(out.weights, out.working, out.cache, out.total)

    @property
    def replaced_voxels(self) -> int:
        """Voxels of the image that were not finite and have been replaced."""
        out = c.c_uint64()
        _native.check("ams_session_replaced_voxels", self.raw, c.byref(out))
        return out.value
