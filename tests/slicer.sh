#!/usr/bin/env bash
# Builds the command-line module against the installed library and ITK, and tests everything of slicer-module/ on Slicer's
# own classes (the package slicer-core), in an environment of its own.
#
#   ADAPTMEDSEG_LIBRARY_DIR=DIR  folder of a built libadaptmedseg and command (default: target/release)
#   ADAPTMEDSEG_WHEEL            the wheel of the Python package (default: built here)
#   ADAPTMEDSEG_SLICER_VENV      where the environment is kept (default: target/tools/slicer-venv)
#
# Arguments are for pytest. Needs cmake, ninja, a C++17 compiler and ITK 5; tests/hosts.sh installs them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
built=$(cd "${ADAPTMEDSEG_LIBRARY_DIR:-$target/release}" && pwd)
venv=${ADAPTMEDSEG_SLICER_VENV:-$target/tools/slicer-venv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The newest that this was tested with; every other version may name its symbols otherwise.
SLICER_CORE=5.13.31053.0
# Later ones are built for Python 3.12 and count references wrongly in older ones.
PYSIDE=6.10.1

export PIP_DISABLE_PIP_VERSION_CHECK=1
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet "slicer-core==$SLICER_CORE" "PySide6-Essentials==$PYSIDE" ctk-cli slicerio SimpleITK pydicom \
    nibabel pynrrd numpy pytest
wheel=${ADAPTMEDSEG_WHEEL:-}
if [ -z "$wheel" ]; then
    ADAPTMEDSEG_LIBRARY_DIR=$built "$venv/bin/python" -m pip wheel --quiet --no-deps -w "$work" ./plugins/python
    wheel=$(echo "$work"/adaptmedseg-*.whl)
fi
"$venv/bin/python" -m pip install --quiet --force-reinstall --no-deps "$wheel"

# Qt draws the panel without a screen, but wants these libraries all the same.
if ! "$venv/bin/python" -c 'from PySide6 import QtWidgets' 2> /dev/null && command -v apt-get > /dev/null; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 fonts-dejavu-core > /dev/null || echo "could not install what Qt needs" >&2
fi

if cmake -S . -B "$work/library" -G Ninja -DCMAKE_INSTALL_PREFIX="$work/prefix" -DCMAKE_INSTALL_LIBDIR=lib \
        -DADAPTMEDSEG_LIBRARY_DIR="$built" > "$work/log" 2>&1 &&
    cmake --install "$work/library" >> "$work/log" 2>&1 &&
    cmake -S slicer-module/AdaptMedSegCLI -B "$work/cli" -G Ninja \
        -DAdaptMedSeg_DIR="$work/prefix/lib/cmake/AdaptMedSeg" >> "$work/log" 2>&1 &&
    cmake --build "$work/cli" >> "$work/log" 2>&1; then
    export ADAPTMEDSEG_CLI_MODULE=$work/cli/AdaptMedSegCLI
else
    cat "$work/log" >&2
    # ITK is the one thing that may be missing; without it the module's tests say that they are skipped.
    ! grep -q 'package configuration file provided by "ITK"' "$work/log" || skip_itk=1
    [ "${skip_itk:-0}" = 1 ] || exit 1
    echo "skipped: ITK is absent: the command-line module is not built"
fi

ADAPTMEDSEG_LIBRARY_DIR=$built "$venv/bin/python" -m pytest -q -rs -p no:cacheprovider tests/slicer "$@"
