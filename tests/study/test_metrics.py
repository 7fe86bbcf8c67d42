"""The metrics, statistics and shifts of the evaluation against scipy and, where it is installed, MONAI.

    METRICS_DUMP=target/release/examples/metrics_dump python -m pytest tests/study

Needs numpy, scipy, nibabel and pytest. MONAI (with PyTorch) is compared as well if it can be imported; otherwise the
surface metrics are compared with their definition in MONAI, written down here on scipy's exact distance transform, and
the shifts with scipy.ndimage. TorchIO's transforms need PyTorch too and are not compared.
"""

import json
import os
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage, stats

ROOT = Path(__file__).resolve().parents[2]
DUMP = Path(os.environ.get("METRICS_DUMP", ROOT / "target/release/examples/metrics_dump"))
TOLERANCE = 1e-4

if not DUMP.exists():
    pytest.skip(f"{DUMP} is absent: cargo build --release -p adaptmedseg-study --examples", allow_module_level=True)


def dump(*arguments, text=None):
    """What the program says, from JSON."""
    run = subprocess.run([DUMP, *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def save(path, array, spacing):
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), path)
    return path


def blob(rng, size, spacing, share):
    """A smooth random shape."""
    field = ndimage.gaussian_filter(rng.normal(size=size), 4.0 / np.asarray(spacing))
    return (field > np.quantile(field, 1 - share)).astype(np.uint8)


def pairs():
    """Masks and a tolerance: related, unrelated, thin slices, at the edge of the image, of one voxel."""
    rng = np.random.default_rng(3)
    for index, spacing in enumerate([(1.0, 1.0, 1.0), (0.7, 0.9, 3.0), (2.5, 0.8, 1.2), (0.6, 4.0, 0.6)]):
        size = (31, 26, 18 + index)
        truth = blob(rng, size, spacing, 0.15)
        yield f"related{index}", truth, ndimage.shift(truth, (2, -1, 1), order=0), spacing, 1.3
        yield f"unrelated{index}", truth, blob(rng, size, spacing, 0.05), spacing, 2.7
        single = np.zeros(size, np.uint8)
        single[3, 4, 5] = 1
        yield f"single{index}", truth, single, spacing, 5.1
        full = np.ones(size, np.uint8)
        yield f"full{index}", full, truth, spacing, 2.2


PAIRS = {name: rest for name, *rest in pairs()}


def edges(mask):
    return mask.astype(bool) ^ ndimage.binary_erosion(mask)


def by_definition(truth, found, spacing, tolerance):
    """HD95 and surface Dice as MONAI defines them."""
    surfaces = [edges(mask) for mask in (truth, found)]
    to = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    a, b = to[1][surfaces[0]], to[0][surfaces[1]]
    near = (a <= tolerance).sum() + (b <= tolerance).sum()
    return max(np.percentile(a, 95), np.percentile(b, 95)), near / (a.size + b.size)


@pytest.fixture
def measured(tmp_path):
    def run(truth, found, spacing, tolerance):
        paths = [save(tmp_path / f"{name}.nii", mask, spacing) for name, mask in (("t", truth), ("f", found))]
        return dump("metrics", *paths, tolerance)

    return run


@pytest.mark.parametrize("name", PAIRS)
def test_metrics_agree_with_scipy(name, measured):
    truth, found, spacing, tolerance = PAIRS[name]
    got = measured(truth, found, spacing, tolerance)
    hd95, nsd = by_definition(truth, found, spacing, tolerance)
    assert got["hd95_mm"] == pytest.approx(hd95, abs=TOLERANCE)
    assert got["nsd"] == pytest.approx(nsd, abs=TOLERANCE)
    assert got["dice"] == pytest.approx(2 * (truth & found).sum() / (truth.sum() + found.sum()), abs=1e-9)
    assert got["truth_ml"] == pytest.approx(truth.sum() * np.prod(spacing) / 1000, rel=1e-6)
    error = 100 * (int(found.sum()) - int(truth.sum())) / truth.sum()
    assert got["volume_error_percent"] == pytest.approx(error, abs=TOLERANCE)


