#!/usr/bin/env bash
# Whether a library exports exactly the committed list, the header declares exactly that, and src/capi defines it.
#   symbols.sh PATH/libadaptmedseg.so
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
list=$root/tests/abi/symbols.txt
export LC_ALL=C

same() {
    diff -u --label "tests/abi/symbols.txt" --label "$1" "$list" - || { echo "$1 differs from the list" >&2; exit 1; }
}
# Everything defined, not only what begins with ams_: nothing else may leak out.
nm -D --defined-only "$1" | awk '{ print $3 }' | sort | same "the exports of $1"
# Declarations, with their comments and macros taken away by the compiler; callbacks are pointers, not functions.
"${CC:-cc}" -E -P -x c "$root/include/adaptmedseg.h" | tr '\n' ' ' | tr ';' '\n' | grep -v typedef |
    grep -oE '\bams_[a-z0-9_]+ *\(' | tr -d ' (' | sort | same "include/adaptmedseg.h"
grep -hA1 'no_mangle' "$root"/src/capi/src/*.rs | grep -oE 'fn ams_[a-z0-9_]+' | cut -d' ' -f2 | sort | same "src/capi"
soname=libadaptmedseg.so.$(sed -n 's/^#define AMS_ABI_VERSION //p' "$root/include/adaptmedseg.h")
[[ "$(objdump -p "$1" | awk '$1 == "SONAME" { print $2 }')" == "$soname" ]] ||
    { echo "$1 has not the SONAME $soname" >&2; exit 1; }
