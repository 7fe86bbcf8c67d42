"""`adaptmedseg prepare` on every layout: what comes of the fixtures, read by nibabel, is what was put into them.

    ADAPTMEDSEG=target/release/adaptmedseg python -m pytest tests/study/test_prepare.py
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import fixtures
import nibabel
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(os.environ.get("ADAPTMEDSEG", ROOT / "target/release/adaptmedseg"))

if not COMMAND.exists():
    pytest.skip(f"skipped: {COMMAND} is absent: cargo build --release", allow_module_level=True)


def run(*arguments):
    return subprocess.run([COMMAND, "prepare", *map(str, arguments)], capture_output=True, text=True, check=False)


def prepared(root, out, *arguments):
    """The data set, and its list."""
    done = run("--root", root, "--out", out, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "dataset.json").read_text())


def refused(code, text, *arguments):
    """A run that fails with a message, and leaves nothing under the name asked for."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
    assert text in done.stderr and done.stderr.startswith("error: "), done.stderr
    assert not Path(arguments[arguments.index("--out") + 1]).exists()
    return done.stderr


def arguments_of(layout):
    return ["--modality", "CT"] if layout.name == "pairs" else []


@pytest.fixture(params=fixtures.LAYOUTS, ids=lambda make: make.__name__)
def layout(request, tmp_path):
    return request.param(tmp_path / "download")


def test_every_layout_is_recognised_and_comes_out_as_it_went_in(layout, tmp_path):
    listed = prepared(layout.root, tmp_path / "out", *arguments_of(layout))
    assert listed["layout"] == layout.name and listed["normalisation"] == ("foreground" if layout.name == "m3d" else "none")
    cases = {case["id"]: case for case in listed["cases"]}
    assert cases.keys() == layout.cases.keys()
    for name, expected in layout.cases.items():
        case = cases[name]
        assert (case["modality"], case["subject"], case["contrast"]) == (
            expected.modality, expected.subject, expected.contrast,
        )
        image = nibabel.load(tmp_path / "out" / case["image"]["path"])
        assert np.array_equal(np.asanyarray(image.dataobj), expected.image), name
        if expected.affine is not None:
            assert np.allclose(image.affine, expected.affine, atol=1e-4), name
        assert case["masks"].keys() == expected.masks.keys(), name
        for structure, wanted in expected.masks.items():
            entry = case["masks"][structure]
            mask = nibabel.load(tmp_path / "out" / entry["path"])
            assert np.array_equal(np.asanyarray(mask.dataobj), wanted), (name, structure)
            assert np.allclose(mask.affine, image.affine, atol=1e-6) and entry["voxels"] == wanted.sum()


