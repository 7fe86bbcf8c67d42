#!/usr/bin/env python3
"""Makes the compact subset of the golden bundles that is committed beside this file.

    python3 make_subset.py GOLDEN_FOLDER

Numbers are copied, never computed: large tensors are sampled as `X.idx` and `X.val`, the way the bundles themselves do
it, so that the tests read both alike. Needs numpy and safetensors.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path(__file__).parent / "golden"
SAMPLES = 1024
# What tests feed to the network has to be whole.
WHOLE = ("input.", "prompt.points", "prompt.point_labels", "prompt.box", "pe.coords_in", "text.liver.aligned", ".in")
SLIDING = ("single_window_padded_", "multi_window_padded_box")


def sample(name, tensor):
    if tensor.size <= SAMPLES or any(part in name for part in WHOLE) or name.endswith((".idx", ".val")):
        return {name: tensor}
    index = np.sort(np.random.default_rng(0).choice(tensor.size, SAMPLES, replace=False)).astype(np.int32)
    return {name + ".idx": index, name + ".val": np.ascontiguousarray(tensor.reshape(-1)[index])}


def copy(source, folder, name, keep):
    tensors = load_file(source / folder / f"{name}.safetensors")
    notes = json.loads((source / folder / f"{name}.json").read_text())
    out = {}
    for key, tensor in tensors.items():
        if keep(key):
            out.update({key: tensor} if key.startswith(SLIDING) else sample(key, tensor))
    notes["tensors"] = {key: {"shape": list(value.shape), "dtype": str(value.dtype)} for key, value in out.items()}
    notes["stats"] = {key: {"shape": list(tensor.shape)} for key, tensor in tensors.items() if key + ".idx" in out}
    (HERE / folder).mkdir(parents=True, exist_ok=True)
    save_file(out, HERE / folder / f"{name}.safetensors")
    (HERE / folder / f"{name}.json").write_text(json.dumps(notes) + "\n")


def main():
    source = pathlib.Path(sys.argv[1])
    copy(source, "stage", "stage_mini_seed7", lambda key: True)
    copy(source, "units", "units_tensors", lambda key: True)
    copy(source, "pipeline", "sliding_mini_seed7", lambda key: key.startswith(SLIDING))
    copy(source, "training", "train_mini_seed7_a_losses", lambda key: True)
    copy(source, "hermes", "hermes_modules_seed7", lambda key: True)
    shutil.copy(source / "units" / "units.json", HERE / "units")
    shutil.copy(source / "manifest_mini.json", HERE)


main()
