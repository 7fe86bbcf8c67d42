"""AdaptMedSeg in 3D Slicer: the module, its panel, its logic, and a test that Slicer can run.

The logic is in the package AdaptMedSegLib, which knows of no window; here are the parameters and the panel.
"""

import math
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from AdaptMedSegLib import catalogue, library, segments, training
from AdaptMedSegLib.logic import ModuleLogic
from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

#: Milliseconds between two looks at a run, and from the last change of a prompt to the run it asks for.
_POLL, _DEBOUNCE = 50, 350
_MODELS_FOLDER = "AdaptMedSeg/ModelsFolder"


class AdaptMedSeg(ScriptedLoadableModule):
    """What Slicer shows in its list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "AdaptMedSeg"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The AdaptMedSeg developers"]
        parent.helpText = _(
            "Segments structures that you point at, draw a box around, or name, and learns from your own segments. "
            "Everything runs on this computer. Research software, not a medical device."
        )
        parent.acknowledgementText = _(
            "After SegVol (Du et al., arXiv 2311.13385) and Hermes (Gao et al., arXiv 2306.02416)."
        )


@parameterNodeWrapper
class AdaptMedSegParameterNode:
    """What the panel shows, kept in the scene."""

    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    #: The segment that prompts are for; empty: the next run makes one.
    segmentId: str = ""
    positivePoints: vtkMRMLMarkupsFiducialNode
    negativePoints: vtkMRMLMarkupsFiducialNode
    box: vtkMRMLMarkupsROINode
    text: str = ""
    #: A folder, or `builtin`; the adapter's is empty where there is none.
    model: str = catalogue.BUILTIN
    adapter: str = ""
    device: str = ""
    modality: Annotated[str, Choice(["unknown", "CT", "MR"])] = "unknown"
    task: str = ""
    policy: Annotated[str, Choice(list(segments.POLICIES))] = segments.OVERWRITE
    liveUpdate: bool = False
    adapterName: str = ""
    method: Annotated[str, Choice(list(training.METHODS))] = training.METHODS[0]
    steps: Annotated[int, WithinRange(1, 100000)] = 200


class AdaptMedSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. It translates between widgets and parameters, and computes nothing."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._parameters = None
        self._gui_tag = None
        self._filling = False
        self._again = False
        # The segmentation in the table of segments.
        self._shown = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/AdaptMedSeg.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = AdaptMedSegLogic()
        self._poll_timer = self._timer(_POLL, self.onPoll, False)
        self._live_timer = self._timer(_DEBOUNCE, self.onLiveUpdate, True)
        self._connect()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.modelsFolder.currentPath = slicer.util.settingsValue(_MODELS_FOLDER, str(Path.home() / "AdaptMedSeg"))
        self._fill(self.ui.text, [("", "", "")] + [(name, name, "") for name in segments.KNOWN_NAMES])
        self.initializeParameters()

    @staticmethod
    def _timer(interval, slot, single):
        timer = qt.QTimer()
        timer.setInterval(interval)
        timer.setSingleShot(single)
        timer.connect("timeout()", slot)
        return timer

    def _connect(self):
        for name, slot in (
            ("segmentButton", self.onSegment),
            ("cancelButton", self.onCancel),
            ("undoButton", self.onUndo),
            ("redoButton", self.onRedo),
            ("nextButton", self.onNext),
            ("clearButton", self.onClear),
            ("placePositive", lambda: self.onPlace("positivePoints")),
            ("placeNegative", lambda: self.onPlace("negativePoints")),
            ("placeBox", lambda: self.onPlace("box")),
            ("addPairButton", self.onAddPairs),
            ("removePairButton", self.onRemovePair),
            ("trainButton", self.onTrain),
            ("cancelTrainingButton", self.onCancelTraining),
            ("showCurveButton", self.onShowCurve),
        ):
            getattr(self.ui, name).connect("clicked(bool)", lambda _checked=False, slot=slot: self._guarded(slot))
        self.ui.model.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.adapter.connect("currentIndexChanged(int)", self.onAdapterChosen)
        self.ui.task.connect("currentTextChanged(QString)", lambda text: self._set("task", text))
        self.ui.text.connect("currentTextChanged(QString)", self.onText)
        self.ui.modelsFolder.connect("currentPathChanged(QString)", self.onModelsFolder)

    def _guarded(self, slot):
        """Runs a slot; what goes wrong is shown in the panel, not in the console."""
        try:
            slot()
        except Exception as error:
            self.showError(error)
        self.refresh()

    # The parameters

    def initializeParameters(self):
        """Follows the parameter node of the scene there is."""
        parameters = self.logic.getParameterNode()
        if parameters.inputVolume is None:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None:
                parameters.inputVolume = first
        self.setParameters(parameters)

    def setParameters(self, parameters):
        """Shows parameters, or none."""
        self._shown = None
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.refresh)
        self._parameters = parameters
        if parameters is None:
            return
        self._gui_tag = parameters.connectGui(self.ui)
        self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.refresh)
        self.fillChoosers()
        self.refresh()

    def _set(self, name, value):
        if self._parameters is not None and not self._filling and getattr(self._parameters, name) != value:
            setattr(self._parameters, name, value)

    def cleanup(self):
        """The application closes, or the module is reloaded."""
        self._poll_timer.stop()
        self._live_timer.stop()
        self.setParameters(None)
        self.removeObservers()
        self.logic.close()

    def enter(self):
        """The module is opened: other modules may have changed the scene."""
        if self._parameters is None:
            self.initializeParameters()

    def exit(self):
        """Another module is opened; runs go on."""

    def onSceneStartClose(self, *_):
        self._live_timer.stop()
        self._poll_timer.stop()
        self.logic.reset()
        self.setParameters(None)
        self.ui.pairs.clear()
        self.showStatus("")

    def onSceneEndClose(self, *_):
        self.initializeParameters()

    # The choosers

    @property
    def modelsFolder(self):
        return self.ui.modelsFolder.currentPath

    def fillChoosers(self):
        """Lists models, adapters and tasks anew, keeping what is chosen."""
        entries = catalogue.models(self.modelsFolder)
        self._fill(self.ui.model, [(entry.name, entry.path, entry.title) for entry in entries])
        adapters = catalogue.adapters(self.modelsFolder)
        none = [(_("none"), "", _("The model alone"))]
        self._fill(self.ui.adapter, none + [(entry.name, entry.path, entry.title) for entry in adapters])
        self._choose(self.ui.model, self._parameters.model)
        self._choose(self.ui.adapter, self._parameters.adapter)
        self._fillTasks()

    def _fillTasks(self):
        chosen = [entry for entry in catalogue.adapters(self.modelsFolder) if entry.path == self._parameters.adapter]
        names = [name for entry in chosen for name in entry.tasks]
        self._fill(self.ui.task, [("", "", "")] + [(name, name, "") for name in names])
        self._filling = True
        self.ui.task.setEditText(self._parameters.task)
        self._filling = False

    def _fill(self, combo, items):
        self._filling = True
        combo.clear()
        for index, (text, value, tip) in enumerate(items):
            combo.addItem(text, value)
            combo.setItemData(index, tip, qt.Qt.ToolTipRole)
        self._filling = False

    def _choose(self, combo, value):
        index = combo.findData(value)
        if index < 0:
            # A folder that is not in the list: from a scene of another computer, perhaps.
            combo.addItem(Path(value).name, value)
            index = combo.count - 1
        self._filling = True
        combo.setCurrentIndex(index)
        self._filling = False

    def onModelChosen(self, index):
        self._set("model", self.ui.model.itemData(index) or catalogue.BUILTIN)

    def onAdapterChosen(self, index):
        self._set("adapter", self.ui.adapter.itemData(index) or "")
        if self._parameters is not None and not self._filling:
            self._fillTasks()

    def onModelsFolder(self, path):
        qt.QSettings().setValue(_MODELS_FOLDER, path)
        if self._parameters is not None:
            self.fillChoosers()

    def onText(self, text):
        self._set("text", text)
        if not self._filling:
            self.onPromptsChanged()

    # Prompts

    def onPlace(self, name):
        self.logic.prepare_prompts(self._parameters)
        self.logic.observe(self._parameters, self.onPromptsChanged)
        self.logic.place(getattr(self._parameters, name))

    def onClear(self):
        self.logic.clear_prompts(self._parameters)

    def onPromptsChanged(self):
        """Asks for a run once prompts have not changed for a moment."""
        if self._parameters is not None and self._parameters.liveUpdate:
            self._live_timer.start()
        self.refresh()

    def onLiveUpdate(self):
        if self._parameters is None or not self.logic.prompts(self._parameters):
            return
        if self.logic.segmenter.runner.busy:
            # What it computes is out of date already.
            self._again = True
            self.logic.segmenter.cancel()
        else:
            self._guarded(self.onSegment)

    # Segmentation

    def onSegment(self):
        self.showStatus(_("Segmenting ..."))
        self.logic.segment(self._parameters, self.onSegmented, self.onFailed, self.onProgress)
        self.logic.observe(self._parameters, self.onPromptsChanged)
        self._poll_timer.start()

    def onCancel(self):
        self._again = False
        self.showStatus(_("Cancelling ..."))
        self.logic.segmenter.cancel()

    def onProgress(self, news):
        self.ui.progress.value = int(100 * news.fraction)

    def onSegmented(self, outcome):
        notes = "".join(f"\n{note}" for note in outcome.notes)
        self.showStatus(
            _("{ml:.1f} ml ({voxels} voxels) in {seconds:.1f} s").format(
                ml=outcome.millilitres, voxels=outcome.voxels, seconds=outcome.seconds
            )
            + notes
        )
        self.showDevice(outcome.device)
        self._ended()

    def onFailed(self, error):
        if type(error).__name__ == "CancelledError":
            self.showStatus(_("Cancelled; nothing has changed."))
        else:
            self.showError(error)
        self._ended()

    def _ended(self):
        self.ui.progress.value = 0
        if self._again:
            self._again = False
            self._live_timer.start()

    def onPoll(self):
        if not self.logic.poll():
            self._poll_timer.stop()
        self.refresh()

    def onUndo(self):
        self.logic.undo(self._parameters)
        self._showText()

    def onRedo(self):
        self.logic.redo(self._parameters)
        self._showText()

    def onNext(self):
        self.logic.next_segment(self._parameters)
        self._showText()
        self.showStatus(_("The segment is finished. Prompts are for a new one now."))

    # Learning

    def onAddPairs(self):
        chosen = list(self.ui.segments.selectedSegmentIDs())
        added = self.logic.add_pairs(self._parameters, chosen)
        self._showPairs()
        self.showTraining(_("{count} pairs added").format(count=added))

    def onRemovePair(self):
        row = self.ui.pairs.currentRow
        if 0 <= row < len(self.logic.pairs):
            del self.logic.pairs[row]
            self._showPairs()

    def _showPairs(self):
        self.ui.pairs.clear()
        for pair in self.logic.pairs:
            self.ui.pairs.addItem(pair.title)

    def onTrain(self):
        self.logic.train(self._parameters, self.modelsFolder, self.onTrained, self.onTrainingFailed, self.onTraining)
        self.showTraining(_("Reading the pairs ..."))
        self._poll_timer.start()

    def onTraining(self, point):
        self.ui.trainingProgress.value = int(100 * point.step / max(point.total, 1))
        text = _("step {step} of {total}, loss {loss:.3f}, {minutes:.0f} min left").format(
            step=point.step, total=point.total, loss=point.loss, minutes=point.seconds_left / 60.0
        )
        if not math.isnan(point.validation_dice):
            text += _(", validation Dice {dice:.3f}").format(dice=point.validation_dice)
        self.showTraining(text)

    def onTrained(self, folder):
        """The new adapter is chosen at once."""
        self.fillChoosers()
        self._choose(self.ui.adapter, str(folder))
        self._set("adapter", str(folder))
        self._fillTasks()
        self.ui.trainingProgress.value = 0
        self.showTraining(_("{name} is ready and in use").format(name=folder.name))

    def onTrainingFailed(self, error):
        self.ui.trainingProgress.value = 0
        if type(error).__name__ == "CancelledError":
            self.showTraining(_("Cancelled; train again with the same name to go on."))
        else:
            self.showTraining(library.explain(error), error=True)

    def onCancelTraining(self):
        self.logic.trainer.cancel()
        self.showTraining(_("Cancelling ..."))

    def onShowCurve(self):
        if self.logic.curve is not None:
            slicer.modules.plots.logic().ShowChartInLayout(self.logic.curve.chart)

    # What is shown

    def showStatus(self, text):
        self._show(self.ui.status, text, False)

    def showTraining(self, text, error=False):
        self._show(self.ui.trainingStatus, text, error)

    def showError(self, error):
        self._show(self.ui.status, library.explain(error), True)

    @staticmethod
    def _show(label, text, error):
        label.text = text
        label.styleSheet = "color: #b00020;" if error else ""

    def showDevice(self, device):
        needed = self.logic.segmenter.memory()
        memory = "" if needed is None else _("; needs {mib:.0f} MiB").format(mib=needed / 2**20)
        self.ui.device.text = _("Runs on {device}").format(device=device) + memory

    def _showText(self):
        self._filling = True
        self.ui.text.setEditText(self._parameters.text)
        self._filling = False

    def refresh(self, *_):
        """Enables what can be done now."""
        if self._parameters is None:
            return
        segmenter, trainer = self.logic.segmenter, self.logic.trainer
        busy, ready = segmenter.runner.busy, self._parameters.inputVolume is not None
        self.ui.segmentButton.enabled = ready and not busy
        self.ui.cancelButton.enabled = busy and not segmenter.runner.cancelling
        self.ui.undoButton.enabled = segmenter.can_undo
        self.ui.redoButton.enabled = segmenter.can_redo
        self.ui.nextButton.enabled = not busy and bool(self._parameters.segmentId)
        self.ui.trainButton.enabled = bool(self.logic.pairs) and not trainer.runner.busy
        self.ui.cancelTrainingButton.enabled = trainer.runner.busy and not trainer.runner.cancelling
        self.ui.showCurveButton.enabled = self.logic.curve is not None
        if self._parameters.segmentation is not self._shown:
            self._shown = self._parameters.segmentation
            self.ui.segments.setSegmentationNode(self._shown)


class AdaptMedSegLogic(ScriptedLoadableModuleLogic, ModuleLogic):
    """The logic with the scene's parameter node."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        ModuleLogic.__init__(self)

    def getParameterNode(self):
        return AdaptMedSegParameterNode(ScriptedLoadableModuleLogic.getParameterNode(self))