def test_parts_are_split_by_subject_and_files_have_their_checksums(layout, tmp_path):
    listed = prepared(layout.root, tmp_path / "out", "--split", "0.5,0.25,0.25", "--seed", 3, *arguments_of(layout))
    parts = {}
    for case in listed["cases"]:
        parts.setdefault(case["subject"], set()).add(case["part"])
        for entry in (case["image"], *case["masks"].values()):
            data = (tmp_path / "out" / entry["path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert all(len(there) == 1 for there in parts.values())
    assert {"train", "test"} <= set().union(*parts.values())
    again = prepared(layout.root, tmp_path / "again", "--split", "0.5,0.25,0.25", "--seed", 3, *arguments_of(layout))
    assert [case["part"] for case in again["cases"]] == [case["part"] for case in listed["cases"]]


def test_the_own_split_of_m3d_is_kept(tmp_path):
    layout = fixtures.m3d(tmp_path / "download")
    listed = prepared(layout.root, tmp_path / "out")
    assert [case["id"] for case in listed["cases"] if case["part"] == "test"] == ["0003-case4"]


def test_classes_are_merged_and_spellings_kept_in_a_table(tmp_path):
    layout = fixtures.msd_prostate(tmp_path / "download")
    listed = prepared(layout.root, tmp_path / "out", "--classes", "prostate=PZ+TZ")
    assert listed["labels"] == {"PZ": "prostate", "TZ": "prostate"} and listed["license"] == "CC-BY-SA 4.0"
    for case in listed["cases"]:
        mask = nibabel.load(tmp_path / "out" / case["masks"]["prostate"]["path"])
        wanted = sum(layout.cases[case["id"]].masks.values())
        assert np.array_equal(np.asanyarray(mask.dataobj), wanted)
    refused(2, 'no case has a structure "femur"', "--root", layout.root, "--out", tmp_path / "o", "--classes", "femur")


def test_foreground_normalisation_is_segvols_and_recorded(tmp_path):
    layout = fixtures.promise12(tmp_path / "download")
    listed = prepared(layout.root, tmp_path / "out", "--normalise", "foreground")
    assert listed["normalisation"] == "foreground"
    case = listed["cases"][0]
    found = np.asanyarray(nibabel.load(tmp_path / "out" / case["image"]["path"]).dataobj)
    voxels = layout.cases[case["id"]].image.astype(np.float64)
    inside = voxels[voxels > voxels.mean()]
    low, high = np.percentile(inside, 0.05), np.percentile(inside, 99.95)
    wanted = (np.clip(voxels, low, high) - inside.mean()) / max(inside.std(), 1e-8)
    assert np.allclose(found, wanted, atol=2e-3)


def test_what_was_prepared_can_be_learned_from(tmp_path):
    layout = fixtures.saml(tmp_path / "download")
    prepared(layout.root, tmp_path / "out")
    done = subprocess.run(
        [COMMAND, "finetune", "--model", "builtin", "--data", tmp_path / "out", "--out", tmp_path / "adapter",
         "--method", "prior", "--steps", "1", "--quiet"],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    adapter = json.loads((tmp_path / "adapter" / "adapter.json").read_text())
    assert adapter["modalities"] == ["MR"] and adapter["tasks"] == ["prostate"]


def test_a_killed_run_goes_on(tmp_path):
    layout = fixtures.saml(tmp_path / "download")
    whole = prepared(layout.root, tmp_path / "whole", "--name", "saml")
    command = [COMMAND, "prepare", "--root", layout.root, "--out", tmp_path / "out", "--name", "saml", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / "out.partial"
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end and not list(partial.glob("cases/*/*.nii.gz")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (tmp_path / "out").exists():
        pytest.skip("skipped: the run was faster than the signal")
    # A finished file that was damaged since is made again.
    finished = sorted(partial.glob("cases/*/image.nii.gz"))
    if finished:
        finished[0].write_bytes(b"damaged")
    refused(4, "unfinished", "--root", layout.root, "--out", tmp_path / "out", "--name", "saml")
    done = run("--root", layout.root, "--out", tmp_path / "out", "--name", "saml", "--resume")
    assert done.returncode == 0, done.stderr
    listed = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert listed["cases"] == whole["cases"] and not partial.exists()


def test_what_is_missing_or_damaged_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    said = refused(3, "a layout that is not known", "--root", tmp_path / "empty", "--out", tmp_path / "a")
    assert all(name in said for name in ("msd", "promise12", "saml", "t2w", "amos", "chaos", "brats", "m3d", "pairs"))
    refused(3, "no such folder", "--root", tmp_path / "absent", "--out", tmp_path / "a")

    layout = fixtures.saml(tmp_path / "saml")
    (layout.root / "HK" / "Case01_Segmentation.nii.gz").unlink()
    refused(3, "Case01", "--root", layout.root, "--out", tmp_path / "b")

    layout = fixtures.brats(tmp_path / "brats")
    fixtures.nifti(layout.root / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz", fixtures.labels(1, [1]), np.eye(4))
    refused(3, "another grid", "--root", layout.root, "--out", tmp_path / "c")

    layout = fixtures.chaos(tmp_path / "gap")
    next((layout.root / "Train_Sets/CT/1/DICOM_anon").glob("*00004.dcm")).unlink()
    refused(3, "CT/1", "--root", layout.root, "--out", tmp_path / "d")

    layout = fixtures.chaos(tmp_path / "torn")
    slice_ = next((layout.root / "Train_Sets/CT/2/DICOM_anon").glob("*.dcm"))
    slice_.write_bytes(slice_.read_bytes()[:300])
    refused(3, slice_.name, "--root", layout.root, "--out", tmp_path / "e")

    layout = fixtures.amos(tmp_path / "amos")
    table = layout.root / "labeled_data_meta_0000_0599.csv"
    table.write_text(table.read_text().replace("amos_0500,F,Prisma", "amos_0500,F,Aquilion ONE"))
    refused(3, "its scanner makes amos_0500", "--root", layout.root, "--out", tmp_path / "f")

    refused(2, "unknown layout", "--layout", "dicom", "--root", layout.root, "--out", tmp_path / "g")
