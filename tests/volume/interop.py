#!/usr/bin/env python3
"""Exchanges image files with SimpleITK and nibabel, by way of the example `volume_dump`.

    python3 interop.py VOLUME_DUMP

Files of the other programs, and headers made by hand that SimpleITK reads too, must come out with the same grid and
voxels; what the library writes must come out the same in them. The last line counts.
"""
import functools
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import zlib

import nibabel as nib
import numpy as np
import SimpleITK as sitk

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
RUST = {"uint8": "u8", "int8": "i8", "uint16": "u16", "int16": "i16", "uint32": "u32", "int32": "i32",
        "uint64": "u64", "int64": "i64", "float32": "f32", "float64": "f64"}
SHAPE, SPACING, ORIGIN = (6, 5, 4), np.array([0.7, 1.5, 3.0]), np.array([-10.0, 20.5, 7.25])
LPS_RAS = np.diag([-1.0, -1.0, 1.0])
ORIENTATIONS = [np.eye(3)[:, list(order)] * np.array(signs)
                for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3))]
RNG = np.random.default_rng(20)
RESULTS = []


DUMP = sys.argv[1]


def dump(*arguments):
    return json.loads(subprocess.run([DUMP, *map(str, arguments)], capture_output=True, text=True).stdout)


def case(name):
    """Runs a function at once, with a folder of its own, and notes how it ended."""
    def run(function):
        with tempfile.TemporaryDirectory() as folder:
            try:
                function(pathlib.Path(folder))
                RESULTS.append(True)
            except Exception as problem:  # a crash of one case must not hide the others
                RESULTS.append(False)
                print(f"FAILED {name}: {type(problem).__name__} {problem}")
    return run


def voxels(dtype="int16", shape=SHAPE):
    return (RNG.random(shape) * 100).astype(dtype)


@functools.cache
def rotation():
    return random_rotation(np.random.default_rng(3))


def random_rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def affine(direction):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = direction * SPACING, ORIGIN
    return out


def lps_affine(told):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = np.array(told["direction"]) * np.array(told["spacing"]), told["origin"]
    return out


def same_grid(got, wanted):
    assert np.allclose(got, wanted, atol=1e-4), f"grid\n{got}\nwanted\n{wanted}"


def compare(folder, path, array, ras, *extra):
    """The library's view of `path` against voxels (x, y, z) and a RAS affine, every voxel of it."""
    copy = folder / "compared.nii"
    told = dump(path, *extra, "--copy", copy, "--as", "f64", "--overwrite")
    assert "error" not in told, told
    assert told["size"] == list(array.shape), told["size"]
    flip = np.diag([-1, -1, 1, 1])
    same_grid(flip @ lps_affine(told), ras)
    assert np.allclose(np.linalg.norm(np.array(told["direction"]), axis=0), 1, atol=1e-6), "unit columns"
    assert told["axis_codes"] == "".join(nib.aff2axcodes(ras)), told["axis_codes"]
    wanted = array.astype(np.float32).astype(np.float64)
    assert np.array_equal(np.asarray(nib.load(copy).dataobj), wanted), "voxels differ"
    assert np.isclose(told["sum"], wanted.sum(), rtol=1e-12) and np.allclose(told["first"], wanted.ravel("F")[:16])
    return told


def itk_ras(image):
    direction = np.array(image.GetDirection()).reshape(3, 3)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = LPS_RAS @ direction * np.array(image.GetSpacing()), LPS_RAS @ image.GetOrigin()
    return out


def itk_voxels(image):
    return sitk.GetArrayFromImage(image).T


def itk_image(array, direction=None):
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin(ORIGIN.tolist())
    image.SetDirection((rotation() if direction is None else direction).ravel().tolist())
    return image


def nifti(folder, array, matrix, klass=nib.Nifti1Image, endian="<", name="image.nii", change=None):
    header = klass.header_class(endianness=endian)
    header.set_data_dtype(array.dtype)
    image = klass(array, matrix, header)
    if change:
        change(image.header)
    nib.save(image, folder / name)
    return folder / name


