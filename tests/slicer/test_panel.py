"""The panel: its Designer file, and the widget's code on stand-ins for Qt's and Slicer's widgets (`qt_standin.py`).

The scene, the markups and the runs are real; the widgets are not Slicer's, so that passing does not prove how PythonQt or
Slicer's own widgets behave.
"""

from __future__ import annotations

import os
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="the package slicer-core is absent: no test on Slicer's classes")
pytest.importorskip("adaptmedseg", reason="the package adaptmedseg is absent: no run in Slicer's scene")
pytest.importorskip("PySide6", reason="the package PySide6-Essentials is absent: the panel is not drawn")

from conftest import ROOT  # noqa: E402

PANEL = ROOT / "slicer-module/AdaptMedSeg/Resources/UI/AdaptMedSeg.ui"


@pytest.fixture(scope="module")
def application(slicer_host):
    import qt_standin

    return qt_standin.install()


@pytest.fixture
def widget(scene, application, tmp_path):
    import qt_standin
    from AdaptMedSeg import AdaptMedSegWidget
    from PySide6.QtCore import QSettings

    QSettings().setValue("AdaptMedSeg/ModelsFolder", str(tmp_path / "models"))
    panel = qt_standin.panel()
    widget = AdaptMedSegWidget(panel)
    widget.setup()
    widget.panel = panel
    yield widget
    widget.cleanup()
    for made in widget.ui.__dict__.values():
        if made.className() == "qMRMLNodeComboBox":
            made.forget()
    QSettings().clear()


