"""Small data sets laid out as the real ones are downloaded: the same names, formats, headers and oddities, written by
SimpleITK, nibabel, pydicom, tifffile, Pillow and scipy, never by the program under test.

Each function writes one into a folder and returns what must come of it: for each case its voxels and masks on a grid of
voxel indices (i, j, k), the affine in RAS millimetres (None: the format has none), modality and subject.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import scipy.sparse
import SimpleITK as sitk
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SIZE = (14, 12, 8)


@dataclass
class Expected:
    """What a case must come to."""

    image: np.ndarray
    masks: dict
    modality: str
    subject: str
    affine: np.ndarray | None = None
    contrast: str | None = None


@dataclass
class Layout:
    """A data set that was written, and what must come of it."""

    name: str
    root: Path
    cases: dict = field(default_factory=dict)


def scan(seed, size=SIZE):
    """Voxels with no symmetry: an axis that is turned or exchanged cannot go unnoticed."""
    return np.random.default_rng(seed).integers(0, 900, size).astype(np.int16)


def labels(seed, values, size=SIZE):
    """A label map in which each value has voxels, at no symmetric place."""
    out = np.zeros(size, dtype=np.uint8)
    random = np.random.default_rng(1000 + seed)
    for value in values:
        start = [random.integers(0, edge - 3) for edge in size]
        out[tuple(slice(at, at + 3) for at in start)] = value
    for index, value in enumerate(values):
        out[index, 0, size[2] - 1] = value
    return out


def affine(spacing=(0.6, 0.7, 3.0), flip=(-1, -1, 1), origin=(30.0, 40.0, -50.0)):
    matrix = np.diag([*(np.array(spacing) * flip), 1.0])
    matrix[:3, 3] = origin
    return matrix


def nifti(path, array, matrix):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, matrix), path)


def masks(label_map, named):
    """Masks of structures: name -> values that make it."""
    return {name: np.isin(label_map, values).astype(np.uint8) for name, values in named.items()}


def msd_prostate(root):
    """Task05: 4-D images, T2 and ADC; hidden files that a Mac's tar leaves."""
    root = root / "Task05_Prostate"
    matrix = affine(flip=(1, 1, 1))
    layout = Layout("msd", root)
    entries = []
    for number in range(5):
        name = f"prostate_{number:02}.nii.gz"
        image = np.stack([scan(number), scan(100 + number)], axis=-1)
        label = labels(number, [1, 2])
        nifti(root / "imagesTr" / name, image, matrix)
        nifti(root / "labelsTr" / name, label, matrix)
        (root / "imagesTr" / f"._{name}").write_bytes(b"\0\5\26\7AppleDouble")
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
        case = f"prostate_{number:02}"
        named = {"peripheral zone": [1], "transition zone": [2]}
        layout.cases[case] = Expected(image[..., 0], masks(label, named), "MR", case, matrix, "T2")
    listed = {
        "name": "PROSTATE", "licence": "CC-BY-SA 4.0", "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"}, "numTraining": 5, "training": entries, "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(listed))
    return layout


def promise12(root):
    """MetaImage with a raw file beside the header, written by ITK."""
    layout = Layout("promise12", root)
    for number in range(4):
        folder = root / f"TrainingData_Part{1 + number // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        voxels, label = scan(number), labels(number, [1])
        for ending, array in (("", voxels), ("_segmentation", label)):
            image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
            image.SetSpacing((0.625, 0.625, 3.6))
            image.SetOrigin((-70.0, -30.0, -44.0))
            sitk.WriteImage(image, str(folder / f"Case{number:02}{ending}.mhd"))
        # ITK's world is LPS.
        matrix = np.diag([-0.625, -0.625, 3.6, 1.0])
        matrix[:3, 3] = (70.0, 30.0, -44.0)
        case = f"Case{number:02}"
        layout.cases[case] = Expected(voxels, masks(label, {"prostate": [1]}), "MR", case, matrix, "T2")
    return layout


def saml(root):
    """Six sites; some mark zones, and one writes its endings in lower case."""
    layout = Layout("saml", root)
    matrix = affine()
    for index, site in enumerate(("RUNMC", "BMC", "I2CVB", "UCL", "BIDMC", "HK")):
        for number in range(2):
            voxels = scan(10 * index + number)
            label = labels(number, [1, 2] if site in ("RUNMC", "BMC") else [1])
            ending = "_segmentation" if site in ("UCL", "BIDMC") else "_Segmentation"
            nifti(root / site / f"Case{number:02}.nii.gz", voxels, matrix)
            nifti(root / site / f"Case{number:02}{ending}.nii.gz", label, matrix)
            case = f"{site}-Case{number:02}"
            layout.cases[case] = Expected(voxels, masks(label, {"prostate": [1, 2]}), "MR", case, matrix, "T2")
    return layout


