#!/usr/bin/env bash
# Builds plugins/torch against PyTorch 2.9.0 and runs the conformance suite, the parity ladder and the command on its
# processor device; then the case of a process that has another libtorch.
#
#   ADAPTMEDSEG_TORCH_VENV   a Python environment with torch==2.9.0 (default: made in target/tools, 7 GB with CUDA)
#   ADAPTMEDSEG_OTHER_TORCH  a Python with another torch (default: a copy of a library of torch stands in for it)
#   ADAPTMEDSEG_LIBRARY_DIR  folder of the built libadaptmedseg and command (default: target/release)
#   CARGO_TARGET_DIR         where cargo builds (default: target)
#
# tests/torch.sh install: only the environment.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
target=${CARGO_TARGET_DIR:-$root/target}
built=${ADAPTMEDSEG_LIBRARY_DIR:-$target/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# check NAME COMMAND...: one line; the output only of what fails.
check() {
    local name=$1 log=$work/log
    shift
    if "$@" >"$log" 2>&1; then
        echo "passed   $name"
        passed=$((passed + 1))
    else
        echo "FAILED   $name"
        failed=$((failed + 1))
        tail -n 60 "$log" | sed 's/^/         /'
    fi
    grep -h '^skipped:' "$log" || true
    skipped=$((skipped + $(grep -c '^skipped:' "$log" || true)))
}
finish() {
    echo "torch: $passed passed, $failed failed, $skipped skipped"
    ((failed == 0))
    exit
}

venv=${ADAPTMEDSEG_TORCH_VENV:-$target/tools/torch-venv}
install() {
    [[ -x $venv/bin/python ]] || python3 -m venv "$venv" || return
    "$venv/bin/python" -c 'import torch; assert torch.__version__.split("+")[0] == "2.9.0"' 2>/dev/null && return
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.9.0 numpy setuptools
}
if [[ ${1:-} == install ]]; then
    install
    exit
fi
check "PyTorch 2.9.0" install
((failed == 0)) || finish

export LIBTORCH_USE_PYTORCH=1 VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH
build() {
    CARGO_TARGET_DIR=$target/torch cargo build --release --locked --manifest-path plugins/torch/Cargo.toml
}
style() {
    (cd plugins/torch && cargo fmt --check) &&
        CARGO_TARGET_DIR=$target/torch cargo clippy --release --locked --manifest-path plugins/torch/Cargo.toml -- -D warnings
}
check "the plugin builds" build
((failed == 0)) || finish
check "the plugin is tidy" style
plugin=$target/torch/release/libadaptmedseg_torch.so
exports() {
    [[ $(nm -D --defined-only "$plugin" | awk '{ print $3 }') == ams_plugin_init ]]
}
check "nothing but ams_plugin_init is exported" exports

# The suite, as cargo test runs it for the rest: the same features, so nothing is built again.
suite() {
    ADAPTMEDSEG_CONFORM_PLUGIN=$plugin ADAPTMEDSEG_CONFORM_DEVICE=torch:cpu \
        cargo test --release --workspace --locked --test shared -- --show-output --test-threads=1
}
check "conformance and parity on torch:cpu" suite
grep -hE '^test .* ok$|: losses |Dice' "$work/log" | sed 's/^/         /'

# The command
ams=$built/adaptmedseg
same_mask() { # A B: at least 0.999 of Dice
    python - "$1" "$2" <<'PYTHON'
import gzip, sys
a, b = (gzip.open(path).read()[352:] for path in sys.argv[1:])
assert len(a) == len(b) and any(a)
both = sum(1 for x, y in zip(a, b) if x and y)
dice = 2 * both / (sum(map(bool, a)) + sum(map(bool, b)))
print("Dice", dice)
assert dice >= 0.999, dice
PYTHON
}
command() {
    "$target/release/examples/fixture" "$work/fixture" || return
    cd "$work" || return
    local segment=("$ams" segment --model builtin --image fixture/volume.nii.gz --box 30,30,20,62,62,44 --threads 2)
    "${segment[@]}" --device cpu --out cpu.nii.gz &&
        "${segment[@]}" --device torch:cpu --plugin "$plugin" --out torch.nii.gz --report torch.json &&
        grep -q '"torch:cpu"' torch.json && same_mask cpu.nii.gz torch.nii.gz &&
        ADAPTMEDSEG_PLUGIN_PATH=$(dirname "$plugin") "${segment[@]}" --device torch:cpu --precision bf16 --out bf16.nii.gz &&
        same_mask cpu.nii.gz bf16.nii.gz &&
        "${segment[@]}" --device auto --plugin "$plugin" --out auto.nii.gz
}
check "adaptmedseg segment --device torch:cpu" command
unknown() {
    ! "$ams" segment --model builtin --image "$work/fixture/volume.nii.gz" --box 30,30,20,62,62,44 --device torch:cuda:99 \
        --plugin "$plugin" --out "$work/none.nii.gz" 2>"$work/error" && cat "$work/error" && grep -q 'torch:cpu' "$work/error"
}
check "an unknown device is refused, and the known ones named" unknown
devices() {
    ADAPTMEDSEG_PLUGIN_PATH=$(dirname "$plugin") "$ams" info --devices | tee "$work/devices"
    grep -q '^torch:cpu ' "$work/devices"
}
check "adaptmedseg info --devices lists those of the plugin" devices
absent() {
    cd "$work" && ! ADAPTMEDSEG_PLUGIN_PATH=$work/nowhere "$ams" segment --model builtin --image fixture/volume.nii.gz \
        --box 30,30,20,62,62,44 --device none:cpu --out none.nii.gz 2>error &&
        cat error && grep -q "$work/nowhere/libadaptmedseg_none.so" error
}
check "a plugin that is absent is named with every path tried" absent

# Another libtorch in the process
conflict() {
    local python=${ADAPTMEDSEG_OTHER_TORCH:-}
    if [[ -z $python ]]; then
        python=$venv/bin/python
        cp "$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))')/lib/libc10.so" "$work/libc10.so"
    fi
    PYTHONPATH=$root/plugins/python ADAPTMEDSEG_LIBRARY=$built/libadaptmedseg.so "$python" "$root/tests/python/other_torch.py" \
        "$plugin" "$work/libc10.so"
}
check "another libtorch in the process: refused by name, and the processor goes on" conflict
finish
