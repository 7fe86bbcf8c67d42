"""AdaptMedSegCLI run by 3D Slicer's own classes: volumes and markups of a scene in, a label map node out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cli_program import program, write_scan

BOX = ([12.0, -7.0, 31.0], [28.0, 28.0, 28.0])


@pytest.fixture(scope="module")
def module(slicer_host):
    """The module, registered; the session gets the thread that runs such modules."""
    import cli_host

    if not cli_host.supported():
        pytest.skip("skipped: this slicer-core does not export its parser under the known names")
    registered = cli_host.CommandLineModule(slicer_host, program())
    slicer_host.app_logic.CreateProcessingThread()
    yield registered
    slicer_host.app_logic.TerminateProcessingThread()


@pytest.fixture
def volume(slicer_host, scene, ball, tmp_path):
    return slicer_host.load_volume(write_scan(ball, tmp_path / "scan.nrrd"))


def fiducials(scene, *positions):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for position in positions:
        node.AddControlPoint(position)
    return node


def region(scene, centre, size):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    node.SetCenter(centre)
    node.SetSize(size)
    return node


def label_map(scene):
    return scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")


def matrix_of(node):
    import slicer.util
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def leftovers(host):
    return [path.name for path in Path(host.temp_dir).iterdir() if path.name.startswith(".adaptmedseg")]


def test_a_region_and_points_of_the_scene_make_a_label_map_in_place(slicer_host, module, scene, ball, volume):
    import slicer.util

    out = label_map(scene)
    node = module.node(
        inputVolume=volume,
        outputVolume=out,
        box=region(scene, *BOX),
        positivePoints=fiducials(scene, ball.CENTRE),
        negativePoints=fiducials(scene, [20.0, 5.0, 40.0], [20.0, 6.0, 40.0]),
    )
    seen = []
    module.run(node, on_tick=lambda: seen.append(node.GetProgress()))
    assert node.GetStatusString() == "Completed", node.GetErrorText()
    np.testing.assert_allclose(matrix_of(out), matrix_of(volume), atol=1e-6)
    mask = slicer.util.arrayFromVolume(out)
    # Slicer may have turned an axis when it read the scan, so the truth is taken from what it holds.
    truth = slicer.util.arrayFromVolume(volume) > 220
    assert mask.dtype == np.uint8
    assert 2.0 * np.logical_and(mask, truth).sum() / (mask.sum() + truth.sum()) > 0.8
    assert max(seen) > 0 and set(seen) <= set(range(101))
    assert int(node.GetParameterAsString("voxels")) == np.count_nonzero(mask)
    assert float(node.GetParameterAsString("volumeMl")) > 1.0
    assert node.GetParameterAsString("deviceUsed") == "cpu"
    assert leftovers(slicer_host) == []


def test_a_rotated_region_is_enclosed(module, scene, lps_ball, slicer_host, tmp_path):
    import slicer.util
    import vtk

    volume = slicer_host.load_volume(write_scan(lps_ball, tmp_path / "scan.nrrd"))
    roi = region(scene, [0.0, 0.0, 0.0], [20.0, 24.0, 26.0])
    turn = vtk.vtkTransform()
    turn.Translate(*lps_ball.CENTRE)
    turn.RotateZ(30.0)
    roi.SetAndObserveObjectToNodeMatrix(turn.GetMatrix())
    out = label_map(scene)
    node = module.run(module.node(inputVolume=volume, outputVolume=out, box=roi))
    assert node.GetStatusString() == "Completed", node.GetErrorText()
    assert "enclosing box" in node.GetOutputText()
    assert lps_ball.dice(slicer.util.arrayFromVolume(out)) > 0.8


def test_a_failure_reaches_the_node_as_text(slicer_host, module, scene, lps_ball, tmp_path):
    volume = slicer_host.load_volume(write_scan(lps_ball, tmp_path / "scan.nrrd"))
    out = label_map(scene)
    outside = fiducials(scene, [500.0, 0.0, 0.0])
    node = module.run(module.node(inputVolume=volume, outputVolume=out, positivePoints=outside))
    assert node.GetStatusString() == "Completed with errors"
    assert re.fullmatch(r"error: point \(500, 0, 0\) lies outside .*\n  hint: .*\n", node.GetErrorText())
    assert out.GetImageData() is None
    none = module.run(module.node(inputVolume=volume, outputVolume=out))
    assert none.GetErrorText().startswith("error: no prompt\n  hint: ")
    assert leftovers(slicer_host) == []


def test_a_cancelled_run_leaves_nothing(slicer_host, module, scene):
    import slicer.util

    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "noise")
    slicer.util.updateVolumeFromArray(volume, np.random.default_rng(1).normal(0, 9, (256, 320, 320)).astype(np.int16))
    out = label_map(scene)
    node = module.node(
        inputVolume=volume,
        outputVolume=out,
        box=region(scene, [160.0, 160.0, 128.0], [310.0, 310.0, 250.0]),
        mode="reference",
        threads=1,
    )

    def cancel_while_running():
        if node.GetProgress() > 10:
            node.Cancel()

    module.run(node, on_tick=cancel_while_running)
    assert node.GetStatusString() == "Cancelled"
    assert out.GetImageData() is None
    assert leftovers(slicer_host) == []
