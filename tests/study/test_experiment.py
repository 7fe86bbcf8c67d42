"""The experiment's script runs from end to end, in small, and finds the base unchanged when no adapter is on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(os.environ.get("ADAPTMEDSEG", ROOT / "target/release/adaptmedseg"))

if not COMMAND.exists():
    pytest.skip(f"skipped: {COMMAND} is absent: cargo build --release", allow_module_level=True)


def test_the_experiment_runs(tmp_path):
    line = [sys.executable, ROOT / "tests/study/experiment.py", "--quick", "--out", tmp_path]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((tmp_path / "experiment.json").read_text())["adapter_off"]
    assert said["masks"] > 10 and said["largest_change_when_off"] == 0.0
    text = (tmp_path / "experiment.md").read_text()
    assert text.count("| prompt | base | lora | prior | lora+prior |") == 2 and "| text+box |" in text
    assert "lora+prior, MR box" in (tmp_path / "after/report.html").read_text()
    # Nothing is made twice.
    again = subprocess.run(line, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "base:" not in again.stdout
