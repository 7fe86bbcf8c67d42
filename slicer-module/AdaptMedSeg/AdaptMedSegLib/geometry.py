"""Volumes of the scene as images of the library, and places between the world and a volume's voxels.

Slicer's world is RAS millimetres; the library's images are LPS. A volume may lie under transforms, also non-linear ones:
then the image is the volume as it is stored, and places of the world are taken back through the transforms.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def ijk_to_ras(volume):
    """The 4 x 4 matrix from voxel indices to the volume's own RAS, before its parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def check(volume):
    """Whether a volume can be segmented.

    Raises:
        ValueError: a volume without voxels, or with several values per voxel.
    """
    data = volume.GetImageData()
    if data is None or 0 in data.GetDimensions():
        raise ValueError(f"{volume.GetName()} has no voxels: load a volume, or choose another")
    if data.GetNumberOfScalarComponents() != 1:
        raise ValueError(
            f"{volume.GetName()} has {data.GetNumberOfScalarComponents()} values per voxel: choose a scalar volume"
        )


def image_of(volume, library):
    """The volume as an image of the library; voxels are copied once. `volume` has passed :func:`check`."""
    matrix = ijk_to_ras(volume)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = _RAS_TO_LPS @ (matrix[:3, :3] / spacing)
    origin = _RAS_TO_LPS @ matrix[:3, 3]
    array = slicer.util.arrayFromVolume(volume)
    return library.Image.from_array(array, spacing.tolist(), origin.tolist(), direction)


def state_of(volume):
    """Changes whenever the volume's voxels or its grid do."""
    data = volume.GetImageData()
    return (volume.GetID(), data.GetMTime() if data else 0, tuple(ijk_to_ras(volume).ravel()))


def world_to_ijk(volume, points):
    """Continuous voxel indices `[n, 3]` (i, j, k) of places of the world `[n, 3]`."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volume.GetParentTransformNode(), transform)
    local = np.array([transform.TransformPoint(point) for point in np.asarray(points, dtype=float)]).reshape(-1, 3)
    inverse = np.linalg.inv(ijk_to_ras(volume))
    return local @ inverse[:3, :3].T + inverse[:3, 3]
