"""The models and adapters of a folder: what a chooser shows, read without loading any weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

BUILTIN = "builtin"
_MODEL_FILE, _ADAPTER_FILE, _CARD_FILE = "config.json", "adapter.json", "MODEL_CARD.md"


@dataclass(frozen=True)
class Entry:
    """A model or an adapter."""

    name: str
    #: Its folder, or `builtin`.
    path: str
    description: str
    license: str
    #: Names of the structures and of the modalities an adapter was trained for.
    tasks: tuple = field(default=())
    modalities: tuple = field(default=())

    @property
    def title(self):
        """One line for a tool tip."""
        return f"{self.description}\nLicence: {self.license}" if self.description else f"Licence: {self.license}"


_BUILTIN_ENTRY = Entry(
    "builtin (demonstration)",
    BUILTIN,
    "A small model that comes with the library, trained on generated scans. A demonstration, not for clinical use.",
    "Apache-2.0",
)


def models(folder=None):
    """The built-in model, then those in `folder`: each a folder of its own with `config.json`."""
    return [_BUILTIN_ENTRY, *(_model(path) for path in _folders(folder, _MODEL_FILE))]


def adapters(folder=None):
    """The adapters in `folder`: each a folder of its own with `adapter.json`."""
    return [_adapter(path) for path in _folders(folder, _ADAPTER_FILE)]


def _folders(folder, marker):
    """Folders in `folder` that have a file `marker` which can be read."""
    if not folder or not Path(folder).is_dir():
        return []
    return [path.parent for path in sorted(Path(folder).glob(f"*/{marker}")) if _read(path) is not None]


def _read(path):
    """The object in a JSON file; None where there is none: a damaged entry must not hide the others."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _model(path):
    config = _read(path / _MODEL_FILE)
    return Entry(str(config.get("name") or path.name), str(path), _summary(path), _license(config))


def _adapter(path):
    config = _read(path / _ADAPTER_FILE)
    base = config.get("base_name")
    tasks, modalities = (tuple(map(str, config.get(key) or ())) for key in ("tasks", "modalities"))
    parts = [f"for the model {base}" if base else "", ", ".join(tasks), ", ".join(modalities)]
    description = "; ".join(part for part in parts if part)
    return Entry(str(config.get("name") or path.name), str(path), description, _license(config), tasks, modalities)


def _license(config):
    return str(config.get("license") or "not stated")


def _summary(path):
    """The first paragraph of the model's card."""
    try:
        card = (path / _CARD_FILE).read_text(encoding="utf-8")
    except OSError:
        return ""
    paragraphs = (" ".join(part.split()) for part in card.split("\n\n"))
    return next((part for part in paragraphs if part and not part.startswith("#")), "")
