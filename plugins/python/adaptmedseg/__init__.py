"""Promptable segmentation of 3-D medical images: points, boxes and names to masks, on the image's own grid.

    import adaptmedseg

    with adaptmedseg.Model("builtin") as model, model.session("ct.nii.gz") as session:
        session.set_box((20, 30, 20), (50, 60, 45))
        mask = session.segment()

The library is native and needs only NumPy. The built-in model is a demonstration, not for clinical use.
"""

from ._native import LIBRARY as _library
from ._running import CancelToken
from .errors import (
    AdaptMedSegError,
    BusyError,
    CancelledError,
    ExistsError,
    FileError,
    FormatError,
    InternalError,
    InvalidArgumentError,
    NoMaskError,
    OutOfMemoryError,
    UnsupportedError,
)
from .finetune import FineTune, TrainingOptions, TrainingProgress
from .image import Image
from .model import Adapter, Model, devices
from .session import MemoryEstimate, Progress, Session, as_image

__version__: str = (_library.ams_version() or b"").decode()

__all__ = [
    "AdaptMedSegError",
    "Adapter",
    "BusyError",
    "CancelToken",
    "CancelledError",
    "ExistsError",
    "FileError",
    "FineTune",
    "FormatError",
    "Image",
    "InternalError",
    "InvalidArgumentError",
    "MemoryEstimate",
    "Model",
    "NoMaskError",
    "OutOfMemoryError",
    "Progress",
    "Session",
    "TrainingOptions",
    "TrainingProgress",
    "UnsupportedError",
    "as_image",
    "devices",
]
