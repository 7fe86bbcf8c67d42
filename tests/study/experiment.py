"""The experiment this project was made for: what does adaptation give to MR, and what does it take from CT?

    python3 tests/study/experiment.py --out OUT [--data ../shared/data] [--quick]

A base model learns from CT-like phantoms alone. Three adapters (low-rank corrections, a context prior, both) learn
from a few MR-like phantoms. All are measured on held-out phantoms of both modalities with every kind of prompt, and the
base once more when the adapters are there but off. With --data, the same base is then adapted to real scans, all but
one, and measured on that one, for each in turn (this needs nibabel, to split label maps into structures; without --data
only Python itself is needed). OUT gets the models, the reports of `adaptmedseg evaluate`, experiment.json and
experiment.md. Stopped, it goes on where it was when run again. --quick takes minutes and shows nothing but that
everything runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(os.environ.get("ADAPTMEDSEG", ROOT / "target/release/adaptmedseg"))
METHODS = ("lora", "prior", "lora+prior")
PROMPTS = ("text", "point", "box", "text+point", "text+box")
STRUCTURES = ("prostate", "prostate peripheral zone", "urinary bladder", "rectum", "left femur", "right hip", "sacrum",
              "left gluteus maximus")
# Structures of real scans smaller than this say more about voxels than about models.
MIN_ML = 5.0


class Experiment:
    """The folder of a run, and the sizes of its parts."""

    def __init__(self, out: Path, quick: bool):
        self.out = out
        self.quick = quick
        self.structures = ("prostate", "urinary bladder") if quick else STRUCTURES
        # Every size by name, so that it can stand in the report.
        self.sizes = {
            "base steps": 4 if quick else 800,
            "bodies of the atlas": 12 if quick else 240,
            "adapter steps": 2 if quick else 250,
            "MR phantoms to adapt with": 2 if quick else 6,
            "held-out phantoms of each modality": 1 if quick else 6,
            "real adapter steps": 2 if quick else 40,
        }

    def run(self, command: str, *arguments: object, out: Path, resume: bool = True) -> Path:
        """A command that makes `out`, unless it is there."""
        if not out.exists():
            again = ["--resume"] if resume and Path(f"{out}.partial").exists() else []
            line = [COMMAND, command, *arguments, "--out", out, *again, "--quiet"]
            started = time.monotonic()
            done = subprocess.run([str(word) for word in line], check=False, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"adaptmedseg {command}: {done.stderr}")
            print(f"{out.relative_to(self.out)}: {time.monotonic() - started:.0f} s", flush=True)
        return out

    def phantoms(self, name: str, modality: str, count: int, seed: int, split: str) -> Path:
        small = ("--size", "64,56,32") if self.quick else ()
        raw = self.run("phantom", "--modality", modality, "--region", "pelvis", "--count", count, "--seed", seed, *small,
                       out=self.out / f"{name}-scans", resume=False)
        return self.run("prepare", "--root", raw, "--split", split, "--name", name,
                        "--classes", ",".join(self.structures), out=self.out / name)

    def adapters(self, base: Path, data: Path, name: str, steps: int) -> list[Path]:
        return [
            self.run("finetune", "--model", base, "--data", data, "--method", method, "--steps", steps,
                     "--lr", 3e-3, "--loss", "volume", "--validate-every", max(1, steps // 3), "--patience", 0,
                     "--no-checkpointing", "--name", method, out=self.out / name / method)
            for method in METHODS
        ]

    def evaluate(self, base: Path, data: Path, adapters: list[Path], prompts: tuple[str, ...], out: Path,
                 structures: tuple[str, ...] = ()) -> dict:
        named = [word for adapter in adapters for word in ("--adapter", adapter)]
        only = ("--structure", ",".join(structures)) if structures else ()
        self.run("evaluate", "--model", base, "--data", data, *named, "--prompts", ",".join(prompts), *only,
                 "--seed", 5, out=out)
        return json.loads((out / "results.json").read_text())


def change_when_off(before: dict, after: dict) -> tuple[int, float]:
    """Masks of the base, and the largest difference of any measure between before and after adaptation."""
    def base(results: dict) -> dict:
        key = ("dataset", "case", "structure", "prompt", "jitter_mm", "shift")
        return {tuple(row[name] for name in key): row for row in results["rows"] if row["adapter"] == "none"}

    first, second = base(before), base(after)
    if first.keys() != second.keys():
        sys.exit("the evaluations before and after adaptation are not of the same masks")
    largest = 0.0
    for key, row in first.items():
        for measure, value in row.items():
            other = second[key][measure]
            if isinstance(value, float) and isinstance(other, float):
                largest = max(largest, abs(value - other))
            elif value != other:
                sys.exit(f"{key}: {measure} was {value}, and is {other}")
    return len(first), largest


def table(results: dict, modality: str) -> list[str]:
    """Dice by prompt: the base, and what each adapter adds, with its interval."""
    means = {
        (group["adapter"], group["prompt"]): group["dice"]["mean"]
        for group in results["groups"]
        if group["by"] == "modality" and group["value"] == modality and group["shift"] == "none"
    }
    # Results of one modality have no comparisons by modality.
    pairs = {
        (pair["second"], pair["prompt"]): pair
        for wanted in ("all", modality)
        for pair in results["comparisons"]
        if pair["first"] == "none" and pair["modality"] == wanted and pair["measure"] == "dice"
    }
    prompts = [prompt for prompt in PROMPTS if ("none", prompt) in means]
    lines = ["| prompt | base | " + " | ".join(METHODS) + " |", "|---|---|" + "---|" * len(METHODS)]
    for prompt in prompts:
        cells = [f"{means['none', prompt]:.3f}"]
        for method in METHODS:
            pair = pairs.get((method, prompt))
            cell = f"{means[method, prompt]:.3f}"
            if pair is not None:
                cell += f" ({pair['mean_difference']:+.3f}; p {pair['wilcoxon']['p']:.1g})"
            cells.append(cell)
        lines.append(f"| {prompt} | " + " | ".join(cells) + " |")
    return lines


def on_phantoms(experiment: Experiment) -> tuple[Path, list[str], dict]:
    sizes = experiment.sizes
    few, held_out = sizes["MR phantoms to adapt with"], sizes["held-out phantoms of each modality"]
    base = experiment.run("pretrain", "--modality", "ct", "--steps", sizes["base steps"],
                          "--atlas-bodies", sizes["bodies of the atlas"], out=experiment.out / "base")
    half = "0.5,0.5,0" if experiment.quick else "0.67,0.33,0"
    to_learn = experiment.phantoms("few-mr", "mr", few, 1008, half)
    to_measure = experiment.phantoms("held-out", "both", held_out, 2009, "0,0,1")
    before = experiment.evaluate(base, to_measure, [], PROMPTS, experiment.out / "before")
    adapters = experiment.adapters(base, to_learn, "adapters", sizes["adapter steps"])
    after = experiment.evaluate(base, to_measure, adapters, PROMPTS, experiment.out / "after")
    count, change = change_when_off(before, after)
    lines = [
        "## Phantoms",
        "",
        f"A base that learned from CT-like phantoms alone ({sizes['base steps']} steps); adapters that learned from {few} "
        f"MR-like ones, a third of them held out to choose the step ({sizes['adapter steps']} steps); Dice on {held_out} "
        f"others of each modality, {len(experiment.structures)} structures. In brackets: the mean difference from the base and "
        "Wilcoxon's p.",
        "",
        "MR:", "", *table(after, "MR"), "",
        "CT, adapter on:", "", *table(after, "CT"), "",
        f"Adapter off: {count} masks, largest difference of any measure from before adaptation: {change}.",
        "",
    ]
    return base, lines, {"masks": count, "largest_change_when_off": change}


def real_scans(data: Path, out: Path) -> dict[str, dict]:
    """Copies scans and makes one mask for each structure: `prepare` takes files of its own folder alone."""
    import nibabel
    import numpy as np

    names = json.loads((data / "labels.json").read_text())
    scans = {}
    for scan, modality in (("ct_abdomen", "CT"), ("mr_abdomen", "MR"), ("mr_head_t1", "MR")):
        folder = out / scan
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / f"{scan}.nii.gz", folder / "image.nii.gz")
        if scan == "mr_head_t1":
            labels = nibabel.load(data / "mr_head_t1_brain.nii.gz")
            masks = {"brain": np.asarray(labels.dataobj) > 0}
        else:
            labels = nibabel.load(data / f"{scan}_labels.nii.gz")
            ids = np.asarray(labels.dataobj)
            masks = {name.replace("_", " "): ids == int(key) for key, name in names[modality.lower()].items()}
        millilitres = abs(np.linalg.det(labels.affine[:3, :3])) / 1000.0
        kept = {name: mask for name, mask in masks.items() if mask.sum() * millilitres >= MIN_ML}
        for name, mask in kept.items():
            image = nibabel.Nifti1Image(mask.astype(np.uint8), labels.affine)
            nibabel.save(image, folder / f"{name.replace(' ', '_')}.nii.gz")
        scans[scan] = {"modality": modality, "structures": sorted(kept)}
    return scans


def pairs_of(scans: dict[str, dict], chosen: list[str], folder: str) -> list[dict]:
    return [
        {
            "image": f"{folder}{scan}/image.nii.gz",
            "mask": f"{folder}{scan}/{structure.replace(' ', '_')}.nii.gz",
            "label": structure,
            "task": structure,
            "subject": scan,
            "modality": scans[scan]["modality"],
        }
        for scan in chosen
        for structure in scans[scan]["structures"]
    ]


def on_real_scans(experiment: Experiment, base: Path, data: Path) -> list[str]:
    prompts = ("point", "box")
    real = experiment.out / "real"
    scans = real_scans(data, real / "scans")
    lines = ["## Real scans, leaving one out", ""]
    for left_out, about in scans.items():
        fold = real / f"without-{left_out}"
        fold.mkdir(exist_ok=True)
        # One structure in ten tells when to stop. The base does not know all their names, and is not asked by text here.
        known = pairs_of(scans, [scan for scan in scans if scan != left_out], "../scans/")
        for index, pair in enumerate(known):
            del pair["label"]
            pair["split"] = "validation" if index % 10 == 9 else "train"
        (fold / "pairs.json").write_text(json.dumps(known, indent=1))
        adapters = experiment.adapters(base, fold / "pairs.json", f"real/without-{left_out}",
                                       experiment.sizes["real adapter steps"])
        # The left-out scan alone, as a data set.
        one = real / "scans" / left_out
        (one / "pairs.json").write_text(json.dumps(
            [pair | {key: pair[key].split("/", 1)[1] for key in ("image", "mask")}
             for pair in pairs_of(scans, [left_out], "")], indent=1))
        held_out = experiment.run("prepare", "--root", one, "--split", "0,0,1", "--name", left_out, out=fold / "held-out")
        few = tuple(about["structures"][:2]) if experiment.quick else ()
        results = experiment.evaluate(base, held_out, adapters, prompts, fold / "results", few)
        lines += [
            f"{left_out} ({about['modality']}, {len(about['structures'])} structures), adapted with the other two:",
            "", *table(results, about["modality"]), "",
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--data", type=Path, help="folder with the real scans")
    parser.add_argument("--quick", action="store_true", help="sizes that only show that everything runs")
    arguments = parser.parse_args()
    if not COMMAND.exists():
        sys.exit(f"{COMMAND} is absent: cargo build --release, or set ADAPTMEDSEG")
    started = time.monotonic()
    arguments.out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(arguments.out.resolve(), arguments.quick)
    base, lines, off = on_phantoms(experiment)
    if arguments.data is not None:
        lines += on_real_scans(experiment, base, arguments.data)
    text = "\n".join(["# Adapting a CT model to MR", "", *lines])
    (experiment.out / "experiment.md").write_text(text)
    (experiment.out / "experiment.json").write_text(json.dumps({"sizes": experiment.sizes, "adapter_off": off}, indent=1))
    print(text)
    print(f"{time.monotonic() - started:.0f} s")
    if off["largest_change_when_off"] != 0.0:
        sys.exit("the base changed although no adapter was on")


if __name__ == "__main__":
    main()
