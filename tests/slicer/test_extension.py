"""The extension as a package. It is configured, built and packed against a stand-in for Slicer's build tree, which has
the same macros and folders and nothing else: what the real macros may refuse beyond that is not tested here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys

import pytest
from cli_program import ROOT

EXTENSION = ROOT / "slicer-module"
MODULE = EXTENSION / "AdaptMedSeg"
ICON = MODULE / "Resources" / "Icons" / "AdaptMedSeg.png"
STUB = ROOT.parent / "shared" / "slicer" / "extension-stub" / "stub"


def settings(*folders):
    """The `set(EXTENSION_... "...")` lines: Slicer's tools want each as one quoted string on one line."""
    text = "".join((folder / "CMakeLists.txt").read_text() for folder in folders)
    return dict(re.findall(r'^ *set\(EXTENSION_(\w+) "([^"\n]*)"\)$', text, re.M))


def entry():
    """The extension's entry in the catalogue."""
    return json.loads((EXTENSION / "AdaptMedSeg.json").read_text())


def listed():
    """The files the scripted module's CMakeLists.txt names."""
    body = (MODULE / "CMakeLists.txt").read_text().replace("${MODULE_NAME}", "AdaptMedSeg")
    lists = re.findall(r"^set\(MODULE_PYTHON_(?:SCRIPTS|RESOURCES)(.*?)\)$", body, re.M | re.S)
    return sorted(" ".join(lists).split())


def test_every_file_of_the_scripted_module_is_listed():
    there = [path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*") if path.is_file()]
    ours = [path for path in there if "__pycache__" not in path and not path.endswith((".pyc", "CMakeLists.txt"))]
    assert listed() == sorted(ours)


def test_the_catalogue_entry_keeps_the_rules():
    """The schema's, and those of `check_description_files.py` in the index of extensions."""
    given = entry()
    schemas = "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/"
    assert re.fullmatch(re.escape(schemas) + r"[\w-]+-v1\.0\.\d\.json#", given.pop("$schema"))
    allowed = {"build_dependencies", "build_subdirectory", "category", "scm_revision", "scm_url", "tier"}
    assert {"category", "scm_url"} <= set(given) <= allowed
    assert given["category"] == "Segmentation"  # one of the index's
    # The repository's name has the word in it, the extension's does not.
    assert re.fullmatch(r"https://github\.com/[\w-]+/Slicer[\w-]+\.git", given["scm_url"])
    assert given["tier"] in (1, 3, 5)
    needed = settings(EXTENSION)["DEPENDS"]
    assert given["build_dependencies"] == ([] if needed == "NA" else needed.split())


def test_the_metadata_is_complete():
    given = settings(EXTENSION)
    for name in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "DEPENDS"):
        assert given.get(name), name
    assert given["CATEGORY"] == entry()["category"]
    # The index looks for these two, and for the name of the extension, in the root of the tree.
    top = settings(ROOT)
    repository = entry()["scm_url"].removeprefix("https://github.com/").removesuffix(".git")
    raw = f"https://raw.githubusercontent.com/{repository}/{entry()['scm_revision']}/"
    for url in [top["ICONURL"], *top["SCREENSHOTURLS"].split()]:
        assert url.startswith(raw) and (ROOT / url[len(raw) :]).is_file(), url
    assert re.search(r"^project\(AdaptMedSeg ", (ROOT / "CMakeLists.txt").read_text(), re.M)


def test_licence_readme_and_icon_are_there():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert (ROOT / "README.md").is_file()
    head = ICON.read_bytes()[:26]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    assert (width, height, depth, colour) == (128, 128, 8, 6), "128 x 128, RGBA"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The packed extension, unpacked."""
    if not STUB.is_dir():
        pytest.skip("skipped: ../shared/slicer is absent")
    if not os.environ.get("ADAPTMEDSEG_LIBRARY_DIR"):
        pytest.skip("skipped: ADAPTMEDSEG_LIBRARY_DIR names no built libadaptmedseg")
    if not (shutil.which("cmake") and shutil.which("ninja")):
        pytest.skip("skipped: cmake or ninja is absent")
    build = tmp_path_factory.mktemp("build")
    library = os.path.abspath(os.environ["ADAPTMEDSEG_LIBRARY_DIR"])
    configure = ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DSlicer_DIR={STUB}"]
    for command in (
        [*configure, f"-DADAPTMEDSEG_LIBRARY_DIR={library}"],
        ["cmake", "--build", build, "--parallel", "1"],
        ["cpack", "--config", build / "CPackConfig.cmake", "-B", build],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=build)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    shutil.unpack_archive(next(build.glob("*.tar.gz")), build / "unpacked")
    return next((build / "unpacked").glob("*/lib/Slicer-*"))


def test_the_package_holds_all_parts_where_slicer_looks_for_them(package):
    scripted = package / "qt-scripted-modules"
    for name in listed():
        assert (scripted / name).read_bytes() == (MODULE / name).read_bytes()
    program = package / "cli-modules" / "AdaptMedSegCLI"
    assert os.access(program, os.X_OK)
    description = subprocess.run([program, "--xml"], capture_output=True).stdout
    assert description == program.with_suffix(".xml").read_bytes()
    source = ROOT / "plugins" / "python" / "adaptmedseg"
    expected = {path.name for path in source.glob("*.py")} | {"py.typed", "libadaptmedseg.so"}
    assert {path.name for path in (scripted / "adaptmedseg").iterdir()} == expected
    # Nothing of the library's own package: no headers, no archives, no CMake files.
    assert {path.name for path in package.iterdir()} == {"cli-modules", "qt-scripted-modules"}
    assert not list(package.rglob("*.a")) and not list(package.rglob("*.h"))


def test_the_python_package_in_it_works_with_nothing_installed(package):
    """As in Slicer: its folder on the path, NumPy there, no network, no variable set."""
    code = (
        "import numpy, adaptmedseg; from pathlib import Path\n"
        "volume = numpy.zeros((24, 24, 24), 'f4'); volume[8:16, 8:16, 8:16] = 9\n"
        "session = adaptmedseg.Model('builtin').session(volume); session.set_box((7, 7, 7), (17, 17, 17))\n"
        "print(session.segment().shape, Path(adaptmedseg.__file__).parent)"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTMEDSEG")}
    clean["PYTHONPATH"] = str(package / "qt-scripted-modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    assert done.stdout == f"(24, 24, 24) {package / 'qt-scripted-modules' / 'adaptmedseg'}\n", done.stderr


def test_the_parts_in_it_need_no_library_of_their_own_at_run_time(package):
    """The program has the library in itself; ITK comes from Slicer."""
    if not shutil.which("readelf"):
        pytest.skip("skipped: readelf is absent")
    needed = subprocess.run(
        ["readelf", "-d", package / "cli-modules" / "AdaptMedSegCLI"], capture_output=True, text=True
    ).stdout
    assert "NEEDED" in needed and "adaptmedseg" not in needed


def test_the_repository_is_small_enough_for_the_index():
    """A hundred megabytes, as cloned."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("skipped: not a git checkout")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    size = sum((ROOT / name).stat().st_size for name in files if name and (ROOT / name).is_file())
    assert size < 100e6
