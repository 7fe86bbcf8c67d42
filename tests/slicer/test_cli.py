"""AdaptMedSegCLI as a program. Scans are written, and label maps judged, by SimpleITK, nibabel, pynrrd and pydicom,
never by the code under test. Places are judged in the world, by a ball whose centre is known there.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from cli_program import BALL_BOX, FLIP, ROOT, as_itk, program, run, write_scan
from conftest import GRIDS, Ball

sitk = pytest.importorskip("SimpleITK", reason="skipped: SimpleITK is absent")

BOX = ("--box", BALL_BOX)
CENTRE = ",".join(map(str, Ball.CENTRE))
USAGE, CONTENT, IO, UNSUPPORTED, CANCELLED = 2, 3, 4, 5, 130


@pytest.fixture(autouse=True)
def needs_program():
    program()


@pytest.fixture
def scan(lps_ball, tmp_path):
    return write_scan(lps_ball, tmp_path / "scan.nrrd")


def dice_in_world(ball, labels):
    """Dice of a label map on any grid and the ball, at the places of the ball's voxels."""
    moved = sitk.Resample(labels, as_itk(ball), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return ball.dice(sitk.GetArrayFromImage(moved))


def assert_same_grid(one, other, tolerance):
    assert one.GetSize() == other.GetSize()
    np.testing.assert_allclose(one.GetSpacing(), other.GetSpacing(), rtol=tolerance)
    np.testing.assert_allclose(one.GetOrigin(), other.GetOrigin(), atol=100 * tolerance)
    np.testing.assert_allclose(one.GetDirection(), other.GetDirection(), atol=tolerance)


# NIfTI holds places in 32-bit numbers, MetaImage in text.
@pytest.mark.parametrize(("ending", "tolerance"), [("nrrd", 1e-12), ("nii.gz", 1e-6), ("mha", 1e-6), ("mhd", 1e-6)])
def test_the_label_map_lies_on_the_grid_of_the_image_and_in_the_ball(ball, tmp_path, ending, tolerance):
    scan = write_scan(ball, tmp_path / f"scan.{ending}")
    out = tmp_path / f"labels.{ending}"
    done = run(*BOX, scan, out, results=tmp_path / "results.txt")
    assert (done.code, done.err) == (0, "")
    labels = sitk.ReadImage(str(out))
    assert labels.GetPixelID() == sitk.sitkUInt8
    assert_same_grid(labels, sitk.ReadImage(str(scan)), tolerance)
    mask = sitk.GetArrayFromImage(labels)
    assert set(np.unique(mask)) == {0, 1}
    assert ball.dice(mask) > 0.8
    assert int(done.results["voxels"]) == np.count_nonzero(mask)
    assert float(done.results["volumeMl"]) == pytest.approx(np.count_nonzero(mask) * np.prod(ball.SPACING) / 1000.0)
    assert done.results["deviceUsed"] == "cpu"


def test_other_readers_see_the_same_grid(ball, tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="skipped: nibabel is absent")
    nrrd = pytest.importorskip("nrrd", reason="skipped: pynrrd is absent")
    scan = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(ball.voxels.transpose(2, 1, 0), ball.ijk_to_ras), scan)
    assert run(*BOX, scan, tmp_path / "labels.nii.gz").code == 0
    labels = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(labels.affine, ball.ijk_to_ras, atol=1e-4)
    assert ball.dice(np.asarray(labels.dataobj).transpose(2, 1, 0)) > 0.8

    assert run(*BOX, scan, tmp_path / "labels.nrrd").code == 0
    voxels, header = nrrd.read(str(tmp_path / "labels.nrrd"))
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_allclose(header["space directions"], (FLIP @ ball.ijk_to_ras[:3, :3]).T, atol=1e-5)
    np.testing.assert_allclose(header["space origin"], FLIP @ ball.ijk_to_ras[:3, 3], atol=1e-4)
    assert np.array_equal(voxels, np.asarray(labels.dataobj))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_order_and_flip_of_axes_do_not_matter(lps_ball, tmp_path, order):
    """Eight flips of each order: 48 ways to store the same patient, one mask in the world."""
    scan = write_scan(lps_ball, tmp_path / "scan.nrrd")
    prompts = (*BOX, "--positivePoints", CENTRE, "--negativePoints", "20,5,40")
    assert run(*prompts, scan, tmp_path / "expected.nrrd").code == 0
    expected = sitk.ReadImage(str(tmp_path / "expected.nrrd"))
    for flip in itertools.product([False, True], repeat=3):
        turned = sitk.Flip(sitk.PermuteAxes(as_itk(lps_ball), order), flip)
        sitk.WriteImage(turned, str(tmp_path / "turned.nrrd"))
        assert run(*prompts, tmp_path / "turned.nrrd", tmp_path / "labels.nrrd").code == 0
        labels = sitk.ReadImage(str(tmp_path / "labels.nrrd"))
        moved = sitk.Resample(labels, expected, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        assert np.array_equal(sitk.GetArrayViewFromImage(moved), sitk.GetArrayViewFromImage(expected)), flip


def test_points_are_ras_millimetres(ball, tmp_path):
    """The corner voxel is in the image, a point a little beyond it is not; mistaken for LPS neither would be so."""
    scan = write_scan(ball, tmp_path / "scan.nrrd")
    corner = (ball.ijk_to_ras @ [*(np.array(ball.SIZE) - 1), 1])[:3]
    beyond = (ball.ijk_to_ras @ [*(np.array(ball.SIZE) - 0.2), 1])[:3]
    at = [",".join(f"{value:.6f}" for value in place) for place in (corner, beyond)]
    assert run(*BOX, "--negativePoints", at[0], scan, tmp_path / "labels.nrrd").code == 0
    done = run(*BOX, "--negativePoints", at[1], scan, tmp_path / "other.nrrd")
    assert done.code == USAGE and "outside the image" in done.err and "right-anterior-superior" in done.err
    assert not (tmp_path / "other.nrrd").exists()


def test_a_point_makes_the_object_around_it(ball, tmp_path):
    scan = write_scan(ball, tmp_path / "scan.nrrd")
    assert run("--positivePoints", CENTRE, scan, tmp_path / "labels.nrrd").code == 0
    labels = sitk.ReadImage(str(tmp_path / "labels.nrrd"))
    assert labels[labels.TransformPhysicalPointToIndex((FLIP @ ball.CENTRE).tolist())] == 1


def test_of_a_rotated_region_the_enclosing_box_is_taken(scan, tmp_path):
    """Slicer appends the axes of a rotated region: the columns of a matrix, row by row."""
    angle = np.deg2rad(30.0)
    c, s = np.cos(angle), np.sin(angle)
    region = "12,-7,31,10,16,12," + ",".join(map(str, [c, -s, 0, s, c, 0, 0, 0, 1]))
    done = run("--box", region, scan, tmp_path / "rotated.nrrd")
    assert done.code == 0 and "enclosing box" in done.out
    enclosing = f"12,-7,31,{10 * c + 16 * s},{10 * s + 16 * c},12"
    assert "enclosing box" not in run("--box", enclosing, scan, tmp_path / "straight.nrrd").out
    assert (tmp_path / "rotated.nrrd").read_bytes() == (tmp_path / "straight.nrrd").read_bytes()


def test_the_label_value_is_the_users(scan, lps_ball, tmp_path):
    assert run(*BOX, "--label=7", "--threads", 1, "--modality", "MR", scan, tmp_path / "labels.nrrd").code == 0
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels.nrrd")))
    assert set(np.unique(mask)) == {0, 7}
    assert lps_ball.dice(mask) > 0.8


def test_what_hosts_add_is_accepted(scan, tmp_path):
    added = ("--processinformationaddress", "0x7ffe", "--logLevel", "5", "--echo")
    assert run(*added, *BOX, scan, tmp_path / "labels.nrrd").code == 0


def test_progress_and_nothing_else_is_said_to_the_host(scan, tmp_path):
    done = run(*BOX, scan, tmp_path / "labels.nrrd")
    assert done.out.startswith("<filter-start>\n<filter-name>AdaptMedSegCLI</filter-name>")
    shares = [float(line[17:-18]) for line in done.out.splitlines() if line.startswith("<filter-progress>")]
    assert shares[0] == 0.0 and shares[-1] == 1.0 and len(shares) > 4
    assert shares == sorted(set(shares))
    assert "</filter-end>" in done.out


def write_series(ball, folder, series="2.25.7", leave_out=()):
    """The ball as a CT series by pydicom, one file per slice, named out of order."""
    pydicom = pytest.importorskip("pydicom", reason="skipped: pydicom is absent")
    folder.mkdir(exist_ok=True)
    directions = FLIP @ ball.ijk_to_ras[:3, :3] / np.array(ball.SPACING)
    for k, voxels in enumerate(ball.voxels):
        if k in leave_out:
            continue
        slice_ = pydicom.Dataset()
        slice_.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        slice_.SOPInstanceUID = f"{series}.{k + 1}"
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID = series, "2.25.1"
        slice_.Modality, slice_.SeriesNumber, slice_.InstanceNumber = "CT", 1, k + 1
        slice_.Rows, slice_.Columns = voxels.shape
        slice_.PixelSpacing = [ball.SPACING[1], ball.SPACING[0]]
        slice_.SliceThickness = ball.SPACING[2]
        place = FLIP @ (ball.ijk_to_ras @ [0, 0, k, 1])[:3]
        slice_.ImagePositionPatient = [f"{value:.10g}" for value in place]
        slice_.ImageOrientationPatient = [f"{value:.10g}" for value in directions[:, :2].T.ravel()]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        # Stored values are not intensities: whoever forgets the rescaling sees a dark ball on a bright ground.
        slice_.RescaleSlope, slice_.RescaleIntercept = -1, 1000
        slice_.PixelData = (1000 - voxels).astype("<i2").tobytes()
        slice_.file_meta = pydicom.dataset.FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        slice_.save_as(folder / f"{series}-{(k * 17) % 36:02}.dcm", enforce_file_format=True)
    return folder


def test_a_dicom_series_is_read_from_its_folder_or_one_of_its_files(ball, tmp_path):
    folder = write_series(ball, tmp_path / "dicom")
    assert run(*BOX, folder, tmp_path / "by-folder.nrrd").code == 0
    write_series(ball, folder, series="2.25.8")
    done = run(*BOX, folder, tmp_path / "other.nrrd")
    assert done.code == CONTENT and "2 DICOM series" in done.err
    assert run(*BOX, folder / "2.25.7-05.dcm", tmp_path / "by-file.nrrd").code == 0
    assert (tmp_path / "by-folder.nrrd").read_bytes() == (tmp_path / "by-file.nrrd").read_bytes()

    labels = sitk.ReadImage(str(tmp_path / "by-file.nrrd"))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), "2.25.7"))
    assert_same_grid(labels, reader.Execute(), 1e-6)
    assert dice_in_world(ball, labels) > 0.8


