"""The Python package against the installed wheel: geometry, results, errors, cancellation, threads."""

from __future__ import annotations

import _thread
import re
import signal
import threading
import time
from pathlib import Path

import adaptmedseg
import numpy as np
import pytest

README = Path(__file__).parents[2] / "plugins/python/README.md"


def ball(shape=(40, 48, 56), centre=(20, 24, 28), radius=10.0):
    """A bright ball with noise, and its mask."""
    grid = np.indices(shape).transpose(1, 2, 3, 0)
    inside = ((grid - np.array(centre)) ** 2).sum(-1) <= radius**2
    noise = np.random.default_rng(1).normal(0.0, 15.0, shape)
    return (inside * 300.0 + noise).astype(np.float32), inside


def dice(a, b):
    return 2.0 * np.logical_and(a, b).sum() / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture(scope="module")
def model():
    with adaptmedseg.Model("builtin") as opened:
        yield opened


def boxed(model, volume):
    session = model.session(volume)
    session.set_box((18, 14, 10), (38, 34, 30))
    return session


def test_a_box_finds_the_ball(model):
    volume, inside = ball()
    session = boxed(model, volume)
    seen = []
    mask = session.segment(progress=seen.append)
    assert mask.shape == volume.shape and mask.dtype == np.uint8
    assert dice(mask, inside) > 0.8
    assert seen[0].fraction == 0.0 and seen[-1].fraction == pytest.approx(1.0)
    assert session.voxels == np.count_nonzero(mask)
    assert session.volume_ml == pytest.approx(np.count_nonzero(mask) / 1000.0)
    probabilities = session.probabilities()
    assert np.array_equal(probabilities > 0.5, mask > 0)
    assert np.array_equal(session.mask(7), mask * 7)
    assert session.report()["mask_voxels"] == session.voxels


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64", "float16", ">i2", "bool"])
def test_every_number_type_and_any_strides_are_taken(model, dtype):
    volume, inside = ball()
    scaled = np.clip(volume / 4.0 + 30.0, 0, 120)
    voxels = inside if dtype == "bool" else scaled.astype(dtype)
    straight = boxed(model, voxels).segment()
    assert dice(straight, inside) > 0.7
    turned = np.asfortranarray(voxels)
    assert np.array_equal(boxed(model, turned).segment(), straight)
    padded = np.zeros(tuple(2 * size for size in voxels.shape), dtype=voxels.dtype)
    padded[::2, ::2, ::2] = voxels
    assert np.array_equal(boxed(model, padded[::2, ::2, ::2]).segment(), straight)


def test_geometry_goes_through(tmp_path):
    direction = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    image = adaptmedseg.Image.from_array(np.zeros((4, 5, 6)), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), direction)
    assert image.size == (6, 5, 4) and image.shape == (4, 5, 6)
    assert image.spacing == (1.0, 2.0, 3.0) and image.origin == (7.0, 8.0, 9.0)
    assert np.array_equal(image.direction, direction)


def test_points_in_every_space_are_one_point(model):
    volume, _ = ball()
    image = adaptmedseg.Image.from_array(volume, (1.0, 1.5, 2.0), (10.0, 20.0, 30.0), np.diag([-1.0, 1.0, -1.0]))
    i, j, k = 28, 24, 20
    lps = (10.0 - i, 20.0 + 1.5 * j, 30.0 - 2.0 * k)
    masks = []
    for point, space in [((i, j, k), "ijk"), (lps, "lps"), ((-lps[0], -lps[1], lps[2]), "ras")]:
        session = model.session(image)
        session.add_point(point, space=space)
        masks.append(session.segment())
    assert np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])


def test_sitk_images_keep_their_geometry(model, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    volume, inside = ball()
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    session = boxed(model, image)
    mask = session.segment()
    assert dice(mask, inside) > 0.7
    session.write_mask(tmp_path / "mask.nii.gz")
    written = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(written), mask)
    for name in ["GetSpacing", "GetOrigin", "GetDirection"]:
        assert getattr(written, name)() == pytest.approx(getattr(image, name)(), abs=1e-5)