def until(application, condition, seconds=60.0):
    """Lets timers run until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        application.processEvents()
        time.sleep(0.01)


def add_scan(ball, name="scan"):
    return slicer.util.addVolumeFromArray(ball.voxels, ijkToRAS=ball.ijk_to_ras, name=name)


def draw_box(widget, centre, edge=26.0):
    widget.ui.placeBox.click()
    box = widget._parameters.box
    box.SetCenter(*centre)
    box.SetSize(edge, edge, edge)


def mask_of(widget):
    from AdaptMedSegLib import segments

    chosen = widget._parameters
    return segments.read(chosen.segmentation, chosen.segmentId, chosen.inputVolume)


def idle(widget):
    return lambda: not widget.logic.segmenter.runner.busy


def test_the_designer_file_is_consistent():
    root = ElementTree.parse(PANEL).getroot()
    widgets = list(root.iter("widget"))
    names = [widget.get("name") for widget in widgets]
    assert len(names) == len(set(names)), "two widgets have one name"
    declared = {custom.findtext("class") for custom in root.iter("customwidget")}
    used = {widget.get("class") for widget in widgets if not widget.get("class").startswith("Q")}
    assert used == declared
    connected = {
        connection.findtext("receiver")
        for connection in root.iter("connection")
        if connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    of_the_scene = {widget.get("name") for widget in widgets if widget.get("class").startswith("qMRML")}
    assert connected == of_the_scene - {root.find("widget").get("name")}, "a widget does not follow the scene"
    silent = [
        widget.get("name")
        for widget in widgets
        if widget.get("class") in ("QPushButton", "QComboBox", "QCheckBox", "qMRMLNodeComboBox")
        and not any(prop.get("name") == "toolTip" for prop in widget.findall("property"))
    ]
    assert not silent, "these do not say what they are for"


def test_parameters_of_the_panel_are_those_of_the_module(application):
    from AdaptMedSeg import AdaptMedSegParameterNode

    root = ElementTree.parse(PANEL).getroot()
    shown = {
        prop.findtext("string") for prop in root.iter("property") if prop.get("name") == "SlicerParameterName"
    }
    assert shown and shown <= set(AdaptMedSegParameterNode._parameter_names)


def test_a_box_becomes_a_segment(widget, application, lps_ball):
    assert not widget.ui.segmentButton.enabled
    volume = add_scan(lps_ball)
    until(application, lambda: widget._parameters.inputVolume is volume or widget.ui.inputVolume.setCurrentNode(volume))
    assert widget.ui.segmentButton.enabled and not widget.ui.undoButton.enabled
    draw_box(widget, lps_ball.CENTRE)
    widget.ui.segmentButton.click()
    assert not widget.ui.segmentButton.enabled and widget.ui.cancelButton.enabled
    until(application, idle(widget))
    assert lps_ball.dice(mask_of(widget)) > 0.85
    assert " ml (" in widget.ui.status.text and widget.ui.device.text.startswith("Runs on cpu; needs")
    assert widget.ui.segmentButton.enabled and widget.ui.undoButton.enabled and not widget.ui.cancelButton.enabled
    widget.ui.undoButton.click()
    assert not mask_of(widget).any() and widget.ui.redoButton.enabled
    widget.ui.redoButton.click()
    assert lps_ball.dice(mask_of(widget)) > 0.85
    widget.ui.nextButton.click()
    assert widget._parameters.segmentId == "" and not widget.ui.nextButton.enabled


def test_what_goes_wrong_is_shown_in_the_panel(widget, application, lps_ball):
    widget.ui.inputVolume.setCurrentNode(add_scan(lps_ball))
    widget.ui.segmentButton.click()
    assert "There is no prompt" in widget.ui.status.text and "#b00020" in widget.ui.status.styleSheet
    widget.ui.text.setEditText("quux")
    widget.ui.segmentButton.click()
    until(application, idle(widget))
    assert "quux" in widget.ui.status.text
    widget.ui.clearButton.click()
    draw_box(widget, lps_ball.CENTRE)
    widget.ui.segmentButton.click()
    until(application, idle(widget))
    assert widget.ui.status.styleSheet == "" and lps_ball.dice(mask_of(widget)) > 0.85


def test_a_live_update_waits_for_the_last_change(widget, application, lps_ball):
    widget.ui.inputVolume.setCurrentNode(add_scan(lps_ball))
    draw_box(widget, lps_ball.CENTRE)
    widget.ui.segmentButton.click()
    until(application, idle(widget))
    runs = []
    start = widget.logic.segment
    widget.logic.segment = lambda *given: (runs.append(1), start(*given))
    widget.ui.liveUpdate.checked = True
    for offset in (-4.0, 0.0, 4.0):
        widget._parameters.positivePoints.AddControlPoint(*(lps_ball.CENTRE + [offset, 0.0, 0.0]))
    assert not runs
    until(application, lambda: runs and idle(widget)())
    assert len(runs) == 1
    # A change while a run goes on ends in a run with all there is.
    widget.onLiveUpdate()
    widget._parameters.negativePoints.AddControlPoint(*(lps_ball.CENTRE + [0.0, 0.0, 20.0]))
    widget.onLiveUpdate()
    until(application, lambda: len(runs) >= 3 and idle(widget)())
    assert widget.logic.segmenter._history[-1].negative
    widget.ui.liveUpdate.checked = False


def test_closing_the_scene_while_a_run_goes_on(widget, application, lps_ball):
    widget.ui.inputVolume.setCurrentNode(add_scan(lps_ball))
    draw_box(widget, lps_ball.CENTRE)
    widget.ui.segmentButton.click()
    slicer.mrmlScene.Clear(False)
    application.processEvents()
    assert not widget.logic.segmenter.runner.busy and widget._parameters.inputVolume is None
    assert not widget.ui.segmentButton.enabled and widget.ui.status.text == ""
    widget.ui.inputVolume.setCurrentNode(add_scan(lps_ball, "another"))
    draw_box(widget, lps_ball.CENTRE)
    widget.ui.segmentButton.click()
    until(application, idle(widget))
    assert lps_ball.dice(mask_of(widget)) > 0.85


def test_training_from_the_panel_ends_in_the_adapter_in_use(widget, application, lps_ball):
    widget.ui.inputVolume.setCurrentNode(add_scan(lps_ball))
    draw_box(widget, lps_ball.CENTRE)
    widget.ui.text.setEditText("prostate")
    widget.ui.modality.setCurrentText("MR")
    widget.ui.segmentButton.click()
    until(application, idle(widget))
    assert not widget.ui.trainButton.enabled
    widget.ui.addPairButton.click()
    assert widget.ui.pairs.count == 1 and widget.ui.trainButton.enabled
    widget.ui.trainButton.click()
    assert "needs a name" in widget.ui.status.text
    widget.ui.adapterName.setText("prostate-mr")
    widget.ui.steps.setValue(3)
    widget.ui.trainButton.click()
    assert widget.ui.cancelTrainingButton.enabled
    until(application, lambda: not widget.logic.trainer.runner.busy, 300)
    assert "ready and in use" in widget.ui.trainingStatus.text
    folder = Path(widget.modelsFolder) / "prostate-mr"
    assert widget._parameters.adapter == str(folder) == widget.ui.adapter.currentData
    assert widget._parameters.task == "" and widget.ui.task.findData("prostate") >= 0
    widget.ui.showCurveButton.click()
    widget.ui.removePairButton.click()
    steps = {point.step for point in widget.logic.trainer.curve}
    assert widget.logic.curve.steps == len(steps) and max(steps) == 3


def test_choosers_say_what_models_are_and_keep_what_is_chosen(widget, application, tmp_path):
    folder = tmp_path / "models" / "segvol"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"name": "segvol", "license": "MIT"}')
    (folder / "MODEL_CARD.md").write_text("# Card\n\nA foundation model for CT.\n")
    widget.fillChoosers()
    assert [widget.ui.model.itemText(index) for index in range(widget.ui.model.count)] == [
        "builtin (demonstration)", "segvol",
    ]
    from PySide6.QtCore import Qt

    assert widget.ui.model.itemData(1, Qt.ToolTipRole) == "A foundation model for CT.\nLicence: MIT"
    widget.ui.model.setCurrentIndex(1)
    assert widget._parameters.model == str(folder)
    widget.ui.modelsFolder.currentPath = str(tmp_path / "elsewhere")
    assert widget._parameters.model == str(folder) == widget.ui.model.currentData


def test_a_mistyped_property_fails(widget):
    with pytest.raises(AttributeError, match="enable"):
        widget.ui.segmentButton.enable = True


def test_the_module_tests_itself(scene, application):
    from AdaptMedSeg import AdaptMedSegTest

    AdaptMedSegTest("test_box_to_segment").debug()


def test_the_module_says_what_it_is(application):
    import types

    from AdaptMedSeg import AdaptMedSeg

    module = AdaptMedSeg(types.SimpleNamespace())
    assert module.parent.title == "AdaptMedSeg" and module.parent.categories == ["Segmentation"]
    assert "not a medical device" in module.parent.helpText


def test_a_picture_of_the_panel(widget, application, lps_ball, tmp_path):
    import qt_standin

    widget.ui.inputVolume.setCurrentNode(add_scan(lps_ball, "CT"))
    draw_box(widget, lps_ball.CENTRE)
    widget.ui.text.setEditText("spleen")
    widget.ui.segmentButton.click()
    until(application, idle(widget))
    widget.ui.modelsFolder.currentPath = "/home/me/AdaptMedSeg"
    panel = qt_standin.unwrap(widget.panel)
    panel.resize(430, panel.sizeHint().height())
    panel.show()
    application.processEvents()
    path = os.environ.get("ADAPTMEDSEG_PANEL_PNG", str(tmp_path / "panel.png"))
    assert panel.grab().save(path) and os.path.getsize(path) > 10000