def test_slices_of_a_tilted_gantry_stay_where_they_are(tmp_path):
    """Each slice is shifted against the one before: a grid whose axes are not at right angles."""
    tilt = np.deg2rad(15.0)
    ball = Ball(GRIDS["LPS"] @ np.array([[1.0, 0.0, 0.0], [0.0, 1.0, np.sin(tilt)], [0.0, 0.0, np.cos(tilt)]]))
    assert run(*BOX, write_series(ball, tmp_path / "dicom"), tmp_path / "labels.nrrd").code == 0
    labels = sitk.ReadImage(str(tmp_path / "labels.nrrd"))
    assert_same_grid(labels, as_itk(ball), 1e-6)
    assert ball.dice(sitk.GetArrayFromImage(labels)) > 0.8
    refused(run(*BOX, tmp_path / "dicom", tmp_path / "labels.nii.gz"), UNSUPPORTED, "cannot hold the grid")


def test_dicom_that_is_no_even_volume_is_refused(lps_ball, tmp_path):
    gap = write_series(lps_ball, tmp_path / "gap", leave_out=(10, 11))
    done = run(*BOX, gap, tmp_path / "labels.nrrd")
    assert done.code == UNSUPPORTED and "not evenly spaced" in done.err
    single = write_series(lps_ball, tmp_path / "single", leave_out=range(1, 36))
    assert run(*BOX, single, tmp_path / "labels.nrrd").code == UNSUPPORTED
    (tmp_path / "empty").mkdir()
    assert run(*BOX, tmp_path / "empty", tmp_path / "labels.nrrd").code == CONTENT