@pytest.mark.parametrize("name", PAIRS)
def test_metrics_agree_with_monai(name, measured):
    torch = pytest.importorskip("torch", reason="skipped: PyTorch is absent: no comparison with MONAI")
    monai = pytest.importorskip("monai.metrics", reason="skipped: MONAI is absent: no comparison with it")
    truth, found, spacing, tolerance = PAIRS[name]
    got = measured(truth, found, spacing, tolerance)
    one_hot = [torch.as_tensor(mask, dtype=torch.float64)[None, None] for mask in (found, truth)]
    options = {"include_background": True, "spacing": list(spacing)}
    hd95 = monai.compute_hausdorff_distance(*one_hot, percentile=95, **options).item()
    nsd = monai.compute_surface_dice(*one_hot, class_thresholds=[tolerance], **options).item()
    dice = monai.compute_dice(*one_hot, include_background=True).item()
    assert got["hd95_mm"] == pytest.approx(hd95, abs=TOLERANCE)
    assert got["nsd"] == pytest.approx(nsd, abs=TOLERANCE)
    assert got["dice"] == pytest.approx(dice, abs=TOLERANCE)


def test_empty_masks_are_said_to_be_so(measured):
    truth, _, spacing, _ = PAIRS["related0"]
    missed = measured(truth, np.zeros_like(truth), spacing, 1.0)
    assert (missed["dice"], missed["nsd"], missed["hd95_mm"]) == (0.0, 0.0, None)
    absent = measured(np.zeros_like(truth), truth, spacing, 1.0)
    assert absent["dice"] is None and absent["found_ml"] > 0


# Statistics


def ask(what, **question):
    return dump("statistics", text=json.dumps({"ask": what, **question}))


@pytest.mark.parametrize("count", [1, 5, 12, 13, 14, 30, 50, 51, 200])
@pytest.mark.parametrize("kind", ["different", "tied", "with zeros"])
def test_wilcoxon_agrees_with_scipy(count, kind):
    rng = np.random.default_rng(count)
    values = rng.normal(0.3, 1.0, count)
    if kind != "different":
        values = np.round(values * 2) / 2
    if kind == "with zeros":
        values[::3] = 0.0
    if kind == "tied":
        values[values == 0] = 0.5
    got = ask("wilcoxon", values=values.tolist())
    if not values.any():
        assert got["p"] == 1.0
        return
    expected = stats.wilcoxon(values)
    assert got["statistic"] == pytest.approx(expected.statistic)
    assert got["p"] == pytest.approx(expected.pvalue, rel=1e-9)


def test_quantiles_and_correlation_agree():
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=40).round(1), rng.normal(size=40).round(1)
    assert ask("quantile", values=a.tolist(), share=0.37) == pytest.approx(np.quantile(a, 0.37))
    assert ask("spearman", a=a.tolist(), b=b.tolist()) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(2).beta(5, 2, 60)
    low, high = ask("bootstrap", clusters=[[value] for value in values])
    options = {"n_resamples": 20_000, "method": "percentile", "rng": np.random.default_rng(1)}
    expected = stats.bootstrap((values,), np.mean, **options).confidence_interval
    # Two runs of 20 000 draws differ in the third decimal of the spread.
    spread = expected.high - expected.low
    assert (low, high) == (pytest.approx(expected.low, abs=0.03 * spread), pytest.approx(expected.high, abs=0.03 * spread))


def test_clusters_widen_the_interval():
    values = np.random.default_rng(4).normal(size=20)
    narrow = ask("bootstrap", clusters=[[value] for value in np.repeat(values, 5)])
    wide = ask("bootstrap", clusters=[[value] * 5 for value in values])
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


# Shifts. A file's axes run to the right, front and top; directions are said in LPS.

