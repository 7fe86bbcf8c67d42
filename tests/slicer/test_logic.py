"""AdaptMedSegLib on the real classes of 3D Slicer: from a volume and markups of the scene to segments in it."""

from __future__ import annotations

import json
import shutil
import types

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="the package slicer-core is absent: no test on Slicer's classes")
pytest.importorskip("adaptmedseg", reason="the package adaptmedseg is absent: no run in Slicer's scene")

from AdaptMedSegLib import catalogue, geometry, library, segments  # noqa: E402
from AdaptMedSegLib.logic import ModuleLogic  # noqa: E402
from conftest import GRIDS, Ball  # noqa: E402


def parameters(**given):
    """What the panel's parameter node holds."""
    defaults = dict(
        inputVolume=None, segmentation=None, segmentId="", positivePoints=None, negativePoints=None, box=None, text="",
        model="builtin", adapter="", device="", modality="unknown", task="", policy="overwrite", liveUpdate=False,
        adapterName="", method="lora", steps=4,
    )
    return types.SimpleNamespace(**{**defaults, **given})


def volume_of(ball, name="scan"):
    return slicer.util.addVolumeFromArray(ball.voxels, ijkToRAS=ball.ijk_to_ras, name=name)


@pytest.fixture
def logic(scene):
    logic = ModuleLogic()
    yield logic
    logic.close()


def boxed(logic, volume, centre, edge=26.0, **given):
    """Parameters with a box around a place of the world."""
    chosen = parameters(inputVolume=volume, **given)
    logic.prepare_prompts(chosen)
    chosen.box.SetCenter(*centre)
    chosen.box.SetSize(edge, edge, edge)
    return chosen


def run(logic, chosen):
    """Segments and waits; returns the outcome, raises what went wrong."""
    done, failed, seen = [], [], []
    logic.segment(chosen, done.append, failed.append, seen.append)
    assert logic.segmenter.runner.wait(120)
    if failed:
        raise failed[0]
    assert seen and seen[-1].fraction == pytest.approx(1.0)
    return done[0]


def mask_of(chosen):
    return segments.read(chosen.segmentation, chosen.segmentId, chosen.inputVolume)


def test_a_segment_lies_where_the_structure_is_on_every_grid(logic, ball):
    volume = volume_of(ball)
    chosen = boxed(logic, volume, ball.CENTRE)
    outcome = run(logic, chosen)
    mask = mask_of(chosen)
    assert ball.dice(mask) > 0.85
    assert outcome.voxels == mask.sum() and outcome.device == "cpu"
    # Slicer's own judgement of the place, in the world.
    centre = np.array(chosen.segmentation.GetSegmentCenterRAS(chosen.segmentId))
    assert np.linalg.norm(centre - ball.CENTRE) < 2.0
    world = (np.argwhere(mask)[:, ::-1].mean(0) @ geometry.ijk_to_ras(volume)[:3, :3].T) + ball.ijk_to_ras[:3, 3]
    assert np.linalg.norm(world - ball.CENTRE) < 2.0


def test_points_and_boxes_follow_the_transforms_of_volume_and_markups(logic, lps_ball):
    import vtk

    straight = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
    run(logic, straight)
    expected = mask_of(straight)

    matrix = vtk.vtkMatrix4x4()
    for row, value in enumerate((30.0, -12.0, 5.0)):
        matrix.SetElement(row, 3, value)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix)
    volume = volume_of(lps_ball, "moved")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    moved = boxed(logic, volume, lps_ball.CENTRE + [30.0, -12.0, 5.0])
    run(logic, moved)
    assert np.array_equal(mask_of(moved), expected)
    centre = np.zeros(3)
    centre[:] = moved.segmentation.GetSegmentCenterRAS(moved.segmentId)
    assert np.linalg.norm(centre - (lps_ball.CENTRE + [30.0, -12.0, 5.0])) < 2.0


