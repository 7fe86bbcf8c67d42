"""Masks as segments: written on the volume's grid, named, coloured and coded, beside the segments that are finished."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Optional

import numpy as np
import slicer

#: What happens where a new segment meets finished ones: the new one takes the voxels, leaves them, or both have them.
OVERWRITE, KEEP, OVERLAP = "overwrite", "keep", "overlap"
POLICIES = (OVERWRITE, KEEP, OVERLAP)


@dataclass(frozen=True)
class Look:
    """How a structure is coded (SNOMED CT) and coloured (as in Slicer's table of anatomy)."""

    code: str
    meaning: str
    colour: tuple
    side: Optional[str] = None


_SIDES = {"left": "7771000^Left", "right": "24028007^Right"}
_ANATOMY = {
    "adrenal gland": ("23451007", "Adrenal gland", (249, 186, 150)),
    "aorta": ("15825003", "Aorta", (224, 97, 76)),
    "brain": ("12738006", "Brain", (250, 250, 225)),
    "colon": ("71854001", "Colon", (204, 168, 143)),
    "duodenum": ("38848004", "Duodenum", (255, 253, 229)),
    "esophagus": ("32849002", "Esophagus", (211, 171, 143)),
    "femur": ("71341001", "Femur", (241, 214, 145)),
    "gallbladder": ("28231008", "Gallbladder", (139, 150, 98)),
    "heart": ("80891009", "Heart", (206, 110, 84)),
    "inferior vena cava": ("64131007", "Inferior vena cava", (0, 151, 206)),
    "kidney": ("64033007", "Kidney", (185, 102, 83)),
    "liver": ("10200004", "Liver", (221, 130, 101)),
    "lung": ("39607008", "Lung", (197, 165, 145)),
    "pancreas": ("15776009", "Pancreas", (249, 180, 111)),
    "portal vein": ("32764006", "Portal vein", (0, 151, 206)),
    "prostate": ("41216001", "Prostate", (230, 158, 140)),
    "rib": ("113197003", "Rib", (253, 232, 158)),
    "sacrum": ("54735007", "Sacrum", (212, 188, 102)),
    "small bowel": ("30315005", "Small Intestine", (205, 167, 142)),
    "spinal cord": ("2748008", "Spinal cord", (244, 214, 49)),
    "spleen": ("78961009", "Spleen", (157, 108, 162)),
    "stomach": ("69695003", "Stomach", (216, 132, 105)),
    "urinary bladder": ("89837001", "Bladder", (222, 154, 132)),
    "vertebra": ("51282000", "Vertebra", (226, 202, 134)),
}
#: Names offered for text prompts where nothing more is known of a model.
KNOWN_NAMES = tuple(_ANATOMY)

# Colours of segments that are no known structure: easily told apart (Okabe and Ito).
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_LIST = "Segmentation category and type - 3D Slicer General Anatomy list"
_NO_REGION = "Anatomic codes - DICOM master list~^^~^^"


def look_of(name):
    """How a named structure looks; None where it is not known. `left` and `right` are understood."""
    words = name.lower().replace("_", " ").split()
    sides = [word for word in words if word in _SIDES]
    known = _ANATOMY.get(" ".join(word for word in words if word not in _SIDES))
    if known is None or len(sides) > 1:
        return None
    return Look(*known, side=sides[0] if sides else None)


def terminology(look):
    """The entry Slicer keeps with a segment: category, type, modifier, and no region."""
    side = f"SCT^{_SIDES[look.side]}" if look.side else "^^"
    return f"{_LIST}~SCT^123037004^Anatomical Structure~SCT^{look.code}^{look.meaning}~{side}~{_NO_REGION}"


def add(segmentation, name):
    """Adds an empty segment, named, coloured and coded as far as its name is known. Returns its ID."""
    inside = segmentation.GetSegmentation()
    look = look_of(name)
    colour = look.colour if look else _COLOURS[inside.GetNumberOfSegments() % len(_COLOURS)]
    segment_id = inside.AddEmptySegment("", _free_name(inside, name), [part / 255.0 for part in colour])
    if look is not None:
        segment = inside.GetSegment(segment_id)
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology(look))
    return segment_id


def rename(segmentation, segment_id, name):
    """Gives a segment the name and the look of a structure, unless it has that name."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    look = look_of(name)
    if segment is None or segment.GetName() == name:
        return
    segment.SetName(name)
    if look is not None:
        segment.SetColor(*(part / 255.0 for part in look.colour))
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology(look))


def new_name(segmentation):
    """A name for a segment that nobody has named."""
    return _free_name(segmentation.GetSegmentation(), "Segment")


def is_unnamed(name):
    """Whether a segment has but the name it got when it was made, here or in the segment editor."""
    return re.fullmatch(r"Segment([ _]\d+)?", name) is not None


def _free_name(inside, name):
    """The name, with a number where there is one already."""
    taken = {inside.GetNthSegment(index).GetName() for index in range(inside.GetNumberOfSegments())}
    names = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def exists(segmentation, segment_id):
    """Whether a segment is (still) there."""
    return bool(segment_id) and segmentation.GetSegmentation().GetSegment(segment_id) is not None


def read(segmentation, segment_id, volume):
    """A segment's voxels (k, j, i) on the grid of a volume, 0 or 1."""
    if segmentation.GetSegmentation().GetSegment(segment_id).GetRepresentation(_binary()) is None:
        return np.zeros(slicer.util.arrayFromVolume(volume).shape, dtype=np.uint8)
    return (slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume) > 0).astype(np.uint8)


def write(segmentation, segment_id, mask, volume):
    """Makes a mask (k, j, i) on the grid of a volume a segment's voxels."""
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, segment_id, volume)


def spare_others(segmentation, segment_id, mask, volume):
    """A mask without the voxels of all other segments: what `keep` leaves of it."""
    spared = mask.copy()
    for other in _others(segmentation, segment_id):
        spared[read(segmentation, other, volume) > 0] = 0
    return spared


def take_from_others(segmentation, segment_id, volume):
    """Takes a segment's voxels from all other segments, as `overwrite` does once the segment is finished."""
    mask = read(segmentation, segment_id, volume)
    for other in _others(segmentation, segment_id):
        voxels = read(segmentation, other, volume)
        if (voxels & mask).any():
            write(segmentation, other, voxels & ~mask & 1, volume)


def _others(segmentation, segment_id):
    inside = segmentation.GetSegmentation()
    return [name for name in inside.GetSegmentIDs() if name != segment_id]


def _binary():
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
