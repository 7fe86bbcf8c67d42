#!/usr/bin/env bash
# Whether include/adaptmedseg.h is what cbindgen makes of src/capi today. `header.sh --write` writes it instead.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
wanted=0.29.4

if [[ "$(cbindgen --version 2>/dev/null || true)" != "cbindgen $wanted" ]]; then
    cargo install cbindgen --version "$wanted" --locked
fi
generate() {
    cbindgen --quiet --config "$root/src/capi/cbindgen.toml" --lockfile "$root/Cargo.lock" --output "$1" \
        "$root/src/capi"
}
if [[ ${1:-} == --write ]]; then
    generate "$root/include/adaptmedseg.h"
    exit
fi
fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
generate "$fresh"
if ! diff -u "$root/include/adaptmedseg.h" "$fresh"; then
    echo "include/adaptmedseg.h is out of date: run tests/abi/header.sh --write" >&2
    exit 1
fi
