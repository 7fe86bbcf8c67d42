"""What the panel's buttons do: parameters of the module in, changes of the scene out.

`parameters` is the module's parameter node, or anything with its attributes (see `AdaptMedSegParameterNode`).
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import slicer

from . import catalogue, prompts, segments
from .segmenter import Segmenter, Setting, Target
from .training import Curve, Pair, Trainer

#: What a change of prompts is announced by.
_MARKUPS_EVENTS = ("PointPositionDefinedEvent", "PointRemovedEvent", "PointEndInteractionEvent")


class ModuleLogic:
    """Segments, learns, and keeps the scene in order. All of it belongs to the main thread."""

    def __init__(self):
        self.segmenter = Segmenter()
        self.trainer = Trainer()
        self.pairs: list[Pair] = []
        self.curve = None
        self._observed = []
        self._restoring = False

    # The scene

    def prepare(self, parameters):
        """Makes what is missing: point lists, a box, a segmentation on the volume's grid, a segment in it.

        Raises:
            ValueError: no volume.
        """
        if parameters.inputVolume is None:
            raise ValueError("There is no volume: choose the one to segment")
        self.prepare_prompts(parameters)
        volume = parameters.inputVolume
        if parameters.segmentation is None:
            name = f"{volume.GetName()} segmentation"
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
            node.CreateDefaultDisplayNodes()
            node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            # With the volume: a mask lies where its image does.
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
            parameters.segmentation = node
        node = parameters.segmentation
        name = (parameters.text or "").strip()
        if not segments.exists(node, parameters.segmentId):
            parameters.segmentId = segments.add(node, name or segments.new_name(node))
        elif name:
            segments.rename(node, parameters.segmentId, name)

    def prepare_prompts(self, parameters):
        """Makes the point lists and the box, as far as they are missing."""
        if parameters.positivePoints is None:
            parameters.positivePoints = _points("inside", (0.1, 0.8, 0.2))
        if parameters.negativePoints is None:
            parameters.negativePoints = _points("outside", (0.9, 0.15, 0.1))
        if parameters.box is None:
            parameters.box = _box()

    def place(self, node):
        """Lets the user place points of a node with the mouse until he presses Escape, or a box once."""
        markups = slicer.modules.markups.logic()
        markups.SetActiveList(node)
        markups.StartPlaceMode(not node.IsA("vtkMRMLMarkupsROINode"))

    def clear_prompts(self, parameters):
        """Removes points, box and name."""
        with self._restored():
            prompts.restore(
                prompts.Prompts(), parameters.positivePoints, parameters.negativePoints, parameters.box
            )
        parameters.text = ""

    def observe(self, parameters, changed):
        """Calls `changed` whenever points or box have been changed by somebody else than an undo."""
        self.unobserve()

        def heard(*_):
            if not self._restoring:
                changed()

        for node in (parameters.positivePoints, parameters.negativePoints, parameters.box):
            if node is not None:
                events = [getattr(slicer.vtkMRMLMarkupsNode, name) for name in _MARKUPS_EVENTS]
                self._observed += [(node, node.AddObserver(event, heard)) for event in events]

    def unobserve(self):
        """Calls nobody any more."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []

    @contextmanager
    def _restored(self):
        self._restoring = True
        try:
            yield
        finally:
            self._restoring = False

    # Segmentation

    def prompts(self, parameters):
        """The prompts there are."""
        return prompts.collect(
            parameters.positivePoints, parameters.negativePoints, parameters.box, parameters.text
        )

    def segment(self, parameters, on_done, on_error, on_progress=None):
        """Starts a run; see :meth:`Segmenter.start`."""
        asked = self.prompts(parameters)
        if asked and parameters.inputVolume is not None:
            self.prepare(parameters)
        elif parameters.inputVolume is None:
            raise ValueError("There is no volume: choose the one to segment")
        self.segmenter.start(self.target(parameters), asked, self.setting(parameters), on_done, on_error, on_progress)

    def target(self, parameters):
        """Where masks go."""
        return Target(parameters.inputVolume, parameters.segmentation, parameters.segmentId, parameters.policy)

    def setting(self, parameters):
        """What runs are done with."""
        return Setting(
            parameters.model or catalogue.BUILTIN,
            parameters.adapter or None,
            parameters.modality,
            (parameters.task or "").strip() or None,
            parameters.device or None,
        )

    def undo(self, parameters):
        """Takes back the last run: mask and prompts. Returns whether there was one."""
        return self._show(parameters, self.segmenter.undo(self.target(parameters)))

    def redo(self, parameters):
        """Takes back an undo. Returns whether there was one."""
        return self._show(parameters, self.segmenter.redo(self.target(parameters)))

    def _show(self, parameters, shown):
        if shown is None:
            return False
        with self._restored():
            prompts.restore(shown, parameters.positivePoints, parameters.negativePoints, parameters.box)
        parameters.text = shown.text or ""
        return True

    def next_segment(self, parameters):
        """Finishes the segment and begins another: prompts are removed, the next run makes a new segment."""
        started = segments.exists(parameters.segmentation, parameters.segmentId) if parameters.segmentation else False
        self.segmenter.next_segment(self.target(parameters) if started else None)
        self.clear_prompts(parameters)
        parameters.segmentId = ""

    # Learning

    def add_pairs(self, parameters, segment_ids=None):
        """Adds segments of the chosen segmentation as training pairs: all, or those named. Returns how many are new.

        Raises:
            ValueError: no volume or no segmentation is chosen.
        """
        if parameters.inputVolume is None or parameters.segmentation is None:
            raise ValueError("Choose a volume and its segmentation first")
        ids = segment_ids or parameters.segmentation.GetSegmentation().GetSegmentIDs()
        new = [Pair(parameters.inputVolume, parameters.segmentation, name, parameters.modality) for name in ids]
        known = {(pair.volume.GetID(), pair.segmentation.GetID(), pair.segment_id) for pair in self.pairs}
        new = [pair for pair in new if (pair.volume.GetID(), pair.segmentation.GetID(), pair.segment_id) not in known]
        self.pairs += new
        return len(new)

    def train(self, parameters, models_folder, on_done, on_error, on_progress=None):
        """Starts a training; see :meth:`Trainer.start`. Returns the folder the adapter will be in."""
        name = (parameters.adapterName or "").strip()
        if not name or Path(name).name != name:
            raise ValueError("The adapter needs a name without slashes, such as prostate-mr")
        folder = Path(models_folder) / name
        setting = self.setting(parameters)

        def progress(point):
            self.curve.add(point)
            if on_progress is not None:
                on_progress(point)

        self.trainer.start(
            self.pairs,
            setting,
            folder,
            method=parameters.method,
            steps=parameters.steps,
            resume=self.trainer.unfinished(folder),
            opened=self.segmenter.model(setting),
            on_done=on_done,
            on_error=on_error,
            on_progress=progress,
        )
        self.curve = Curve(slicer.mrmlScene, f"Training of {name}")
        return folder

    # Both

    def poll(self):
        """Hears what runs and trainings have to say. Returns whether one is still going on."""
        running = [self.segmenter.poll(), self.trainer.poll()]
        return any(running)

    def reset(self):
        """Stops everything, for the scene is being closed."""
        self.unobserve()
        self.segmenter.reset()
        self.trainer.reset()
        self.pairs, self.curve = [], None

    def close(self):
        """Gives everything back."""
        self.reset()
        self.segmenter.close()


def _points(name, colour):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    node.CreateDefaultDisplayNodes()
    _paint(node.GetDisplayNode(), colour)
    return node


def _box():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.CreateDefaultDisplayNodes()
    _paint(node.GetDisplayNode(), (0.2, 0.6, 1.0))
    return node


def _paint(display, colour):
    for paint in (display.SetColor, display.SetSelectedColor, display.SetActiveColor):
        paint(*colour)
    display.SetPointLabelsVisibility(False)