def t2w(root):
    """Stacks of TIFF pages: a page is a slice, its rows run along j."""
    layout = Layout("t2w", root)
    for number in range(4):
        voxels, label = scan(number).astype(np.uint16), labels(number, [255])
        for folder, array in (("images", voxels), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / folder / f"patient{number}.tif", array.transpose(2, 1, 0), photometric="minisblack")
        case = f"patient{number}"
        layout.cases[case] = Expected(voxels, masks(label, {"prostate": [255]}), "MR", case, None, "T2")
    return layout


AMOS = [
    "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver", "stomach", "arota", "postcava",
    "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder", "prostate/uterus",
]


def amos(root):
    """CT and MR in one list that calls all of them CT; a table of scanners."""
    layout = Layout("amos", root)
    matrix = affine(flip=(1, 1, 1))
    names = {"arota": "aorta", "postcava": "inferior vena cava", "gall bladder": "gallbladder"}
    table = ["amos_id,Patient's Sex,Manufacturer's Model Name"]
    for number, part in ((1, "Tr"), (4, "Tr"), (500, "Tr"), (507, "Va"), (599, "Va")):
        voxels, label = scan(number), labels(number, [1, 6, 8])
        name = f"amos_{number:04}.nii.gz"
        nifti(root / f"images{part}" / name, voxels, matrix)
        nifti(root / f"labels{part}" / name, label, matrix)
        table.append(f"amos_{number:04},F,{'Aquilion ONE' if number < 500 else 'Prisma'}")
        named = {names.get(structure, structure): [value] for value, structure in enumerate(AMOS, 1)}
        case = f"amos_{number:04}"
        layout.cases[case] = Expected(voxels, masks(label, named), "CT" if number < 500 else "MR", case, matrix)
    nifti(root / "imagesTs" / "amos_0200.nii.gz", scan(200), matrix)
    listed = {
        "name": "AMOS", "licence": "CC-BY 4.0", "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(value): name for value, name in enumerate(AMOS, 1)}},
        "training": [], "numTraining": 5,
    }
    (root / "dataset.json").write_text(json.dumps(listed))
    (root / "labeled_data_meta_0000_0599.csv").write_text("\n".join(table) + "\n")
    return layout


