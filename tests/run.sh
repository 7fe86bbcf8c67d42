#!/usr/bin/env bash
# Installs what the tests need and runs every test. The last lines list what was skipped; the very last one counts.
#
# Everything is built once, in the release profile: the network is too slow without optimisation, and the C and C++
# hosts and the command want that profile anyway. What cannot be had on this machine (no network, no such package) is
# skipped and said; it never makes a test pass.
#
#   ADAPTMEDSEG_GOLDEN   folder of golden bundles (default ../shared/golden, else the committed subset)
#   ADAPTMEDSEG_DATA     folder of real volumes (default ../shared/data)
#   CARGO_TARGET_DIR     where cargo builds (default target)

set -u
cd "$(dirname "$0")/.." || exit 1
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TERM_COLOR=never
export PATH=$PATH:$HOME/.cargo/bin
DENY_VERSION=0.20.2

logs=$CARGO_TARGET_DIR/test-logs
tools=$CARGO_TARGET_DIR/tools
rm -rf "$logs"
mkdir -p "$logs" "$tools"
passed=0
failed=0
: > "$logs/skipped"

skip() { echo "skipped: $1" | tee -a "$logs/skipped"; }

# The text between `pattern` and the word that follows it, added up over a log: `N passed` and the like.
count() { grep -oE "[0-9]+ $2" "$1" | awk '{ sum += $1 } END { print sum + 0 }'; }

# step NAME COMMAND...: runs a command with its output in a log. A log that counts its tests is counted; any other
# step is one test. Lines `skipped: why` of the log are kept for the end.
step() {
    local name=$1 log started=$SECONDS status good bad
    log=$logs/$(echo "$name" | tr -c 'a-z0-9\n' _).log
    shift
    "$@" > "$log" 2>&1 < /dev/null
    status=$?
    grep -E '^skipped: ' "$log" | sed "s/\$/ ($name)/" >> "$logs/skipped"
    good=$(grep -E '^(test result:|cli:|interop:|hosts:|torch:|[0-9]+ (passed|failed).* in [0-9.]+s)' "$log" > "$logs/counts"; count "$logs/counts" passed)
    bad=$(count "$logs/counts" failed)
    if [ $((good + bad)) -eq 0 ] || { [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; }; then
        if [ "$status" -eq 0 ]; then good=1; else bad=1; fi
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ "$status" -eq 0 ] && [ "$bad" -eq 0 ]; then
        printf 'ok      %4d s  %s (%d)\n' $((SECONDS - started)) "$name" "$good"
        return 0
    fi
    printf 'FAILED  %4d s  %s\n' $((SECONDS - started)) "$name"
    { grep -nE '^(error|warning: unused|FAILED|failures:|test .* FAILED)|panicked' "$log" | head -n 40; echo '...'; tail -n 60 "$log"; } | sed 's/^/    /'
    echo "    (all of it: $log)"
    return 1
}

command -v cargo > /dev/null || { echo "error: cargo is absent; install Rust from https://rustup.rs" >&2; exit 1; }
for part in rustfmt clippy; do
    cargo "${part/rustfmt/fmt}" --version > /dev/null 2>&1 || rustup component add "$part"
done

# PyTorch takes minutes to download and unpack, and 7 GB: beside what follows, and only where there is room.
if [ -d "${ADAPTMEDSEG_TORCH_VENV:-$tools/torch-venv}" ] || [ "$(df -Pk "$tools" | awk 'END { print int($4 / 1048576) }')" -ge 12 ]; then
    bash tests/torch.sh install > "$logs/install_torch.log" 2>&1 &
    torch_installed=$!
fi

# Style
step "format" cargo fmt --all --check
step "clippy" cargo clippy --release --workspace --all-targets --locked -- -D warnings

# Licences and sources of the dependencies
deny=$(command -v cargo-deny || echo "$tools/bin/cargo-deny")
if [ ! -x "$deny" ] || [ "$("$deny" --version 2> /dev/null)" != "cargo-deny $DENY_VERSION" ]; then
    deny=$tools/bin/cargo-deny
    # Without its optimisation, which takes longer than all the checks it is for.
    [ -x "$deny" ] || CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_TARGET_DIR=$tools/build cargo install cargo-deny --version "$DENY_VERSION" --locked \
        --root "$tools" > "$logs/install_deny.log" 2>&1 || skip "cargo-deny $DENY_VERSION cannot be installed"
fi
if [ -x "$deny" ]; then
    step "deny: bans, licences, sources" "$deny" --locked check bans licenses sources
    if timeout 20 git ls-remote https://github.com/RustSec/advisory-db HEAD > /dev/null 2>&1; then
        step "deny: advisories" "$deny" --locked check advisories
    else
        skip "the RustSec advisory database cannot be reached: no check for advisories"
    fi
fi

