"""Draws the picture of the README: organs of a generated scan, segmented by the module's logic from boxes and points of the
scene, in Slicer's own slice and 3-D views, without a screen.

    pip install "trame-slicer[standalone]==2.0.0" ./plugins/python
    adaptmedseg phantom --out phantoms
    env -u DISPLAY python tests/slicer/views.py phantoms slicer-module/Screenshots/views.png

The package trame-slicer has the views; it wants an older slicer-core than the tests, so an environment of its own.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import slicer
import slicer.util
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

sys.path.insert(0, str(Path(__file__).parents[2] / "slicer-module/AdaptMedSeg"))
from AdaptMedSegLib import geometry, segments  # noqa: E402
from AdaptMedSegLib.logic import ModuleLogic  # noqa: E402

ORGANS = ("liver", "spleen", "left kidney", "right kidney", "stomach")
SIZE = 520


def parameters(volume):
    return types.SimpleNamespace(
        inputVolume=volume, segmentation=None, segmentId="", positivePoints=None, negativePoints=None, box=None, text="",
        model="builtin", adapter="", device="", modality="CT", task="", policy=segments.KEEP, liveUpdate=False,
    )


def segment(logic, chosen, name, mask):
    """Segments a structure from the box of its label and three points in it; its Dice."""
    volume = chosen.inputVolume
    matrix = geometry.ijk_to_ras(volume)
    places = np.argwhere(mask)[:, ::-1]
    world = places @ matrix[:3, :3].T + matrix[:3, 3]
    logic.prepare_prompts(chosen)
    half = np.abs(matrix[:3, :3]).sum(1) / 2.0
    low, high = world.min(0) - half, world.max(0) + half
    chosen.box.SetCenter(*((low + high) / 2.0))
    chosen.box.SetSize(*(high - low))
    for index in np.random.default_rng(0).choice(len(world), 3, replace=False):
        chosen.positivePoints.AddControlPoint(*world[index])
    errors = []
    logic.segment(chosen, lambda outcome: None, errors.append)
    logic.segmenter.runner.wait()
    if errors:
        raise errors[0]
    found = segments.read(chosen.segmentation, chosen.segmentId, volume) > 0
    look = segments.look_of(name)
    segment = chosen.segmentation.GetSegmentation().GetSegment(chosen.segmentId)
    segment.SetName(name)
    segment.SetColor(*(part / 255.0 for part in look.colour))
    return 2.0 * (found & mask).sum() / (found.sum() + mask.sum())


def picture(view):
    view.render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(view.render_window())
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    return pixels[::-1, :, :3]


def save(path, pixels):
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkIOImage import vtkPNGWriter

    height, width, _ = pixels.shape
    image = vtkImageData()
    image.SetDimensions(width, height, 1)
    flat = np.ascontiguousarray(pixels[::-1]).reshape(-1, 3)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    writer = vtkPNGWriter()
    writer.SetInputData(image)
    writer.SetFileName(str(path))
    writer.Write()


def main(folder, out):
    app = SlicerApp()
    slicer.mrmlScene = app.scene
    # Where `slicer.util` looks for logics.
    logics = {"volumes": app.volumes_logic, "segmentations": app.segmentations_logic}
    slicer.modules = types.SimpleNamespace(
        **{name: types.SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    )
    app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    definitions = (
        ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.threed_view(), ViewLayoutDefinition.coronal_view(),
        ViewLayoutDefinition.sagittal_view(),
    )
    views = [app.view_manager.create_view(definition) for definition in definitions]
    for view in views:
        view.interactor().UpdateSize(SIZE, SIZE)
    pairs = [pair for pair in json.loads((folder / "pairs.json").read_text()) if pair["modality"] == "CT"]
    first = pairs[0]["image"]
    volume = app.io_manager.load_volumes(str(folder / first))[0]
    app.display_manager.show_volume(volume, do_reset_views=True)
    labels = app.io_manager.load_volumes(str(folder / pairs[0]["mask"]))[0]
    values = slicer.util.arrayFromVolume(labels)
    app.scene.RemoveNode(labels)
    logic, chosen = ModuleLogic(), parameters(volume)
    middle = None
    for pair in pairs:
        if pair["image"] == first and pair["label"] in ORGANS:
            mask = np.isin(values, pair["label_id"])
            print(f"{pair['label']}: Dice {segment(logic, chosen, pair['label'], mask):.3f}")
            middle = chosen.box.GetCenter() if pair["label"] == "right kidney" else middle
            logic.next_segment(chosen)
    for node in (chosen.positivePoints, chosen.negativePoints, chosen.box):
        app.scene.RemoveNode(node)
    chosen.segmentation.CreateClosedSurfaceRepresentation()
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(450, 50)
    for view in views:
        if hasattr(view, "fit_view_to_content"):
            view.fit_view_to_content()
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*middle)
    pictures = [picture(view) for view in views]
    save(out, np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:])]))
    logic.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