def test_undo_and_redo_take_mask_and_prompts_back(logic, lps_ball):
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
    run(logic, chosen)
    first = mask_of(chosen)
    chosen.positivePoints.AddControlPoint(*lps_ball.CENTRE)
    chosen.negativePoints.AddControlPoint(*(lps_ball.CENTRE + [0.0, 0.0, 11.0]))
    run(logic, chosen)
    second = mask_of(chosen)
    assert chosen.positivePoints.GetNumberOfControlPoints() == 1

    assert logic.undo(chosen)
    assert np.array_equal(mask_of(chosen), first)
    assert chosen.positivePoints.GetNumberOfControlPoints() == 0
    assert chosen.negativePoints.GetNumberOfControlPoints() == 0
    assert chosen.box.GetSize() == pytest.approx((26.0, 26.0, 26.0))
    assert logic.undo(chosen)
    assert not mask_of(chosen).any() and not logic.segmenter.can_undo
    assert chosen.box.GetNumberOfDefinedControlPoints() == 0
    assert not logic.undo(chosen)

    assert logic.redo(chosen) and logic.redo(chosen) and not logic.redo(chosen)
    assert np.array_equal(mask_of(chosen), second)
    assert chosen.positivePoints.GetNthControlPointPositionWorld(0) == pytest.approx(tuple(lps_ball.CENTRE))
    assert chosen.box.GetCenter() == pytest.approx(tuple(lps_ball.CENTRE))


def test_a_further_point_runs_on_what_was_computed(logic, lps_ball):
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
    run(logic, chosen)
    session = logic.segmenter._session
    chosen.positivePoints.AddControlPoint(*lps_ball.CENTRE)
    run(logic, chosen)
    assert logic.segmenter._session is session and session.report()["windows_cached"] > 0
    # Other voxels: another session.
    slicer.util.updateVolumeFromArray(chosen.inputVolume, lps_ball.voxels[::-1].copy())
    chosen.inputVolume.GetImageData().Modified()
    run(logic, chosen)
    assert logic.segmenter._session is not session


@pytest.mark.parametrize("policy", segments.POLICIES)
def test_finished_segments_give_way_stay_or_share(logic, lps_ball, policy):
    volume = volume_of(lps_ball)
    chosen = boxed(logic, volume, lps_ball.CENTRE, policy=policy)
    logic.prepare(chosen)
    half = lps_ball.truth.copy()
    half[: half.shape[0] // 2] = False
    finished = segments.add(chosen.segmentation, "finished")
    segments.write(chosen.segmentation, finished, half.astype(np.uint8), volume)
    run(logic, chosen)
    new, before = mask_of(chosen), segments.read(chosen.segmentation, finished, volume)
    # Nothing finished is touched while the new segment can still change.
    assert np.array_equal(before, half)
    logic.next_segment(chosen)
    after = segments.read(chosen.segmentation, finished, volume)
    new_id = next(name for name in chosen.segmentation.GetSegmentation().GetSegmentIDs() if name != finished)
    new = segments.read(chosen.segmentation, new_id, volume)
    both = (after & new).sum()
    if policy == segments.OVERWRITE:
        assert both == 0 and after.sum() < half.sum() and lps_ball.dice(new) > 0.85
    elif policy == segments.KEEP:
        assert both == 0 and np.array_equal(after, half)
    else:
        assert both > 0 and np.array_equal(after, half) and lps_ball.dice(new) > 0.85
    assert chosen.segmentId == "" and not logic.prompts(chosen) and not logic.segmenter.can_undo


def test_a_name_gives_the_segment_its_code_and_colour(logic, lps_ball):
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE, text="left kidney")
    logic.prepare(chosen)
    segment = chosen.segmentation.GetSegmentation().GetSegment(chosen.segmentId)
    assert segment.GetName() == "left kidney"
    entry = segment.GetTerminology()
    assert "SCT^64033007^Kidney~SCT^7771000^Left" in entry
    assert segment.GetColor() == pytest.approx((185 / 255, 102 / 255, 83 / 255))
    chosen.text = "spleen"
    logic.prepare(chosen)
    assert segment.GetName() == "spleen" and "78961009^Spleen~^^" in segment.GetTerminology()
    assert segments.look_of("the thing") is None and segments.look_of("left right kidney") is None