# Rust. `--show-output` keeps the lines that say what a test skipped.
step "build" cargo build --release --workspace --locked
step "cargo test" cargo test --release --workspace --locked --no-fail-fast -- --show-output

# The command
export ADAPTMEDSEG=$CARGO_TARGET_DIR/release/adaptmedseg
for script in tests/cli/*.sh; do
    [ "$script" = tests/cli/lib.sh ] || step "command line: $(basename "$script" .sh)" bash "$script"
done

# Image files read and written by other programs
venv=$tools/venv
if [ -x "$venv/bin/python" ] || python3 -m venv "$venv" > "$logs/venv.log" 2>&1; then
    if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy nibabel SimpleITK >> "$logs/venv.log" 2>&1; then
        step "images of other programs" "$venv/bin/python" tests/volume/interop.py "$CARGO_TARGET_DIR/release/examples/volume_dump"
        if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check scipy pydicom tifffile pillow pytest >> "$logs/venv.log" 2>&1; then
            METRICS_DUMP=$CARGO_TARGET_DIR/release/examples/metrics_dump step "data sets and metrics" \
                "$venv/bin/python" -m pytest -q -rs -p no:cacheprovider tests/study
        else
            skip "scipy, pydicom, tifffile and Pillow cannot be installed: no data set of any layout is made"
        fi
    else
        skip "nibabel and SimpleITK cannot be installed: no exchange of images with other programs"
    fi
else
    skip "python3 with venv is absent: no exchange of images with other programs"
fi

# The Python package: its wheel in an environment of its own, with the library that was built above
wheel=$tools/wheel-venv
python_package() {
    rm -rf "$wheel" "$tools/wheels"
    python3 -m venv "$wheel" &&
        "$wheel/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps -w "$tools/wheels" ./plugins/python &&
        "$wheel/bin/python" -m pip install --quiet --disable-pip-version-check "$tools"/wheels/adaptmedseg-*.whl pytest mypy \
            SimpleITK nibabel &&
        "$wheel/bin/python" -m mypy --config-file plugins/python/pyproject.toml plugins/python/adaptmedseg &&
        (cd "$tools" && "$wheel/bin/python" -m pytest -q -rs "$OLDPWD/tests/python")
}
if [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps -d "$tools/probe" \
    scikit-build-core > /dev/null 2>&1; then
    ADAPTMEDSEG_LIBRARY_DIR=$CARGO_TARGET_DIR/release step "python package" python_package
else
    skip "the package index cannot be reached: the Python package is not built"
fi

# Programs in C and C++ against the installed library
step "hosts in C and C++" bash tests/hosts.sh

# The extension of 3D Slicer, after what installs CMake and ITK
if "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps -d "$tools/probe" slicer-core > /dev/null 2>&1; then
    ADAPTMEDSEG_WHEEL=$(ls "$tools"/wheels/adaptmedseg-*.whl 2> /dev/null) \
        ADAPTMEDSEG_LIBRARY_DIR=$CARGO_TARGET_DIR/release step "3D Slicer" bash tests/slicer.sh
else
    skip "the package slicer-core cannot be installed: nothing of the extension of 3D Slicer is tested"
fi

# The libtorch plugin
if [ -n "${torch_installed:-}" ] && [ -x "$venv/bin/python" ] &&
    "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps -d "$tools/probe" packaging > /dev/null 2>&1; then
    wait "$torch_installed"
    ADAPTMEDSEG_LIBRARY_DIR=$CARGO_TARGET_DIR/release step "libtorch plugin" bash tests/torch.sh
    # Metrics and shifts as MONAI and TorchIO have them: both need torch.
    torch=${ADAPTMEDSEG_TORCH_VENV:-$tools/torch-venv}/bin/python
    if "$torch" -m pip install --quiet --disable-pip-version-check monai torchio nibabel scipy pytest >> "$logs/venv.log" 2>&1; then
        METRICS_DUMP=$CARGO_TARGET_DIR/release/examples/metrics_dump step "metrics and shifts of other programs" \
            "$torch" -m pytest -q -rs -p no:cacheprovider -k "monai or torchio" tests/study/test_metrics.py
    else
        skip "MONAI and TorchIO cannot be installed: no comparison of metrics and shifts with them"
    fi
else
    skip "PyTorch 2.9.0 cannot be installed (12 GB of room and the package index are needed): nothing of the libtorch plugin is tested"
fi

skipped=$(wc -l < "$logs/skipped")
ignored=$(cat "$logs"/*.log | grep -E '^test result:' > "$logs/counts"; count "$logs/counts" ignored)
[ "$ignored" -eq 0 ] || echo "skipped: $ignored tests marked #[ignore]" >> "$logs/skipped"
skipped=$((skipped + ignored))
if [ "$skipped" -gt 0 ]; then
    echo
    echo "$skipped skipped:"
    sort "$logs/skipped" | uniq -c | sed -E 's/^ *([0-9]+) skipped: /  \1 x /'
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