def refused(done, code, message):
    """The form of every failure: what, and what to do about it."""
    assert done.code == code, done.err
    first, *rest = done.err.splitlines()
    assert first.startswith("error: ") and message in first, done.err
    assert len(rest) == 1 and rest[0].startswith("  hint: "), done.err
    assert "</filter-end>" not in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--boxes", "1,2,3", "a", "b"], "unknown argument --boxes"),
        (["-x", "a", "b"], "unknown argument -x"),
        (["--box"], "--box has no value"),
        (["--box", "1,2,3", "a", "b"], "--box: 3 numbers where 6 are needed"),
        (["--positivePoints", "1,2", "a", "b"], "--positivePoints: 2 numbers where 3 are needed"),
        (["--positivePoints", "1,2,x", "a", "b"], '--positivePoints: "x" is not a number'),
        (["--positivePoints", "1,,3", "a", "b"], '--positivePoints: "" is not a number'),
        (["--positivePoints", "1,2,nan", "a", "b"], '"nan" is not a number'),
        (["--label", "0", "a", "b"], '--label: "0" is not a whole number from 1 to 255'),
        (["--label", "1.5", "a", "b"], '"1.5" is not a whole number'),
        (["--threads", "-1", "a", "b"], '"-1" is not a whole number'),
        (["--modality", "PET", "a", "b"], '--modality: "PET" is none of unknown, CT, MR'),
        (["--text", "liver", "--text", "spleen", "a", "b"], "--text is given twice"),
        (["--text", "liver", "a"], "1 file names where 2 are needed"),
        (["--text", "liver", "a", "b", "c"], "3 file names where 2 are needed"),
        (["a", "b"], "no prompt"),
        (["--text", "liver", "--task", "liver", "a", "b"], "--task is for an adapter"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(arguments, message):
    refused(run(*arguments), USAGE, message)


def test_prompts_that_cannot_be_used_are_named(scan, tmp_path):
    out = tmp_path / "labels.nrrd"
    refused(run("--positivePoints", "500,0,0", scan, out), USAGE, "outside the image")
    refused(run("--box", "900,0,0,5,5,5", scan, out), USAGE, "box")
    refused(run("--box", "12,-7,31,0,0,0", scan, out), USAGE, "box")
    refused(run(*BOX, "--device", "warp", scan, out), USAGE, "warp")
    assert not out.exists()


def test_images_that_cannot_be_segmented_are_named(lps_ball, tmp_path):
    out = tmp_path / "labels.nrrd"

    def given(image, name="image.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name))
        return run(*BOX, tmp_path / name, out)

    one = as_itk(lps_ball)
    refused(run(*BOX, tmp_path / "none.nrrd", out), IO, "no such file")
    refused(given(sitk.Compose(one, one, one)), UNSUPPORTED, "3 values per voxel")
    refused(given(sitk.JoinSeries([one, one]), "image.nii.gz"), UNSUPPORTED, "4 dimensions")
    refused(given(one[:, :, 3]), UNSUPPORTED, "2-D")
    constant = given(one * 0)
    assert constant.code == CONTENT and "image.nrrd: constant image" in constant.err
    (tmp_path / "text.nrrd").write_text("This is no image.")
    refused(run(*BOX, tmp_path / "text.nrrd", out), CONTENT, "text.nrrd")
    whole = write_scan(lps_ball, tmp_path / "whole.nrrd").read_bytes()
    (tmp_path / "cut.nrrd").write_bytes(whole[: len(whole) // 2])
    refused(run(*BOX, tmp_path / "cut.nrrd", out), CONTENT, "cut.nrrd")
    assert not out.exists()


def test_models_that_cannot_be_used_are_named(scan, tmp_path):
    out = tmp_path / "labels.nrrd"
    refused(run(*BOX, "--model", tmp_path / "none", scan, out), IO, "none")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    assert run(*BOX, "--model", tmp_path / "broken", scan, out).code in (CONTENT, IO)
    assert run(*BOX, "--adapter", tmp_path / "none", scan, out).code in (CONTENT, IO)
    assert not out.exists()


def test_an_adapter_and_its_task_are_used(scan, tmp_path):
    command = Path(os.environ.get("ADAPTMEDSEG_LIBRARY_DIR", "absent")) / "adaptmedseg"
    if not command.exists():
        pytest.skip("skipped: ADAPTMEDSEG_LIBRARY_DIR has no command adaptmedseg to make an adapter with")
    data, adapter = tmp_path / "data", tmp_path / "adapter"
    phantom = ["phantom", "--out", data, "--count", "3", "--modality", "mr", "--size", "40,36,30"]
    learn = ["finetune", "--model", "builtin", "--data", data, "--out", adapter, "--method", "prior", "--steps", "2"]

    def make(*words):
        subprocess.run([str(word) for word in (command, *words, "--quiet")], check=True, timeout=300)

    make(*phantom)
    pairs = json.loads((data / "pairs.json").read_text())
    (data / "pairs.json").write_text(json.dumps([pair for pair in pairs if pair["label"] == "liver"]))
    make(*learn)
    out = tmp_path / "labels.nrrd"
    assert run(*BOX, "--adapter", adapter, "--task", "liver", "--modality", "MR", scan, out).code == 0
    refused(run(*BOX, "--adapter", adapter, "--task", "nothing", scan, out), USAGE, 'no task "nothing"')


def test_outputs_that_cannot_be_written_are_named_before_anything_is_computed(scan, lps_ball, tmp_path):
    refused(run(*BOX, scan, tmp_path / "no" / "labels.nrrd"), IO, "No such file")
    refused(run(*BOX, scan, tmp_path), IO, "is a folder")
    refused(run(*BOX, scan, scan), USAGE, "would be replaced")
    oblique = write_scan(Ball(GRIDS["oblique"]), tmp_path / "oblique.nrrd")
    # An unknown ending; no third dimension; no direction of axes; DICOM, which a label map is not.
    for name in ("labels.xyz", "labels.png", "labels.vtk", "labels.dcm"):
        refused(run(*BOX, oblique, tmp_path / name), UNSUPPORTED, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["oblique.nrrd", "scan.nrrd"]


def test_a_label_map_that_is_there_is_replaced_by_a_complete_one_only(scan, tmp_path):
    out = tmp_path / "labels.nrrd"
    out.write_text("old")
    assert run("--positivePoints", "500,0,0", scan, out).code == USAGE
    assert out.read_text() == "old"
    assert run(*BOX, scan, out).code == 0
    assert sitk.ReadImage(str(out)).GetPixelID() == sitk.sitkUInt8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.nrrd", "scan.nrrd"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A scan that takes some seconds: noise all over, and a box around all of it."""
    folder = tmp_path_factory.mktemp("long")
    voxels = np.random.default_rng(1).normal(100, 30, (256, 320, 320)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / "scan.nrrd"))
    return folder / "scan.nrrd", ("--box", "-160,-160,128,150,150,120", "--mode", "reference", "--threads", "1")


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nothing(long_run, tmp_path, number):
    scan, prompts = long_run
    results = tmp_path / "results.txt"
    words = [program(), *prompts, "--returnparameterfile", results, scan, tmp_path / "labels.nrrd"]
    child = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in child.stdout:
        if line.startswith("<filter-progress>") and float(line[17:-19]) > 0.10:
            break
    assert child.poll() is None, "the run was over too early"
    began = time.monotonic()
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == []
    if number == signal.SIGKILL:
        # How Slicer cancels: there is no time to clean up, so there must be nothing to clean.
        assert child.returncode == -signal.SIGKILL
    else:
        assert child.returncode == CANCELLED
        assert err == "error: cancelled; nothing was written\n"


def test_help_tells_every_argument_and_the_version_is_the_librarys():
    done = run("--help")
    assert done.code == 0 and done.err == ""
    for flag in ("--text", "--positivePoints", "--negativePoints", "--box", "--returnparameterfile", "--xml"):
        assert flag in done.out
    version = run("--version")
    declared = next(line for line in (ROOT / "Cargo.toml").read_text().splitlines() if line.startswith("version = "))
    assert version.out == f"AdaptMedSegCLI {declared.split(chr(34))[1]}\n"
    bare = run()
    assert bare.code == USAGE and bare.out == "" and "Usage:" in bare.err