def test_what_cannot_be_segmented_is_said_and_changes_nothing(logic, lps_ball):
    volume = volume_of(lps_ball)
    fail = lambda chosen: logic.segment(chosen, print, print)  # noqa: E731
    with pytest.raises(ValueError, match="no volume"):
        fail(parameters(text="liver"))
    with pytest.raises(ValueError, match="no prompt"):
        fail(parameters(inputVolume=volume))
    with pytest.raises(ValueError, match="beside the volume"):
        fail(boxed(logic, volume, lps_ball.CENTRE + 500.0))
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(ValueError, match="empty has no voxels"):
        fail(boxed(logic, empty, lps_ball.CENTRE))
    lost = parameters(inputVolume=volume)
    logic.prepare_prompts(lost)
    lost.positivePoints.AddControlPoint(900.0, 0.0, 0.0)
    with pytest.raises(Exception, match="outside the image") as raised:
        run(logic, lost)
    assert "voxel" in library.explain(raised.value)
    unknown = boxed(logic, volume, lps_ball.CENTRE, model="/no/such/model")
    with pytest.raises(Exception, match="/no/such/model"):
        run(logic, unknown)
    # And a good run goes on to work.
    chosen = boxed(logic, volume, lps_ball.CENTRE)
    run(logic, chosen)
    assert lps_ball.dice(mask_of(chosen)) > 0.85


def test_a_cancelled_run_changes_nothing(logic, lps_ball):
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
    run(logic, chosen)
    before = mask_of(chosen)
    chosen.positivePoints.AddControlPoint(*lps_ball.CENTRE)
    failed, done = [], []
    logic.segment(chosen, done.append, failed.append)
    logic.segmenter.cancel()
    assert logic.segmenter.runner.wait(60)
    assert not done and type(failed[0]).__name__ == "CancelledError"
    assert np.array_equal(mask_of(chosen), before)
    with pytest.raises(RuntimeError, match="going on"):
        logic.segment(chosen, done.append, failed.append)
        logic.segment(chosen, done.append, failed.append)
    assert logic.segmenter.runner.wait(60) and len(done) == 1


def test_nodes_may_go_while_a_run_goes_on(logic, lps_ball):
    failed, done = [], []
    for gone in ("segmentation", "inputVolume"):
        chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
        logic.segment(chosen, done.append, failed.append)
        slicer.mrmlScene.RemoveNode(getattr(chosen, gone))
        assert logic.segmenter.runner.wait(60)
        assert not done and "removed" in str(failed[-1])
    # The whole scene, as when another is opened.
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
    logic.segment(chosen, done.append, failed.append)
    logic.reset()
    slicer.mrmlScene.Clear(False)
    assert not logic.poll() and len(failed) == 2 and not done
    again = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
    run(logic, again)
    assert lps_ball.dice(mask_of(again)) > 0.85


def test_changes_of_prompts_are_announced_but_not_those_of_an_undo(logic, lps_ball):
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE)
    heard = []
    logic.observe(chosen, lambda: heard.append(1))
    chosen.positivePoints.AddControlPoint(*lps_ball.CENTRE)
    assert len(heard) == 1
    run(logic, chosen)
    before = len(heard)
    logic.undo(chosen)
    assert len(heard) == before
    logic.unobserve()
    chosen.positivePoints.AddControlPoint(*lps_ball.CENTRE)
    assert len(heard) == before


def test_a_scene_that_was_saved_and_opened_again_has_the_segment(slicer_host, logic, lps_ball, tmp_path):
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE, text="spleen")
    run(logic, chosen)
    mask = mask_of(chosen)
    logic.next_segment(chosen)
    slicer_host.save_mrb(tmp_path / "scene.mrb")
    logic.reset()
    slicer_host.load_mrb(tmp_path / "scene.mrb")
    volume = slicer.mrmlScene.GetFirstNodeByName("scan")
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    inside = segmentation.GetSegmentation()
    segment_id = inside.GetNthSegmentID(0)
    assert np.array_equal(segments.read(segmentation, segment_id, volume), mask)
    assert "78961009^Spleen" in inside.GetSegment(segment_id).GetTerminology()


def test_segments_that_other_programs_read_are_the_same(slicer_host, logic, tmp_path):
    slicerio = pytest.importorskip("slicerio", reason="the package slicerio is absent: segments are read by Slicer alone")
    ball = Ball(GRIDS["oblique"])
    chosen = boxed(logic, volume_of(ball), ball.CENTRE, text="liver")
    run(logic, chosen)
    path = str(tmp_path / "liver.seg.nrrd")
    slicer_host.save_node(chosen.segmentation, path)
    read = slicerio.read_segmentation(path)
    assert [segment["name"] for segment in read["segments"]] == ["liver"]
    # Voxel indices of the file to LPS, as slicerio gives them; the file is cropped to the segment.
    found = np.argwhere(read["voxels"] == read["segments"][0]["labelValue"])
    lps = found @ read["ijkToLPS"][:3, :3].T + read["ijkToLPS"][:3, 3]
    centre = lps.mean(0) * [-1.0, -1.0, 1.0]
    assert len(found) == mask_of(chosen).sum() and np.linalg.norm(centre - ball.CENTRE) < 2.0


