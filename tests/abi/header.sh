#!/usr/bin/env bash
# Whether the generated headers are what cbindgen makes of the sources today: include/adaptmedseg.h of src/capi, and
# include/adaptmedseg_plugin.h of the engine's plugin table. `header.sh --write` writes them instead.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
wanted=0.29.4

if [[ "$(cbindgen --version 2>/dev/null || true)" != "cbindgen $wanted" ]]; then
    cargo install cbindgen --version "$wanted" --locked
fi
generate() { # FOLDER
    cbindgen --quiet --config "$root/src/capi/cbindgen.toml" --lockfile "$root/Cargo.lock" \
        --output "$1/adaptmedseg.h" "$root/src/capi"
    cbindgen --quiet --config "$root/src/engine/cbindgen.toml" \
        --output "$1/adaptmedseg_plugin.h" "$root/src/engine/src/plugin/abi.rs"
}
if [[ ${1:-} == --write ]]; then
    generate "$root/include"
    exit
fi
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
generate "$fresh"
for header in adaptmedseg.h adaptmedseg_plugin.h; do
    if ! diff -u "$root/include/$header" "$fresh/$header"; then
        echo "include/$header is out of date: run tests/abi/header.sh --write" >&2
        exit 1
    fi
done