def dicom_series(folder, voxels, modality, first=(-100.0, -90.0, 20.0), spacing=(1.5, 1.25, 5.0), signed=False):
    """One file a slice, numbered against the order of the slices. Returns the affine in RAS."""
    folder.mkdir(parents=True, exist_ok=True)
    series, frame = generate_uid(), generate_uid()
    depth = voxels.shape[2]
    for k in range(depth):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        name = folder / f"IMG-0001-{depth - k:05}.dcm"
        dataset = FileDataset(str(name), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
        dataset.Modality, dataset.InstanceNumber, dataset.PatientID = modality, depth - k, "anonymous"
        dataset.ImagePositionPatient = [first[0], first[1], first[2] + k * spacing[2]]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = [spacing[1], spacing[0]]
        dataset.SliceThickness = spacing[2]
        dataset.Columns, dataset.Rows = voxels.shape[0], voxels.shape[1]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = int(signed)
        dataset.RescaleSlope, dataset.RescaleIntercept = (1, -1024) if modality == "CT" else (1, 0)
        stored = voxels[:, :, k].T + (1024 if modality == "CT" else 0)
        dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        pydicom.dcmwrite(name, dataset, enforce_file_format=True)
    matrix = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    matrix[:3, 3] = (-first[0], -first[1], first[2])
    return matrix


def pictures(folder, series, label):
    """PNG masks that sort as the files of the series do, which run against its slices."""
    folder.mkdir(parents=True, exist_ok=True)
    depth = label.shape[2]
    for number, _ in enumerate(sorted(series.glob("*.dcm"))):
        Image.fromarray(label[:, :, depth - 1 - number].T).save(folder / f"mask_{number:03}.png")


def chaos(root):
    """DICOM series and PNG masks; in MR one mask for both phases, organs by grey value."""
    layout = Layout("chaos", root)
    base = root / "Train_Sets"
    for number in (1, 2):
        folder = base / "CT" / str(number)
        voxels, label = scan(number) - 400, labels(number, [255])
        matrix = dicom_series(folder / "DICOM_anon", voxels, "CT")
        pictures(folder / "Ground", folder / "DICOM_anon", label)
        case = f"CT-{number}"
        layout.cases[case] = Expected(voxels, masks(label, {"liver": [255]}), "CT", case, matrix)
    organs = {"liver": [63], "right kidney": [126], "left kidney": [189], "spleen": [252]}
    for number in (1, 5):
        folder, subject = base / "MR" / str(number), f"MR-{number}"
        label = labels(number, [63, 126, 189, 252])
        for phase, contrast in (("InPhase", "T1 in phase"), ("OutPhase", "T1 out of phase")):
            voxels = scan(30 + number + len(phase))
            matrix = dicom_series(folder / "T1DUAL" / "DICOM_anon" / phase, voxels, "MR")
            case = f"{subject}-{contrast.replace(' of ', '-').replace(' ', '-')}"
            layout.cases[case] = Expected(voxels, masks(label, organs), "MR", subject, matrix, contrast)
        pictures(folder / "T1DUAL" / "Ground", folder / "T1DUAL" / "DICOM_anon" / "InPhase", label)
        voxels, label = scan(60 + number), labels(70 + number, [63, 126, 189, 252])
        matrix = dicom_series(folder / "T2SPIR" / "DICOM_anon", voxels, "MR", signed=True)
        pictures(folder / "T2SPIR" / "Ground", folder / "T2SPIR" / "DICOM_anon", label)
        layout.cases[f"{subject}-T2-SPIR"] = Expected(voxels, masks(label, organs), "MR", subject, matrix, "T2 SPIR")
    return layout


def brats(root):
    """Four contrasts of each subject; labels 1, 2 and 4."""
    layout = Layout("brats", root)
    matrix = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 239.0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]])
    named = {"necrotic tumor core": [1], "peritumoral edema": [2], "enhancing tumor": [4]}
    for number in (0, 2, 3):
        subject = f"BraTS2021_{number:05}"
        label = labels(number, [1, 2, 4])
        nifti(root / subject / f"{subject}_seg.nii.gz", label, matrix)
        for index, (ending, contrast) in enumerate((("flair", "FLAIR"), ("t1", "T1"), ("t1ce", "T1ce"), ("t2", "T2"))):
            voxels = scan(10 * number + index)
            nifti(root / subject / f"{subject}_{ending}.nii.gz", voxels, matrix)
            layout.cases[f"{subject}-{contrast}"] = Expected(voxels, masks(label, named), "MR", subject, matrix, contrast)
    return layout


def m3d(root):
    """Arrays (1, x, y, z) and masks as sparse rows, the shape in the name; a split of its own."""
    folder = root / "0003"
    layout = Layout("m3d", root)
    lists = {"train": [], "test": []}
    for number in range(5):
        case = folder / f"case{number}"
        case.mkdir(parents=True)
        image = np.random.default_rng(number).normal(size=(1, *SIZE)).astype(np.float32)
        label = labels(number, [1, 2])
        rows = np.stack([(label == value) for value in (1, 2)]).reshape(2, -1).astype(np.uint8)
        np.save(case / "image.npy", image)
        name = f"mask_(2, {SIZE[0]}, {SIZE[1]}, {SIZE[2]}).npz"
        scipy.sparse.save_npz(case / name, scipy.sparse.csr_matrix(rows))
        entry = {"image": f"0003/case{number}/image.npy", "label": f"0003/case{number}/{name}"}
        lists["test" if number == 4 else "train"].append(entry)
        named = {"liver": [1], "liver tumor": [2]}
        layout.cases[f"0003-case{number}"] = Expected(image[0], masks(label, named), "CT", f"0003-case{number}")
    listed = {"name": "CHAOS", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "liver tumour"}}
    (folder / "0003.json").write_text(json.dumps({**listed, **lists}))
    return layout


def pairs(root):
    """A plain folder: masks beside the images, values named in a file."""
    layout = Layout("pairs", root)
    matrix = affine()
    for number in range(4):
        voxels, label = scan(number), labels(number, [1, 7])
        nifti(root / f"scan{number}.nii.gz", voxels, matrix)
        nifti(root / f"scan{number}_seg.nii.gz", label, matrix)
        named = {"left kidney": [1], "liver": [7]}
        layout.cases[f"scan{number}"] = Expected(voxels, masks(label, named), "CT", f"scan{number}", matrix)
    (root / "labels.json").write_text(json.dumps({"1": "Kidney_Left", "7": "Liver"}))
    return layout


LAYOUTS = (msd_prostate, promise12, saml, t2w, amos, chaos, brats, m3d, pairs)
