#!/usr/bin/env python3
"""Compares the library's image files with SimpleITK and nibabel, both ways.

    python3 interop.py VOLUME_COPY_EXAMPLE

Files are written by the others in every variant (types, byte order, versions, orientations, compression, 4-D), read
and written again by the library, and read back by the others: grid and voxels must be the same.
"""
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

import nibabel as nib
import numpy as np
import SimpleITK as sitk

RNG = np.random.default_rng(0)
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


def voxels(shape, dtype="int16"):
    return RNG.integers(0, 100, shape).astype(dtype)


def rotation():
    angles = [0.3, -0.5, 0.2]
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (i, j) = np.eye(3), [(1, 2), (0, 2), (0, 1)][axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


def affine(direction, spacing=(0.7, 1.5, 3.0), origin=(-10.0, 20.5, 7.25)):
    out = np.eye(4)
    out[:3, :3] = direction * np.array(spacing)
    out[:3, 3] = origin
    return out


class Case:
    def __init__(self, name, path, array, matrix, channel=None, suffix=None):
        self.name, self.path, self.array, self.matrix, self.channel = name, path, array, matrix, channel
        self.copy = path.with_name("copy_" + (suffix or path.name))


def nifti_cases(folder):
    def case(name, array, matrix, klass=nib.Nifti1Image, change=None, suffix="nii.gz", channel=None, wanted=None):
        image = klass(array, matrix, dtype=array.dtype)
        if change:
            change(image.header)
        path = folder / f"{name}.{suffix}"
        nib.save(image, path)
        data = np.asarray(nib.load(path).dataobj)
        data = data if channel is None else data[..., channel]
        return Case(name, path, data, nib.load(path).affine if wanted is None else wanted, channel)

    shape = (6, 5, 4)
    for dtype, klass in itertools.product(TYPES, [nib.Nifti1Image, nib.Nifti2Image]):
        yield case(f"{dtype}_{klass.__name__}", voxels(shape, dtype), affine(rotation()), klass, suffix="nii")
    for klass in [nib.Nifti1Image, nib.Nifti2Image]:
        header = klass.header_class(endianness=">")
        header.set_data_dtype("int16")
        image = klass(voxels(shape), affine(rotation()), header)
        image.header.set_data_dtype(">i2")
        path = folder / f"big_{klass.__name__}.nii.gz"
        nib.save(image, path)
        yield Case(f"big endian {klass.__name__}", path, np.asarray(nib.load(path).dataobj), nib.load(path).affine)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3)):
        direction = np.eye(3)[:, order] * np.array(signs)
        yield case(f"axes_{order}_{signs}".replace(" ", ""), voxels(shape), affine(direction))

    def scaled(header):
        header.set_slope_inter(0.5, -3.0)

    yield case("scaled", voxels(shape, "float64"), affine(rotation()), change=scaled)
    yield case("micron", voxels(shape), affine(np.eye(3)), change=lambda h: h.set_xyzt_units("micron"),
               wanted=affine(np.eye(3)) * np.array([[1e-3]] * 3 + [[1]]))

    def qform_only(header):
        header["sform_code"] = 0
        header.set_qform(affine(rotation()), 1)

    def neither(header):
        header["sform_code"] = header["qform_code"] = 0

    def both(header):
        header.set_qform(affine(np.eye(3)), 1)
        header.set_sform(affine(rotation()), 2)

    yield case("qform", voxels(shape), affine(rotation()), change=qform_only, wanted=affine(rotation()))
    # The standard's method 1 starts at the first voxel; nibabel centres the image instead.
    yield case("method1", voxels(shape), np.diag([0.7, 1.5, 3.0, 1.0]), change=neither,
               wanted=np.diag([0.7, 1.5, 3.0, 1.0]))
    yield case("sform_wins", voxels(shape), affine(rotation()), change=both, wanted=affine(rotation()))
    shear = affine(rotation())
    shear[0, 1] += 0.4
    yield case("sheared", voxels(shape), shear)
    yield case("channel", voxels(shape + (3,)), affine(rotation()), channel=1)
    yield case("one_channel", voxels(shape + (1,)), affine(rotation()), channel=0)


def itk_affine(image):
    """RAS affine of an ITK image."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return np.diag([-1, -1, 1, 1]) @ affine(direction, image.GetSpacing(), image.GetOrigin())


def meta_cases(folder):
    def image(dtype):
        out = sitk.GetImageFromArray(voxels((4, 5, 6), dtype))
        out.SetDirection(rotation().flatten())
        out.SetSpacing((0.7, 1.5, 3.0))
        out.SetOrigin((-10.0, 20.5, 7.25))
        return out

    for dtype, suffix, compress in itertools.product(TYPES, ["mha", "mhd"], [False, True]):
        path = folder / f"{dtype}_{compress}.{suffix}"
        written = image(dtype)
        sitk.WriteImage(written, str(path), compress)
        yield Case(path.name, path, sitk.GetArrayFromImage(written).transpose(2, 1, 0), itk_affine(written))
    vector = sitk.Compose(image("int16"), image("int16"), image("int16"))
    path = folder / "vector.mha"
    sitk.WriteImage(vector, str(path))
    array = sitk.GetArrayFromImage(vector)[..., 2].transpose(2, 1, 0)
    yield Case("vector", path, array, itk_affine(vector), channel=2)


def read_back(path):
    if path.suffix in (".mha", ".mhd"):
        image = sitk.ReadImage(str(path))
        return sitk.GetArrayFromImage(image).transpose(2, 1, 0), itk_affine(image)
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def check(case, told):
    if "error" in told:
        return told["error"]
    spacing, direction = np.array(told["spacing"]), np.array(told["direction"])
    matrix = np.diag([-1, -1, 1, 1]) @ affine(direction, spacing, told["origin"])
    array = case.array.reshape(case.array.shape[:3])
    if tuple(told["size"]) != array.shape:
        return f"size {told['size']}, wanted {array.shape}"
    if not np.allclose(matrix, case.matrix, atol=1e-4):
        return f"grid\n{matrix}\nwanted\n{case.matrix}"
    if told["axis_codes"] != "".join(nib.aff2axcodes(case.matrix)):
        return f"axis codes {told['axis_codes']}, wanted {nib.aff2axcodes(case.matrix)}"
    data, copied = read_back(case.copy)
    # Without any code nibabel places the copy by its own rule, as it does the original.
    if case.name not in ("method1", "micron") and not np.allclose(copied, case.matrix, atol=1e-4):
        return f"copy's grid\n{copied}\nwanted\n{case.matrix}"
    if not np.array_equal(np.asarray(data, np.float64), np.asarray(array, np.float32).astype(np.float64)):
        return "voxels differ"
    return None


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cases = list(nifti_cases(folder)) + list(meta_cases(folder))
        lines = [f"{c.path}\t{c.copy}\t{'-' if c.channel is None else c.channel}" for c in cases]
        told = subprocess.run([sys.argv[1]], input="\n".join(lines), text=True, capture_output=True, check=True)
        failed = 0
        for case, line in zip(cases, told.stdout.splitlines(), strict=True):
            problem = check(case, json.loads(line))
            if problem:
                failed += 1
                print(f"FAILED {case.name}: {problem}")
        print(f"interop: {len(cases) - failed} passed, {failed} failed")
        sys.exit(failed > 0)


main()
