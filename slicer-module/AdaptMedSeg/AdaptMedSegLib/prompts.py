"""Points, box and name: as the scene has them, and as the library wants them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Optional

import numpy as np
import slicer
import vtk

from . import geometry


@dataclass(frozen=True)
class Prompts:
    """What the user has said of a structure. Places are world RAS millimetres."""

    text: Optional[str] = None
    positive: tuple = ()
    negative: tuple = ()
    #: The box: its corners in the world, eight of them, for it may be turned.
    corners: Optional[tuple] = None
    #: And how to put it back: the matrix of its node, row by row, and its edges.
    box: Optional[tuple] = None

    def __bool__(self):
        return bool(self.text or self.positive or self.corners)

    def apply(self, session, volume_to_ijk):
        """Makes these the prompts of a session. `volume_to_ijk` is where :meth:`in_voxels` has put them."""
        points, box = volume_to_ijk
        session.clear_prompts()
        session.set_text(self.text or None)
        if box is not None:
            session.set_box(*box)
        for position, positive in points:
            session.add_point(position, positive=positive)

    def in_voxels(self, volume):
        """Points with whether they are positive, and the box's two corners, as voxel indices of a volume.

        A box that is turned against the grid becomes the smallest upright one around it, cut to the volume.

        Raises:
            ValueError: a box that lies beside the volume.
        """
        points = []
        for positive, places in ((True, self.positive), (False, self.negative)):
            if places:
                points += [(tuple(place), positive) for place in geometry.world_to_ijk(volume, places)]
        if self.corners is None:
            return points, None
        corners = geometry.world_to_ijk(volume, self.corners)
        last = np.array(volume.GetImageData().GetDimensions()) - 0.5
        low, high = np.maximum(corners.min(axis=0), -0.5), np.minimum(corners.max(axis=0), last)
        if (low >= high).any():
            raise ValueError("The box lies beside the volume: move it over the structure")
        return points, (tuple(low), tuple(high))


def collect(positive=None, negative=None, roi=None, text=None):
    """The prompts of two point lists, a region of interest and a text; each may be None."""
    box = corners = None
    if roi is not None and roi.GetNumberOfDefinedControlPoints() > 0 and min(roi.GetSize()) > 0:
        matrix = roi.GetObjectToNodeMatrix()
        entries = tuple(matrix.GetElement(index // 4, index % 4) for index in range(16))
        box, corners = (entries, tuple(roi.GetSize())), _corners(roi)
    return Prompts((text or "").strip() or None, _places(positive), _places(negative), corners, box)


def _places(markups):
    """Points that have been placed; the one under the mouse has not."""
    if markups is None:
        return ()
    placed = slicer.vtkMRMLMarkupsNode.PositionDefined
    indices = range(markups.GetNumberOfControlPoints())
    indices = [index for index in indices if markups.GetNthControlPointPositionStatus(index) == placed]
    return tuple(tuple(markups.GetNthControlPointPositionWorld(index)) for index in indices)


def _corners(roi):
    """The corners of a region of interest in the world."""
    to_world, half = roi.GetObjectToWorldMatrix(), [0.5 * edge for edge in roi.GetSize()]
    corners = product(*((-reach, reach) for reach in half))
    return tuple(tuple(to_world.MultiplyPoint((*corner, 1.0))[:3]) for corner in corners)


def restore(prompts, positive=None, negative=None, roi=None):
    """Puts prompts back into the scene, as an undo has to."""
    for markups, places in ((positive, prompts.positive), (negative, prompts.negative)):
        if markups is not None and _places(markups) != places:
            with slicer.util.NodeModify(markups):
                markups.RemoveAllControlPoints()
                for place in places:
                    markups.AddControlPointWorld(vtk.vtkVector3d(*place))
    if roi is None:
        return
    if prompts.box is None:
        roi.RemoveAllControlPoints()
        return
    entries, size = prompts.box
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(entries)
    roi.SetAndObserveObjectToNodeMatrix(matrix)
    roi.SetSize(size)