def read_nifti():
    for dtype, klass, endian, name in itertools.product(TYPES, [nib.Nifti1Image, nib.Nifti2Image], "<>", ["i.nii", "I.NII.GZ"]):
        @case(f"read {dtype} {klass.__name__} {endian} {name}")
        def _(folder):
            array = voxels(dtype)
            path = folder / name.lower()
            nifti(folder, array, affine(rotation()), klass, endian, name.lower())
            if name != name.lower():
                path = path.rename(folder / name)
            told = compare(folder, path, array, affine(rotation()))
            assert told["scalar"] == RUST[dtype] and told["channels"] == 1

    for index, direction in enumerate(ORIENTATIONS):
        @case(f"orientation {index}")
        def _(folder):
            array = voxels()
            compare(folder, nifti(folder, array, affine(direction)), array, affine(direction))
            image = itk_image(array, LPS_RAS @ direction)
            for name in ["itk.mha", "itk.nii.gz", "itk.mhd"]:
                sitk.WriteImage(image, str(folder / name))
                compare(folder, folder / name, array, itk_ras(image))

    for seed in range(20):
        @case(f"oblique {seed}")
        def _(folder):
            matrix = affine(random_rotation(np.random.default_rng(seed)))
            array = voxels()
            compare(folder, nifti(folder, array, matrix), array, matrix)

    @case("sheared")
    def _(folder):
        matrix = affine(rotation())
        matrix[:3, 1] += 0.3 * matrix[:3, 0]
        array = voxels()
        compare(folder, nifti(folder, array, matrix), array, matrix)

    def qform_only(header):
        header["sform_code"] = 0
        header.set_qform(affine(rotation()), 1)

    def both(header):
        header.set_qform(affine(np.eye(3)), 1)
        header.set_sform(affine(rotation()), 2)

    def micron(header):
        header.set_xyzt_units("micron")

    for change, wanted in [(qform_only, affine(rotation())), (both, affine(rotation())),
                           (micron, np.diag([1e-3, 1e-3, 1e-3, 1]) @ affine(rotation()))]:
        @case(f"placed by {change.__name__}")
        def _(folder):
            array = voxels()
            compare(folder, nifti(folder, array, affine(rotation()), change=change), array, wanted)

    @case("placed by neither sform nor qform")
    def _(folder):
        array = voxels()
        path = nifti(folder, array, affine(rotation()))
        data = bytearray(path.read_bytes())
        data[252:256] = bytes(4)  # nibabel always writes a code
        path.write_bytes(data)
        # By the standard's method 1 the first voxel is the origin; nibabel centres the image instead.
        compare(folder, path, array, np.diag([*SPACING, 1.0]))

    for endian, klass in itertools.product("<>", [nib.Nifti1Image, nib.Nifti2Image]):
        @case(f"4-D {endian} {klass.__name__}")
        def _(folder):
            array = voxels("uint16", SHAPE + (3,))
            path = nifti(folder, array, affine(rotation()), klass, endian, "four.nii.gz")
            for channel in range(3):
                compare(folder, path, array[..., channel], affine(rotation()), "--channel", channel)
            told = dump(path)
            assert "3 channels" in told["error"] and "--channel" in told["hint"], told
            assert "no channel 3" in dump(path, "--channel", 3)["error"]

    for code, name in [(128, "RGB"), (32, "complex64"), (1792, "complex128"), (2304, "RGBA")]:
        @case(f"refused: {name}")
        def _(folder):
            path = nifti(folder, voxels(), affine(rotation()))
            data = bytearray(path.read_bytes())
            data[70:72] = code.to_bytes(2, "little")
            path.write_bytes(data)
            assert dump(path)["kind"] == "Unsupported", dump(path)

    @case("scaled")
    def _(folder):
        path = nifti(folder, voxels(), affine(rotation()))
        image = nib.load(path)
        data = bytearray(path.read_bytes())
        data[112:120] = np.array([0.25, -3.0], "<f4").tobytes()
        path.write_bytes(data)
        told = compare(folder, path, nib.load(path).get_fdata(), image.affine)
        assert told["scaling"] == [0.25, -3.0]