class AdaptMedSegTest(ScriptedLoadableModuleTest):
    """A run from volume to segment, for `Reload and Test`."""

    def runTest(self):
        self.setUp()
        self.test_box_to_segment()

    def test_box_to_segment(self):
        import numpy as np

        voxels = np.full((40, 48, 44), 60, dtype=np.int16)
        grid = np.indices(voxels.shape).transpose(1, 2, 3, 0)
        truth = ((grid - np.array([20, 26, 18])) ** 2).sum(-1) <= 100
        voxels[truth] = 400
        voxels += np.random.default_rng(1).normal(0.0, 15.0, voxels.shape).astype(np.int16)
        volume = slicer.util.addVolumeFromArray(voxels, name="ball")
        logic = AdaptMedSegLogic()
        parameters = logic.getParameterNode()
        parameters.inputVolume = volume
        logic.prepare_prompts(parameters)
        parameters.box.SetCenter(18.0, 26.0, 20.0)
        parameters.box.SetSize(22.0, 22.0, 22.0)
        errors, outcomes = [], []
        logic.segment(parameters, outcomes.append, errors.append)
        self.assertTrue(logic.segmenter.runner.wait(120))
        self.assertEqual(errors, [])
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(parameters.segmentation, parameters.segmentId, volume)
        dice = 2.0 * (mask[truth] > 0).sum() / ((mask > 0).sum() + truth.sum())
        self.assertGreater(dice, 0.8)
        self.assertTrue(logic.undo(parameters))
        logic.close()
        self.delayDisplay(f"Dice {dice:.3f}")