def test_segments_make_an_adapter_that_is_used_at_once(logic, lps_ball, tmp_path):
    chosen = boxed(logic, volume_of(lps_ball, "first"), lps_ball.CENTRE, text="prostate", modality="MR")
    run(logic, chosen)
    assert logic.add_pairs(chosen) == 1 and logic.add_pairs(chosen) == 0
    assert logic.pairs[0].title == "first: prostate (MR)"
    done, failed, seen = [], [], []
    start = lambda: logic.train(chosen, tmp_path, done.append, failed.append, seen.append)  # noqa: E731
    with pytest.raises(ValueError, match="needs a name"):
        start()
    chosen.adapterName = "prostate-mr"
    folder = start()
    with pytest.raises(RuntimeError, match="going on"):
        start()
    assert logic.trainer.runner.wait(300) and not failed
    assert done == [folder] and seen[-1].step == 4 and logic.curve.steps == len({point.step for point in seen})
    assert logic.curve.chart.GetNumberOfPlotSeriesNodes() == 3
    with pytest.raises(ValueError, match="is there already"):
        start()
    [entry] = catalogue.adapters(tmp_path)
    assert entry.tasks == ("prostate",) and entry.modalities == ("MR",) and entry.license
    base = mask_of(chosen)
    chosen.adapter = entry.path
    run(logic, chosen)
    assert lps_ball.dice(mask_of(chosen)) > 0.7
    # Without it the model is what it was, bit for bit.
    chosen.adapter = ""
    run(logic, chosen)
    assert np.array_equal(mask_of(chosen), base)


def test_a_cancelled_training_goes_on_and_a_lost_pair_is_said(logic, lps_ball, tmp_path):
    chosen = boxed(logic, volume_of(lps_ball), lps_ball.CENTRE, adapterName="again", steps=6)
    run(logic, chosen)
    logic.add_pairs(chosen)
    done, failed = [], []
    progress = lambda point: logic.trainer.cancel()  # noqa: E731
    folder = logic.train(chosen, tmp_path, done.append, failed.append, progress)
    assert logic.trainer.runner.wait(300)
    assert type(failed[0]).__name__ == "CancelledError", failed[0]
    assert logic.trainer.unfinished(folder) and not folder.exists()
    logic.train(chosen, tmp_path, done.append, failed.append)
    assert logic.trainer.runner.wait(300) and done == [folder] and folder.is_dir()
    slicer.mrmlScene.RemoveNode(chosen.inputVolume)
    chosen.adapterName = "other"
    with pytest.raises(ValueError, match="pair is gone"):
        logic.train(chosen, tmp_path, done.append, failed.append)


def test_the_catalogue_lists_what_can_be_read(tmp_path):
    assert [entry.path for entry in catalogue.models(None)] == ["builtin"]
    assert catalogue.models(tmp_path / "absent") == catalogue.models(None)
    good, bad = tmp_path / "segvol", tmp_path / "damaged"
    good.mkdir(), bad.mkdir()
    (good / "config.json").write_text(json.dumps({"name": "segvol", "license": "MIT"}))
    (good / "MODEL_CARD.md").write_text("# Model card\n\nA foundation model\nfor CT.\n\nMore.\n")
    (bad / "config.json").write_text("{")
    [_, entry] = catalogue.models(tmp_path)
    assert entry.title == "A foundation model for CT.\nLicence: MIT"
    (good / "mr").mkdir(parents=True)
    shutil.copy(good / "config.json", good / "mr" / "adapter.json")
    assert [adapter.license for adapter in catalogue.adapters(good)] == ["MIT"]


def test_without_the_library_the_reason_is_said(monkeypatch, logic, lps_ball):
    import sys

    monkeypatch.setitem(sys.modules, "adaptmedseg", None)
    with pytest.raises(library.LibraryUnavailable, match="install the extension again"):
        logic.segment(boxed(logic, volume_of(lps_ball), lps_ball.CENTRE), print, print)