def write_meta(folder, extra, element, payload, local=True):
    path = folder / ("made.mha" if local else "made.mhd")
    where = "LOCAL" if local else "made.bin"
    text = (f"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 6 5 4\n{extra}ElementType = {element}\n"
            f"ElementDataFile = {where}\n").encode()
    path.write_bytes(text + payload if local else text)
    if not local:
        (folder / where).write_bytes(payload)
    return path


def read_metaimage():
    for dtype, suffix, compress in itertools.product(TYPES, ["mha", "mhd"], [False, True]):
        @case(f"SimpleITK {dtype} {suffix} compressed={compress}")
        def _(folder):
            image = itk_image(voxels(dtype))
            sitk.WriteImage(image, str(folder / f"i.{suffix}"), compress)
            told = compare(folder, folder / f"i.{suffix}", itk_voxels(image), itk_ras(image))
            assert told["scalar"] == RUST[dtype]

    grid = "".join(f"{key} = {' '.join(map(repr, map(float, value)))}\n" for key, value in [
        ("TransformMatrix", rotation().T.ravel()), ("Offset", ORIGIN), ("ElementSpacing", SPACING)])
    other = grid.replace("TransformMatrix", "Rotation").replace("Offset", "Origin")
    third = grid.replace("TransformMatrix", "Orientation").replace("Offset", "Position")
    size = grid.replace("ElementSpacing", "ElementSize")
    array = voxels("int16")
    little, big = array.ravel("F").astype("<i2").tobytes(), array.ravel("F").astype(">i2").tobytes()
    packed, gzipped = zlib.compress(little), zlib.compressobj(wbits=31)
    gzipped = gzipped.compress(little) + gzipped.flush()

    def packed_by(data):
        return f"CompressedData = True\nCompressedDataSize = {len(data)}\n"

    for name, extra, payload, local in [
        ("plain", grid, little, True), ("other names", other, little, True), ("third names", third, little, True),
        ("ElementSize", size, little, True),
        ("BinaryDataByteOrderMSB", grid + "BinaryDataByteOrderMSB = True\n", big, True),
        ("ElementByteOrderMSB", grid + "ElementByteOrderMSB = True\n", big, True),
        ("HeaderSize", grid + "HeaderSize = 11\n", b"x" * 11 + little, False),
        ("HeaderSize -1", grid + "HeaderSize = -1\n", b"x" * 333 + little, False),
        ("HeaderSize -1 local", grid + "HeaderSize = -1\n", b"x" * 333 + little, True),
        ("zlib", grid + packed_by(packed), packed, True), ("zlib beside", grid + packed_by(packed), packed, False),
        ("gzip", grid + packed_by(gzipped), gzipped, False),
    ]:
        @case(f"MetaImage {name}")
        def _(folder):
            path = write_meta(folder, extra, "MET_SHORT", payload, local)
            image = sitk.ReadImage(str(path))  # what ITK makes of it is the truth
            assert np.array_equal(itk_voxels(image), array)
            compare(folder, path, itk_voxels(image), itk_ras(image))

    @case("MetaImage vector")
    def _(folder):
        parts = [itk_image(voxels()) for _ in range(3)]
        for suffix, compress in itertools.product(["mha", "mhd"], [False, True]):
            path = folder / f"v.{suffix}"
            sitk.WriteImage(sitk.Compose(parts), str(path), compress)
            for channel, part in enumerate(parts):
                compare(folder, path, itk_voxels(part), itk_ras(part), "--channel", channel)

    @case("MetaImage 4-D")
    def _(folder):
        array = voxels("int16", SHAPE + (2,))
        image = sitk.JoinSeries([itk_image(array[..., n]) for n in range(2)])
        sitk.WriteImage(image, str(folder / "four.mha"), True)
        for channel in range(2):
            compare(folder, folder / "four.mha", array[..., channel], itk_ras(itk_image(voxels())), "--channel", channel)

    @case("2-D pictures are refused")
    def _(folder):
        image = sitk.GetImageFromArray(voxels("int16", (5, 6)))
        for name in ["flat.mha", "flat.nii"]:
            sitk.WriteImage(image, str(folder / name))
            assert "2-D image" in dump(folder / name)["error"], dump(folder / name)


