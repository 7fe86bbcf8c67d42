"""Segments of the scene as training pairs, and the adapter that is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import slicer
import vtk

from . import geometry, library, segments
from .jobs import Job, Runner
from .segmenter import Setting

METHODS = ("lora", "prior", "lora+prior")


@dataclass(frozen=True)
class Pair:
    """A segment of a volume, to be learned from."""

    volume: Any
    segmentation: Any
    segment_id: str
    modality: str = "unknown"

    @property
    def name(self):
        """What the structure is called."""
        segment = self.segmentation.GetSegmentation().GetSegment(self.segment_id)
        return segment.GetName() if segment is not None else ""

    @property
    def title(self):
        """One line for a list."""
        modality = "" if self.modality == "unknown" else f" ({self.modality})"
        return f"{self.volume.GetName()}: {self.name}{modality}"

    @property
    def alive(self):
        """Whether volume and segment are still in the scene."""
        nodes = (self.volume, self.segmentation)
        return all(node.GetScene() is not None for node in nodes) and segments.exists(self.segmentation, self.segment_id)


@dataclass(frozen=True)
class Point:
    """A step of the curve; the validation's numbers are NaN before there was one."""

    step: int
    total: int
    loss: float
    validation_loss: float
    validation_dice: float
    seconds_left: float


class Trainer:
    """Trains an adapter from pairs. All of it belongs to the main thread, which has to call `poll`."""

    def __init__(self):
        self.runner = Runner()
        self.curve: list[Point] = []

    def start(
        self,
        pairs: list[Pair],
        setting: Setting,
        folder: Path,
        *,
        method: str = "lora",
        steps: int = 0,
        resume: bool = False,
        opened=None,
        on_done: Callable[[Path], None],
        on_error: Callable[[BaseException], None],
        on_progress: Optional[Callable[[Point], None]] = None,
    ):
        """Starts a run that writes the adapter to `folder`. `opened` is the model, where it is open already.

        A cancelled run leaves a state beside the folder from which `resume` goes on.

        Raises:
            ValueError: no pairs, an empty segment, a folder that is there.
            RuntimeError: another run is going on.
            LibraryUnavailable: there is no library.
        """
        if self.runner.busy:
            raise RuntimeError("A training is going on: wait for it, or cancel it")
        folder = Path(folder)
        if not pairs:
            raise ValueError("There is nothing to learn from: add segments as training pairs")
        if folder.exists():
            raise ValueError(f"{folder} is there already: choose another name")
        loaded = library.load()
        tuner_input = [_voxels_of(pair, loaded) for pair in pairs]
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = loaded.TrainingOptions(
            method=method, steps=steps, name=folder.name, start="resume" if resume else "new"
        )

        def work(progress, cancel):
            model = opened if opened is not None else loaded.Model(setting.model, device=setting.device)
            with loaded.FineTune(model) as tuner:
                for image, mask, said in tuner_input:
                    tuner.add_pair(image, mask, **said)
                tuner.run(folder, options, progress=progress, cancel=cancel).close()
            return folder

        def heard(news):
            self.curve.append(
                Point(news.step, news.total, news.loss, news.validation_loss, news.validation_dice, news.seconds_left)
            )
            if on_progress is not None:
                on_progress(self.curve[-1])

        self.runner.start(Job(work, on_done, on_error, heard))
        self.curve = []

    def poll(self):
        """Hears what a run has to say. Returns whether one is still going on."""
        return self.runner.poll()

    def cancel(self):
        """Asks the run to stop; what was learned is kept for `resume`."""
        self.runner.cancel()

    def reset(self):
        """Stops what runs and forgets it, as when the scene is closed."""
        self.runner.abandon()
        self.curve = []

    @staticmethod
    def unfinished(folder):
        """Whether a run for that folder was cancelled, or died."""
        return Path(f"{folder}.partial").is_dir()


def _voxels_of(pair, loaded):
    """What the library wants of a pair; taken on the main thread, for only that may touch the scene."""
    if not pair.alive:
        raise ValueError("A training pair is gone: its volume or segment was removed; remove the pair")
    geometry.check(pair.volume)
    mask = segments.read(pair.segmentation, pair.segment_id, pair.volume)
    if not mask.any():
        raise ValueError(f"{pair.title}: the segment is empty; segment the structure, or remove the pair")
    known = pair.modality != "unknown"
    said = {
        "label": None if segments.is_unnamed(pair.name) else pair.name,
        "task": pair.name,
        "modality": pair.modality if known else None,
        "subject": pair.volume.GetName(),
    }
    return geometry.image_of(pair.volume, loaded), mask, said


class Curve:
    """A training's losses as a table and a chart of the scene, which any plot view shows."""

    COLUMNS = ("step", "loss", "validation loss", "validation Dice")

    def __init__(self, scene, name="AdaptMedSeg training"):
        self.table = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
        for column in self.COLUMNS:
            self.table.AddColumn(_floats(column))
        self.chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
        self.chart.SetTitle(name)
        self.chart.SetXAxisTitle("step")
        self.chart.SetYAxisTitle("loss, Dice")
        for column, colour in zip(self.COLUMNS[1:], ((0.0, 0.45, 0.7), (0.84, 0.37, 0.0), (0.0, 0.62, 0.45))):
            series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", column)
            series.SetAndObserveTableNodeID(self.table.GetID())
            series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
            series.SetXColumnName(self.COLUMNS[0])
            series.SetYColumnName(column)
            series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
            series.SetColor(*colour)
            self.chart.AddAndObservePlotSeriesNodeID(series.GetID())

    def add(self, point):
        """Adds a step, or what a validation says of the last one."""
        values = (point.step, point.loss, point.validation_loss, point.validation_dice)
        table, rows = self.table.GetTable(), self.steps
        if rows == 0 or table.GetColumn(0).GetValue(rows - 1) != point.step:
            rows += 1
        for column, value in enumerate(values):
            table.GetColumn(column).InsertValue(rows - 1, value)
        table.Modified()
        self.table.Modified()

    @property
    def steps(self):
        """How many there are."""
        return self.table.GetTable().GetColumn(0).GetNumberOfTuples()


def _floats(name):
    column = vtk.vtkDoubleArray()
    column.SetName(name)
    return column