SPACING = (1.5, 0.9, 2.2)


@pytest.fixture
def shifted(tmp_path):
    rng = np.random.default_rng(5)
    smooth = [ndimage.gaussian_filter(rng.normal(size=(33, 30, 24)), 2.0) for _ in range(2)]
    image = (400 * smooth[0] / smooth[0].std() + 100).astype(np.float32)
    mask = (smooth[1] > smooth[1].std()).astype(np.uint8)
    paths = [save(tmp_path / "image.nii", image, SPACING), save(tmp_path / "mask.nii", mask, SPACING)]

    def run(shift, seed=1):
        out, mask_out = tmp_path / "shifted.nii", tmp_path / "shifted_mask.nii"
        drawn = dump("shift", paths[0], shift, seed, out, paths[1], mask_out)
        files = [nibabel.load(path) for path in (out, mask_out)]
        return image, mask, *(np.asarray(file.dataobj) for file in files), drawn

    return run


def robust(image):
    ordered = np.sort(image.ravel())
    return [ordered[int(share * (ordered.size - 1))] for share in (0.005, 0.995)]


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_blur_is_scipys(shifted, severity):
    image, mask, got, same, drawn = shifted(f"blur:{severity}")
    expected = ndimage.gaussian_filter(image.astype(float), drawn["deviation_mm"][0] / np.asarray(SPACING), mode="nearest")
    assert np.allclose(got, expected, atol=1e-3 * np.ptp(image) / 10)
    assert (mask == same).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_gamma_is_that_of_the_definition_and_of_monai(shifted, severity):
    image, _, got, _, drawn = shifted(f"gamma:{severity}")
    low, high = image.min(), image.max()
    expected = ((image - low) / (high - low)).astype(float) ** drawn["exponent"][0] * (high - low) + low
    assert np.allclose(got, expected, atol=1e-4 * np.ptp(image))
    transforms = pytest.importorskip("monai.transforms", reason="skipped: MONAI is absent: gamma is compared with its definition")
    assert np.allclose(got, np.asarray(transforms.AdjustContrast(drawn["exponent"][0])(image)), atol=1e-4 * np.ptp(image))


def test_inversion_at_the_last_severity_inverts_the_robust_range(shifted):
    image, _, got, _, _ = shifted("inversion:5")
    low, high = robust(image)
    assert np.allclose(got, low + high - np.clip(image, low, high), atol=1e-4 * (high - low))


@pytest.mark.parametrize("kind", ["rotation", "scaling"])
@pytest.mark.parametrize("severity", [2, 5])
def test_moves_are_scipys(shifted, kind, severity):
    image, mask, got, moved, drawn = shifted(f"{kind}:{severity}")
    to_lps = np.diag([-1.0, -1.0, 1.0]) @ np.diag(SPACING)
    matrix = np.asarray(drawn["source_matrix_lps"]).reshape(3, 3)
    in_voxels = np.linalg.inv(to_lps) @ matrix @ to_lps
    centre = (np.asarray(image.shape) - 1) / 2
    options = {"offset": centre - in_voxels @ centre, "mode": "constant"}
    expected = ndimage.affine_transform(image.astype(float), in_voxels, order=1, cval=image.min(), **options)
    # At the very edge scipy fades to the value outside, and this goes on for half a voxel.
    places = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1) @ in_voxels.T + options["offset"]
    inside = np.all((places > 0) & (places < np.asarray(image.shape) - 1), axis=-1)
    assert inside.mean() > 0.1
    assert np.allclose(got[inside], expected[inside], atol=1e-4 * np.ptp(image))
    nearest = ndimage.affine_transform(mask, in_voxels, order=0, **options)
    # In the middle between two voxels either is right.
    clear = inside & np.all(np.abs(places % 1.0 - 0.5) > 1e-3, axis=-1)
    assert clear.sum() > 1000 and np.array_equal(moved[clear], nearest[clear])
    outside = np.any((places < -0.6) | (places > np.asarray(image.shape) - 0.4), axis=-1)
    assert (got[outside] == image.min()).all() and not moved[outside].any()


