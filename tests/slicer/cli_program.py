"""The command-line module as a program: where it is, how to run it, and scans for it written by other people's code."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "slicer-module" / "AdaptMedSegCLI"
# Between the worlds of Slicer and NIfTI (RAS) and of ITK and DICOM (LPS).
FLIP = np.diag([-1.0, -1.0, 1.0])
# The box prompt of the ball, about two voxels wider than it: centre and half sizes, RAS.
BALL_BOX = "12,-7,31,14,14,14"


def program():
    """Path of the built module; the test is skipped without it."""
    path = os.environ.get("ADAPTMEDSEG_CLI_MODULE")
    if not path:
        pytest.skip("skipped: ADAPTMEDSEG_CLI_MODULE names no built AdaptMedSegCLI")
    return Path(path).resolve()


@dataclass
class Outcome:
    """How a run ended."""

    code: int
    out: str
    err: str
    results: dict = field(default_factory=dict)


def run(*arguments, results=None, timeout=300):
    """Runs the module; `results` is a file for its simple results, which come back parsed."""
    words = [str(program())]
    if results is not None:
        words += ["--returnparameterfile", str(results)]
    done = subprocess.run(words + [str(word) for word in arguments], capture_output=True, text=True, timeout=timeout)
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    if results is not None and results.exists():
        pairs = (line.split(" = ") for line in results.read_text().splitlines())
        outcome.results = {name: value for name, value in pairs}
    return outcome


def as_itk(ball):
    """The ball as a SimpleITK image."""
    sitk = pytest.importorskip("SimpleITK", reason="skipped: SimpleITK is absent")
    image = sitk.GetImageFromArray(ball.voxels)
    image.SetSpacing(ball.SPACING)
    image.SetOrigin((FLIP @ ball.ijk_to_ras[:3, 3]).tolist())
    image.SetDirection((FLIP @ ball.ijk_to_ras[:3, :3] / np.array(ball.SPACING)).ravel().tolist())
    return image


def write_scan(ball, path):
    """Writes the ball by SimpleITK, in the format the name asks for."""
    import SimpleITK as sitk

    sitk.WriteImage(as_itk(ball), str(path))
    return path