def test_nibabel_images_keep_their_geometry(model, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume, inside = ball()
    affine = np.array([[-1.0, 0, 0, 20], [0, 0, 2.0, -5], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine)
    session = boxed(model, image)
    mask = session.segment()
    assert dice(mask, inside) > 0.7
    session.write_mask(tmp_path / "mask.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    assert np.allclose(written.affine, affine, atol=1e-5)
    assert np.array_equal(np.asarray(written.dataobj).transpose(2, 1, 0), mask)
    nibabel.save(image, tmp_path / "image.nii.gz")
    assert np.array_equal(boxed(model, tmp_path / "image.nii.gz").segment(), mask)


def test_undo_and_redo(model):
    volume, _ = ball()
    session = boxed(model, volume)
    first = session.segment()
    session.add_point((28, 24, 20))
    second = session.segment()
    assert session.can_undo and not session.can_redo
    assert session.undo() and np.array_equal(session.mask(), first)
    assert session.redo() and np.array_equal(session.mask(), second)
    assert not session.redo()


def test_errors_say_what_and_what_to_do(model, tmp_path):
    volume, _ = ball()
    session = model.session(volume)
    with pytest.raises(adaptmedseg.InvalidArgumentError, match="outside the image") as raised:
        session.add_point((500, 0, 0))
    assert "ijk" in raised.value.hint and raised.value.status == "INVALID_ARGUMENT"
    with pytest.raises(adaptmedseg.InvalidArgumentError, match="no prompt"):
        session.segment()
    with pytest.raises(adaptmedseg.NoMaskError):
        session.mask()
    with pytest.raises(adaptmedseg.InvalidArgumentError, match="unknown word"):
        session.set_text("kydney")
    with pytest.raises(adaptmedseg.FileError):
        adaptmedseg.Model(tmp_path / "nowhere")
    with pytest.raises(OSError):
        adaptmedseg.Image.read(tmp_path / "nothing.nii.gz")
    with pytest.raises(ValueError, match="3-D"):
        model.session(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="constant"):
        model.session(np.zeros((4, 4, 4)))
    with pytest.raises(ValueError, match="space"):
        session.add_point((1, 1, 1), space="xyz")
    with pytest.raises(ValueError, match="shape"):
        session.set_box_from_mask(np.ones((2, 2, 2)))
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.clear_points()


def test_a_cancelled_run_changes_nothing(model):
    volume, _ = ball()
    session = boxed(model, volume)
    with adaptmedseg.CancelToken() as token:
        token.cancel()
        with pytest.raises(adaptmedseg.CancelledError):
            session.segment(cancel=token)
    assert not session.can_undo

    def stop(_):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        session.segment(progress=stop)
    assert not session.can_undo
    assert session.segment().any()


def test_control_c_cancels(model):
    session = boxed(model, np.tile(ball()[0], (3, 3, 3)))

    def interrupt(_):
        _thread.interrupt_main()
        time.sleep(0.3)

    # A shell starts background jobs with the signal ignored, and Python then leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            session.segment(progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not session.can_undo


def test_threads_run_side_by_side_and_a_session_is_one_threads(model):
    volume, _ = ball()
    wanted = boxed(model, volume).segment()
    results = [None] * 4

    def work(index):
        results[index] = boxed(model, volume).segment()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, wanted) for result in results)

    session = boxed(model, volume)
    seen = []

    def reenter(_):
        try:
            session.clear_points()
        except adaptmedseg.BusyError as error:
            seen.append(error)

    session.segment(progress=reenter)
    # The last reports are read when the run is over and the session free again.
    assert all(isinstance(error, adaptmedseg.BusyError) for error in seen)


def test_an_adapter_is_learned_and_used(model, tmp_path):
    volume, inside = ball()
    before = boxed(model, volume).segment()
    tuner = adaptmedseg.FineTune(model)
    tuner.add_pair(volume, inside, label="liver", modality="MR")
    seen = []
    options = adaptmedseg.TrainingOptions(method="lora+prior", steps=3, validate_every=3, seed=1, learning_rate=1e-3)
    adapter = tuner.run(tmp_path / "adapter", options, progress=seen.append)
    assert seen[-1].step == 3 and tuner.report()["steps"] == 3
    assert adapter.describe()["lora"]["rank"] == 8
    session = boxed(model, volume)
    session.set_adapter(adapter)
    session.set_modality("mr")
    session.set_task("liver")
    assert session.segment().any()
    session.set_adapter(None)
    assert np.array_equal(session.segment(), before)
    again = model.adapter(tmp_path / "adapter")
    assert again.describe() == adapter.describe()
    with pytest.raises(adaptmedseg.ExistsError):
        tuner.run(tmp_path / "adapter", options)


def test_devices_and_descriptions(model):
    assert any(device["name"] == "cpu" for device in adaptmedseg.devices())
    assert model.name == "builtin" and model.license == "Apache-2.0"
    assert model.describe()["supports_text"] is True
    assert re.fullmatch(r"\d+\.\d+\.\d+", adaptmedseg.__version__)
    estimate = model.session(ball()[0]).estimate_memory()
    assert estimate.total >= estimate.weights + estimate.working


def test_the_examples_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(examples) >= 4
    scope: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(README), "exec"), scope)
    assert (tmp_path / "mask.nii.gz").is_file()