def test_rotation_is_by_the_angle_it_says(shifted):
    *_, drawn = shifted("rotation:4")
    matrix = np.asarray(drawn["source_matrix_lps"]).reshape(3, 3)
    assert np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) == pytest.approx(1)
    assert np.degrees(np.arccos((np.trace(matrix) - 1) / 2)) == pytest.approx(drawn["degrees"][0])


def test_anisotropy_is_a_slice_profile_and_linear_interpolation(shifted):
    image, _, got, _, drawn = shifted("anisotropy:3")
    axis, thick = int(drawn["axis"][0]), drawn["thickness_voxels"][0]
    count = image.shape[axis]
    smooth = ndimage.gaussian_filter1d(image.astype(float), thick / (2 * np.sqrt(2 * np.log(2))), axis, mode="nearest")
    slices = (np.arange(np.ceil(count / thick)) + 0.5) * thick - 0.5
    back = lambda line: np.interp(np.arange(count), slices, np.interp(slices, np.arange(count), line))
    assert np.allclose(got, np.apply_along_axis(back, axis, smooth), atol=1e-3 * np.ptp(image) / 10)


def test_ghosts_are_rolled_copies(shifted):
    image, _, got, _, drawn = shifted("ghosting:3")
    expected = image.astype(float)
    for shift in drawn["shifts_voxels"]:
        expected += drawn["weight"][0] * (np.roll(image, int(shift), int(drawn["axis"][0])) - image.min())
    assert np.allclose(got, expected, atol=1e-4 * np.ptp(image))


def test_a_spike_is_a_spike_in_k_space(shifted):
    image, _, got, _, drawn = shifted("spike:4")
    ijk = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1)
    lps = ijk * np.asarray(SPACING) * [-1, -1, 1]
    waves = np.asarray(drawn["waves_per_mm_lps"]).reshape(-1, 3)
    phases = lps @ waves.T * 2 * np.pi + np.asarray(drawn["phases"])
    expected = image + drawn["amplitude"][0] * np.cos(phases).sum(-1)
    assert np.allclose(got, expected, atol=1e-3 * np.ptp(image) / 10)


