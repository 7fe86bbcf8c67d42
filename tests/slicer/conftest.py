"""A session of 3D Slicer for the tests of this folder, and the module under test where they can import it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The stand-ins add submodules to the package `slicer`: they must be found before its first import.
sys.path[:0] = [str(HERE / "standins"), str(HERE), str(ROOT / "slicer-module" / "AdaptMedSeg")]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def slicer_host():
    """A headless session; skipped where `slicer-core` is not installed."""
    pytest.importorskip("slicer_core", reason="the package slicer-core is absent: no test on Slicer's classes")
    import headless

    host = headless.HeadlessSlicer()
    headless.install_app(host)
    return host


@pytest.fixture
def scene(slicer_host):
    """An empty scene."""
    slicer_host.scene.Clear(False)
    yield slicer_host.scene
    slicer_host.scene.Clear(False)


# Directions of the axes of a grid, columns in RAS: as stored by most NIfTI files, by DICOM, and by a tilted scan.
ANGLE = np.deg2rad(25.0)
GRIDS = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "oblique": np.array(
        [[np.cos(ANGLE), 0.0, np.sin(ANGLE)], [0.0, -1.0, 0.0], [np.sin(ANGLE), 0.0, -np.cos(ANGLE)]]
    ),
    "permuted": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
}


class Ball:
    """A bright ball in noise on a grid, placed by world coordinates alone: voxels, geometry and truth (k, j, i)."""

    SIZE = (44, 52, 36)
    SPACING = (0.9, 1.1, 1.6)
    CENTRE = np.array([12.0, -7.0, 31.0])
    RADIUS = 12.0

    def __init__(self, direction):
        matrix = np.eye(4)
        matrix[:3, :3] = direction @ np.diag(self.SPACING)
        middle = (np.array(self.SIZE) - 1) / 2.0
        # Off the middle of the grid, so that a flipped axis cannot go unnoticed.
        matrix[:3, 3] = self.CENTRE + direction @ np.array([4.0, -5.0, 3.0]) - matrix[:3, :3] @ middle
        self.ijk_to_ras = matrix
        grid = np.indices(self.SIZE).reshape(3, -1)
        world = matrix[:3, :3] @ grid + matrix[:3, 3:]
        inside = np.linalg.norm(world - self.CENTRE[:, None], axis=0) <= self.RADIUS
        self.truth = inside.reshape(self.SIZE).transpose(2, 1, 0)
        noise = np.random.default_rng(3).normal(0.0, 20.0, self.truth.shape)
        self.voxels = (self.truth * 320.0 + 60.0 + noise).astype(np.int16)

    def dice(self, mask):
        """Dice of a mask (k, j, i) and the ball."""
        found = np.asarray(mask) > 0
        return 2.0 * np.logical_and(found, self.truth).sum() / (found.sum() + self.truth.sum())


@pytest.fixture(params=list(GRIDS))
def ball(request):
    """The ball on each grid."""
    return Ball(GRIDS[request.param])


@pytest.fixture
def lps_ball():
    """The ball on the grid of DICOM."""
    return Ball(GRIDS["LPS"])
