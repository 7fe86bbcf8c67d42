"""Images: voxels and where they lie."""

from __future__ import annotations

import ctypes as c
from pathlib import Path
from typing import Any, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from . import _native


class Image(_native.Handle):
    """A 3-D image on a grid. Make one with :meth:`read`, :meth:`from_array`, :meth:`from_sitk` or :meth:`from_nibabel`.

    Arrays are in NumPy's order ``(k, j, i)``, slowest axis first, as SimpleITK gives them; spacing, origin and points are in
    the order ``(i, j, k)``. Positions are LPS millimetres (DICOM, ITK) unless a space is named.
    """

    def __init__(self, handle: c.c_void_p) -> None:
        super().__init__(handle, "ams_image_free")

    @classmethod
    def read(cls, path: Union[str, Path], channel: Optional[int] = None) -> "Image":
        """Reads NIfTI-1/2 or MetaImage. ``channel`` picks one of a 4-D file's.

        Raises:
            FileError: a file that cannot be read.
            FormatError: a file that is no image, or a 4-D one without ``channel``.
        """
        return cls(_native.new("ams_image_read", str(path).encode(), -1 if channel is None else channel))

    @classmethod
    def from_array(
        cls,
        array: npt.ArrayLike,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        direction: Optional[npt.ArrayLike] = None,
    ) -> "Image":
        """An image of an array ``(k, j, i)`` of any number type and any strides; it is read once, not kept.

        Args:
            array: the voxels.
            spacing: millimetres along i, j and k.
            origin: the middle of voxel (0, 0, 0), LPS millimetres.
            direction: 3 x 3, its columns the directions of i, j and k in LPS; none: the identity.

        Raises:
            InvalidArgumentError: an array that is not 3-D, of a type that is no number, or a grid that cannot be.
        """
        voxels = np.asarray(array)
        if voxels.ndim != 3:
            raise ValueError(f"an array of {voxels.ndim} axes is no 3-D image: give (k, j, i)")
        if voxels.dtype == np.bool_:
            voxels = voxels.view(np.uint8)
        if not voxels.dtype.isnative:
            voxels = voxels.astype(voxels.dtype.newbyteorder("="))
        if voxels.dtype.name not in _native.SCALAR_TYPES:
            voxels = voxels.astype(np.float32)
        matrix = np.eye(3) if direction is None else np.asarray(direction, dtype=float).reshape(3, 3)
        desc = _native.ImageDesc()
        desc.struct_size = c.sizeof(desc)
        desc.data = voxels.ctypes.data
        desc.scalar_type = _native.SCALAR_TYPES[voxels.dtype.name]
        desc.size[:] = voxels.shape[::-1]
        desc.strides[:] = voxels.strides[::-1]
        desc.spacing[:] = [float(value) for value in spacing]
        desc.origin[:] = [float(value) for value in origin]
        desc.direction[:] = matrix.reshape(-1).tolist()
        return cls(_native.new("ams_image_from_buffer", c.byref(desc)))

    @classmethod
    def from_sitk(cls, image: Any) -> "Image":
        """A SimpleITK image with its geometry. SimpleITK must be installed."""
        import SimpleITK as sitk

        return cls.from_array(
            sitk.GetArrayViewFromImage(image), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        )

    @classmethod
    def from_nibabel(cls, image: Any) -> "Image":
        """A nibabel image with its geometry; sheared affines cannot be represented."""
        affine = np.asarray(image.affine, dtype=float)
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        data = np.asanyarray(image.dataobj)
        return cls.from_array(data.transpose(2, 1, 0), spacing.tolist(), lps[:3, 3].tolist(), lps[:3, :3] / spacing)

    def _numbers(self, name: str, count: int, kind: Any = c.c_double) -> list[Any]:
        values = (kind * count)()
        _native.check(name, self.raw, values)
        return list(values)

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        i, j, k = self._numbers("ams_image_size", 3, c.c_size_t)
        return i, j, k

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the image's arrays: (k, j, i)."""
        i, j, k = self.size
        return k, j, i

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres along i, j and k."""
        i, j, k = self._numbers("ams_image_spacing", 3)
        return i, j, k

    @property
    def origin(self) -> tuple[float, float, float]:
        """The middle of voxel (0, 0, 0), LPS millimetres."""
        i, j, k = self._numbers("ams_image_origin", 3)
        return i, j, k

    @property
    def direction(self) -> npt.NDArray[np.float64]:
        """3 x 3, its columns the directions of i, j and k in LPS."""
        return np.array(self._numbers("ams_image_direction", 9)).reshape(3, 3)