def test_the_bias_field_is_the_exponential_of_a_polynomial(shifted):
    image, _, got, _, drawn = shifted("bias-field:5")
    ijk = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1)
    middle = (np.asarray(image.shape) - 1) / 2
    half = max(np.asarray(image.shape) * SPACING) / 2
    x, y, z = np.moveaxis((ijk - middle) * np.asarray(SPACING) * [-1, -1, 1] / half, -1, 0)
    powers = [(i, j, k) for i in range(4) for j in range(4) for k in range(4) if 1 <= i + j + k <= 3]
    log = sum(by * x**i * y**j * z**k for by, (i, j, k) in zip(drawn["coefficients"], powers, strict=True))
    expected = image.min() + (image - image.min()) * np.exp(log)
    assert np.allclose(got, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("kind", ["gaussian-noise", "rician-noise"])
def test_noise_has_the_distribution_it_says(shifted, kind):
    image, _, got, _, drawn = shifted(f"{kind}:4")
    sd = drawn["deviation"][0]
    low, high = robust(image)
    assert sd == pytest.approx(0.14 * (high - low), rel=1e-5)
    if kind == "gaussian-noise":
        assert stats.kstest((got - image).ravel() / sd, "norm").pvalue > 1e-3
    else:
        signal, magnitude = image - image.min(), got - image.min()
        # The squared magnitude is a non-central chi-squared number of two degrees of freedom.
        uniform = stats.ncx2.cdf((magnitude / sd) ** 2, 2, np.maximum((signal / sd) ** 2, 1e-9))
        assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3


def test_a_crop_is_a_part_of_the_image(shifted, tmp_path):
    image, mask, got, part, drawn = shifted("crop:5")
    start = np.asarray(drawn["start_voxels"], int)
    where = tuple(slice(at, at + size) for at, size in zip(start, got.shape))
    assert (got == image[where]).all() and (part == mask[where]).all()
    affine = nibabel.load(tmp_path / "shifted.nii").affine
    assert np.allclose(affine[:3, 3], start * np.asarray(SPACING), atol=1e-4)


@pytest.fixture
def torchio():
    return pytest.importorskip("torchio", reason="skipped: TorchIO is absent: no comparison of shifts with it")


def as_torchio(torchio, image, spacing):
    return torchio.ScalarImage(tensor=image[None], affine=np.diag([*spacing, 1.0]))


def test_blur_is_torchios(shifted, torchio):
    image, _, got, _, drawn = shifted("blur:3")
    deviation = drawn["deviation_mm"][0]
    expected = torchio.Blur((deviation,) * 3)(as_torchio(torchio, image, SPACING)).numpy()[0]
    # At the edges TorchIO mirrors the image, and we go on with its last value.
    inner = tuple(slice(int(np.ceil(4 * deviation / step)) + 1, -int(np.ceil(4 * deviation / step)) - 1) for step in SPACING)
    assert got[inner].size > 500
    assert np.allclose(got[inner], expected[inner], atol=1e-4 * np.ptp(image))


def test_gamma_is_torchios(shifted, torchio):
    image, _, got, _, drawn = shifted("gamma:4")
    low, span = image.min(), np.ptp(image)
    # TorchIO raises values as they are.
    expected = torchio.Gamma(drawn["exponent"][0])(as_torchio(torchio, (image - low) / span, SPACING)).numpy()[0]
    assert np.allclose((got - low) / span, expected, atol=1e-4)


def test_the_bias_field_is_torchios(tmp_path, torchio):
    # On a cube of cubes both fields have the same axes.
    size, step = 24, 1.5
    image = np.random.default_rng(3).uniform(100, 200, (size,) * 3).astype(np.float32)
    image[0, 0, 0] = 0
    path = save(tmp_path / "image.nii", image, (step,) * 3)
    drawn = dump("shift", path, "bias-field:5", 1, tmp_path / "shifted.nii")
    got = np.asarray(nibabel.load(tmp_path / "shifted.nii").dataobj)
    powers = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    # Ours runs along LPS and is 1 at the volume's faces, TorchIO's is 1 in the middle of the last voxel.
    scale = (size / 2 - 0.5) / (size / 2)
    ours = {power: by for power, by in zip([power for power in powers if sum(power)], drawn["coefficients"], strict=True)}
    coefficients = [ours.get((i, j, k), 0.0) * scale ** (i + j + k) * (-1.0) ** (i + j) for i, j, k in powers]
    transform = torchio.BiasField(coefficients=coefficients, order=3)
    expected = transform(as_torchio(torchio, image, (step,) * 3)).numpy()[0]
    assert np.ptp(expected / np.maximum(image, 1)) > 0.2
    assert np.allclose(got, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("severity", [2, 5])
def test_scaling_is_torchios(shifted, torchio, severity):
    image, _, got, _, drawn = shifted(f"scaling:{severity}")
    scale = 1.0 / np.asarray(drawn["source_matrix_lps"]).reshape(3, 3)[0, 0]
    transform = torchio.Affine((scale,) * 3, (0, 0, 0), (0, 0, 0), center="image", default_pad_value="minimum")
    expected = transform(as_torchio(torchio, image, SPACING)).numpy()[0]
    inner = (slice(3, -3),) * 3 if scale > 1 else tuple(
        slice(int(np.ceil(count * (1 - scale) / 2)) + 2, -int(np.ceil(count * (1 - scale) / 2)) - 2) for count in image.shape
    )
    assert got[inner].size > 1000
    assert np.allclose(got[inner], expected[inner], atol=1e-3 * np.ptp(image))
