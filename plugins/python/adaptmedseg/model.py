"""Models, the devices they run on, and adapters beside them."""

from __future__ import annotations

import ctypes as c
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _native
from .image import Image

if TYPE_CHECKING:
    from .session import Session

_PRECISIONS = {"f32": 0, "bf16": 1, "f16": 2}


def devices() -> list[dict[str, Any]]:
    """The devices that models can be opened on: name, description, memory."""
    count = c.c_size_t()
    _native.check("ams_device_count", c.byref(count))
    return [json.loads(_native.text("ams_device_describe", index)) for index in range(count.value)]


class Model(_native.Handle):
    """A loaded network. It never changes: any number of threads may use it at the same time."""

    def __init__(
        self,
        path: Union[str, Path] = "builtin",
        *,
        device: Optional[str] = None,
        threads: Optional[int] = None,
        precision: str = "f32",
        plugin: Optional[Union[str, Path]] = None,
    ) -> None:
        """Opens a model folder, or the library's own model.

        Args:
            path: a model folder, or ``"builtin"``: a small demonstration model, not for clinical use.
            device: a name of :func:`devices`; none: the best there is.
            threads: threads to compute with; none: all cores.
            precision: arithmetic of the large products, ``"f32"``, ``"bf16"`` or ``"f16"``, as the device has it.
            plugin: the plugin that has the device, a file or the folder it lies in; none: where plugins are looked for.

        Raises:
            FormatError: a folder that is no model.
            FileError: a folder that cannot be read.
            InvalidArgumentError: an unknown device.
            UnsupportedError: a precision the device does not have; a plugin that cannot be loaded here.
        """
        options = _native.ModelOptions()
        options.struct_size = c.sizeof(options)
        options.device = _native.encoded(device)
        options.threads = threads or 0
        options.precision = _native.choice("precision", _PRECISIONS, precision)
        options.plugin = _native.encoded(None if plugin is None else str(plugin))
        super().__init__(_native.new("ams_model_open", str(path).encode(), c.byref(options)), "ams_model_free")

    def describe(self) -> dict[str, Any]:
        """Name, licence, device, sizes, configuration."""
        described: dict[str, Any] = json.loads(_native.text("ams_model_describe", self.raw))
        return described

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.describe()["name"])

    @property
    def license(self) -> str:
        """Licence of its weights."""
        return str(self.describe()["license"])

    def session(self, image: Union[Image, Any]) -> "Session":
        """This model looking at an image: an :class:`Image`, or what :func:`as_image` takes."""
        from .session import Session

        return Session(self, image)

    def adapter(self, path: Union[str, Path], *, merge: bool = False) -> "Adapter":
        """Opens an adapter folder beside this model.

        ``merge`` adds its corrections to copies of the weights: faster, for that much memory.

        Raises:
            UnsupportedError: an adapter that was made for another model.
        """
        return Adapter(_native.new("ams_adapter_open", self.raw, str(path).encode(), int(merge)))


class Adapter(_native.Handle):
    """What a model has learned beside its own weights. Sessions use it, or not, as they are told."""

    def __init__(self, handle: c.c_void_p) -> None:
        super().__init__(handle, "ams_adapter_free")

    def describe(self) -> dict[str, Any]:
        """Name, method, modalities, tasks, the hash of its base."""
        described: dict[str, Any] = json.loads(_native.text("ams_adapter_describe", self.raw))
        return described
