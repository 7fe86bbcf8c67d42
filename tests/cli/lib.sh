# Shared by the tests of the command line. A test script sources this file, calls `expect` and the like, and ends with
# `finish`. It needs $ADAPTMEDSEG, the command under test; otherwise only bash, coreutils and gzip.

set -u
: "${ADAPTMEDSEG:?set ADAPTMEDSEG to the command under test}"
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

pass() { passed=$((passed + 1)); echo "ok: $1"; }
fail() { failed=$((failed + 1)); echo "FAILED: $1"; }
skip() { echo "skipped: $1"; }

# Counts for tests/run.sh; the status says whether all is well.
finish() {
    echo "cli: $passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

# A small volume, a model of random weights and its mask, made once per script: $demo/volume.nii, $demo/model,
# $demo/mask.nii.gz
make_demo() {
    demo=$work/demo
    "${ADAPTMEDSEG_FIXTURE:-$(dirname "$ADAPTMEDSEG")/examples/fixture}" "$demo" ||
        { echo "FAILED: the fixture, which the tests build on (cargo build --release --workspace --examples)"; exit 1; }
    gunzip -c "$demo/volume.nii.gz" > "$work/volume.nii"
}

# expect NAME CODE PATTERN ARGUMENT...
# Runs the command; it must end with CODE, say PATTERN (extended, on either stream) and, if it fails, in the house's
# style. With a CODE other than 0 the folder $out, where outputs belong, must stay as it was.
out=$work/out
expect() {
    local name=$1 code=$2 pattern=$3 status before after
    shift 3
    mkdir -p "$out"
    before=$(find "$out" | sort)
    "$ADAPTMEDSEG" "$@" > "$work/stdout" 2> "$work/stderr"
    status=$?
    after=$(find "$out" | sort)
    local problem=
    [ "$status" -eq "$code" ] || problem="exit code $status, not $code"
    [ -z "$pattern" ] || grep -qE -- "$pattern" "$work/stdout" "$work/stderr" || problem="$problem; no message like '$pattern'"
    if [ "$code" -ne 0 ]; then
        [ "$before" = "$after" ] || problem="$problem; files changed: $after"
        grep -q '^error: ' "$work/stderr" || problem="$problem; no line 'error: ...'"
        grep -q 'internal error' "$work/stderr" && problem="$problem; internal error"
    fi
    if [ -z "$problem" ]; then
        pass "$name"
    else
        fail "$name: ${problem#; }"
        sed 's/^/    /' "$work/stdout" "$work/stderr"
    fi
}

# The same for a run of `segment` with a box in the middle of the fixture's volume.
box=--box=20,30,20,50,60,45
expect_segment() {
    local name=$1 code=$2 pattern=$3 image=$4
    shift 4
    expect "$name" "$code" "$pattern" segment --model "$demo/model" --image "$image" --out "$out/mask.nii.gz" "$@"
}

# patch FILE OFFSET BYTES: replaces bytes of a file; BYTES as printf understands them.
patch() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

# A copy of the fixture's volume under a new name, to be patched.
fresh() { cp "$work/volume.nii" "$work/$1"; echo "$work/$1"; }

# Little-endian float32 values for `patch`.
f_zero='\0\0\0\0'
f_minus_one='\0\0\200\277'
f_one='\0\0\200\077'
f_nan='\0\0\300\177'
f_inf='\0\0\200\177'

# Offsets in a NIfTI-1 header.
at_dim=40
at_datatype=70
at_pixdim=76
at_qform_code=252
at_sform_code=254
at_srow=280
at_voxels=352