def write_all():
    for dtype, name in itertools.product(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"],
                                         ["o.nii", "o.nii.gz", "o.mha", "o.mhd"]):
        @case(f"write {dtype} {name}")
        def _(folder):
            array = voxels(dtype).astype(np.float32).astype(dtype)  # images are read as float32
            source, target = nifti(folder, array, affine(rotation())), folder / name
            assert "error" not in dump(source, "--copy", target, "--as", RUST[dtype])
            assert dump(source, "--copy", target, "--as", RUST[dtype])["kind"] == "Exists"
            image = sitk.ReadImage(str(target))
            same_grid(itk_ras(image), affine(rotation()))
            assert itk_voxels(image).dtype == dtype and np.array_equal(itk_voxels(image), array)
            if ".nii" in name:
                loaded = nib.load(target)
                same_grid(loaded.affine, affine(rotation()))
                same_grid(loaded.get_qform(), affine(rotation()))
                assert loaded.get_data_dtype() == dtype and np.array_equal(np.asarray(loaded.dataobj), array)
            left = {path.name for path in folder.iterdir()} - {"image.nii", name, "o.zraw"}
            assert not left, f"left behind: {left}"

    for index, direction in enumerate(ORIENTATIONS):
        @case(f"write orientation {index}")
        def _(folder):
            array = voxels()
            source = nifti(folder, array, affine(direction))
            for name in ["o.nii", "o.mha"]:
                dump(source, "--copy", folder / name)
                image = sitk.ReadImage(str(folder / name))
                same_grid(itk_ras(image), affine(direction))
                assert np.array_equal(itk_voxels(image), array)
            loaded = nib.load(folder / "o.nii")
            same_grid(loaded.get_qform(), affine(direction))

    def odd(header):
        header.set_qform(affine(ORIENTATIONS[17]), 2)
        header.set_sform(affine(rotation()), 3)
        header.set_xyzt_units("mm", "sec")
        header["descrip"], header["intent_name"] = b"PATIENT", b"PATIENT"

    def only_qform(header):
        header.set_qform(affine(rotation()), 1)
        header["sform_code"] = 0

    def neither(header):
        header["sform_code"] = header["qform_code"] = 0

    def metres(header):
        header.set_xyzt_units("meter")

    for klass, endian, change, target in itertools.product(
            [nib.Nifti1Image, nib.Nifti2Image], "<>", [None, odd, only_qform, neither, metres], ["m.nii", "m.nii.gz"]):
        @case(f"write_like {klass.__name__} {endian} {change and change.__name__} {target}")
        def _(folder):
            array = voxels("uint8")
            source = nifti(folder, array, affine(rotation()), klass, endian, change=change)
            told = dump(source, "--labels", "--copy", folder / target, "--like", source, "--as", "u8")
            assert "error" not in told, told
            a, b = nib.load(source), nib.load(folder / target)
            assert type(a) is type(b) and np.array_equal(a.affine, b.affine)
            for field in ["qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                          "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"]:
                assert np.array_equal(a.header[field], b.header[field]), field
            assert np.array_equal(a.header["pixdim"][:4], b.header["pixdim"][:4]), "pixdim"
            assert np.array_equal(np.asarray(b.dataobj), array) and b.get_data_dtype() == np.uint8
            raw = (folder / target).read_bytes()
            assert b"PATIENT" not in (zlib.decompress(raw, 31) if target.endswith("gz") else raw)


def main():
    for step in [read_nifti, read_metaimage, write_all]:
        step()
    print(f"interop: {sum(RESULTS)} passed, {len(RESULTS) - sum(RESULTS)} failed")
    sys.exit(not all(RESULTS))


main()
