#!/usr/bin/env bash
# What a run leaves: masks on the image's own grid in every format, all files or none, the same mask however asked for.

source "$(dirname "$0")/lib.sh"
make_demo
good=$work/volume.nii
run() { "$ADAPTMEDSEG" segment --model "$demo/model" --quiet "$@"; }
grid() { "$ADAPTMEDSEG" info --image "$1" --json | sed -n '/"geometry"/,/^  }/p' | grep . || echo "$1 has no grid"; }
voxels() { [ -s "$1" ] || echo "$1 is absent"; case $1 in *.gz) gunzip -c "$1" ;; *) cat "$1" ;; esac | tail -c $((96 * 96 * 64)) | cksum; }
same() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: '$2' is not '$3'"; fi; }

# Formats
for format in nii nii.gz mha mhd; do
    run --image "$good" --out "$work/m.$format" $box > "$work/stdout" 2> "$work/stderr" || fail "mask as .$format"
    same "mask as .$format lies on the image's grid" "$(grid "$work/m.$format")" "$(grid "$good")"
done
same "quiet says nothing" "$(cat "$work/stdout" "$work/stderr")" ""
same "no temporary file is left" "$(find "$work" -name '.adaptmedseg*')" ""
same "compressed or not, the voxels are the same" "$(voxels "$work/m.nii")" "$(voxels "$work/m.nii.gz")"
run --image "$good" --out "$work/again.nii" $box
same "a second run gives the same bytes" "$(cksum < "$work/m.nii")" "$(cksum < "$work/again.nii")"
run --image "$good" --out "$work/one.nii" $box --threads 1
same "one thread gives the same mask" "$(voxels "$work/one.nii")" "$(voxels "$work/m.nii")"
same "the header is the image's, byte for byte" "$(head -c 348 "$good" | tail -c +253 | head -c 76 | cksum)" \
    "$(head -c 348 "$work/m.nii" | tail -c +253 | head -c 76 | cksum)"

# The fixture's volume has axes LPS, origin (-71.25, -71.25, -78.75), spacing 1.5 x 1.5 x 2.5
run --image "$good" --out "$work/ijk.nii" --point 29,42,35 --point 61,34,32,-
run --image "$good" --out "$work/lps.nii" --point -27.75,-8.25,8.75,+ --point 20.25,-20.25,1.25,- --space lps
run --image "$good" --out "$work/ras.nii" --point 27.75,8.25,8.75 --point=-20.25,20.25,1.25,- --space ras
same "a point in LPS is the point in voxels" "$(voxels "$work/lps.nii")" "$(voxels "$work/ijk.nii")"
same "a point in RAS is the point in voxels" "$(voxels "$work/ras.nii")" "$(voxels "$work/ijk.nii")"

# The mask holds something, and its box is a prompt
if [ "$(voxels "$work/m.nii")" = "$(head -c $((96 * 96 * 64)) /dev/zero | cksum)" ]; then
    fail "the mask of the fixture's model holds something"
else
    pass "the mask of the fixture's model holds something"
fi
run --image "$good" --out "$work/next.nii" --box-from-mask "$work/m.nii" && pass "a mask's box is a prompt" || fail "a mask's box"
run --image "$good" --out "$work/reference.nii" $box --mode reference && pass "reference mode" || fail "reference mode"
run --image "$good" --out "$work/mr.nii" $box --modality mri && pass "modality MRI" || fail "modality MRI"
run --image "$good" --out "$work/grid.nii" --box 2,10,10,12,50,50 --space model && pass "model space" || fail "model space"

# NaN and Inf are counted and replaced by the stated rule
float=$work/float.mha
printf 'ObjectType = Image\nNDims = 3\nElementSpacing = 1 1 1\nDimSize = 24 24 24\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n' > "$float"
start=$(wc -c < "$float")
two='\0\0\0\100'
for _ in $(seq 1152); do printf "$f_zero$f_one$two$f_zero$f_one$f_zero$two$two$f_zero$f_one$f_zero$f_zero"; done >> "$float"
patch "$float" "$start" "$f_nan$f_inf$f_nan"
expect "NaN and Inf voxels are counted" 0 'note: 2 NaN, 1 \+Inf, 0 -Inf' \
    segment --model "$demo/model" --image "$float" --out "$work/nan.nii" --box 4,4,4,20,20,20 --report "$work/nan.json"
same "and reported" "$(grep -o '"nan": [0-9]*' "$work/nan.json")" '"nan": 2'

# All outputs of one run
run --image "$good" --out "$work/all.nii" $box --probabilities "$work/p.nii" --logits "$work/l.nii" --report "$work/r.json"
same "probabilities lie on the image's grid" "$(grid "$work/p.nii")" "$(grid "$good")"
same "logits lie on the image's grid" "$(grid "$work/l.nii")" "$(grid "$good")"
same "probabilities are float32" "$(wc -c < "$work/p.nii")" $((352 + 4 * 96 * 96 * 64))
for key in adaptmedseg device threads license volume_ml peak seconds windows region_ijk prompts non_finite_voxels geometry; do
    grep -q "\"$key\"" "$work/r.json" && pass "the report has $key" || fail "the report has no $key"
done
if command -v python3 > /dev/null; then
    python3 -m json.tool "$work/r.json" > /dev/null && pass "the report is JSON" || fail "the report is JSON"
else
    skip "python3 is absent: the report was not parsed"
fi

# All or nothing
echo mine > "$out.keep"; mkdir -p "$out"; echo mine > "$out/taken.nii.gz"
free=$out/free.nii.gz
segment() { expect "$1" "$2" "$3" segment --model "$demo/model" --image "$good" $box "${@:4}"; }
segment "mask that is there already" 4 'taken\.nii\.gz already exists' --out "$out/taken.nii.gz"
segment "report that is there already" 4 'taken\.nii\.gz already exists' --out "$free" --report "$out/taken.nii.gz"
segment "folder that is absent" 4 'No such file' --out "$free" --logits "$out/none/l.nii"
segment "place that cannot be written" 4 '/proc' --out "$free" --report /proc/report.json
segment "format that cannot be written" 5 'mask\.png' --out "$out/mask.png"
segment "two outputs in one file" 2 'same file' --out "$free" --logits "$out/./free.nii.gz"
segment "voxels of one output under another's header" 2 'same file' --out "$out/a.mhd" --report "$out/a.zraw"
segment "output in place of the input" 2 'input file' --out "$good" --overwrite
same "a file that was there is untouched" "$(cat "$out/taken.nii.gz")" mine
run --image "$good" $box --out "$out/taken.nii.gz" --overwrite
same "--overwrite replaces it" "$(voxels "$out/taken.nii.gz")" "$(voxels "$work/m.nii")"

# Checked before computing: a bad output is found although the image and the model are bad too
expect "outputs are checked first" 4 'already exists' \
    segment --model "$work/none" --image "$work/none.nii" --out "$out/taken.nii.gz" $box

# Info and overlay
expect "info of an image" 0 'axes +LPS' info --image "$good"
expect "info of an image has the voxels" 0 '96 x 96 x 64 of i16' info --image "$good"
expect "info of a model" 0 'random weights' info --model "$demo/model"
expect "info of a model as JSON" 0 '"license"' info --model "$demo/model" --json
expect "overlay" 0 '' overlay --image "$good" --mask "$work/m.nii" --out "$work/o.png" --slices 3 --window -160,240
same "the picture is a PNG" "$(head -c 4 "$work/o.png" | tail -c 3)" PNG
"$ADAPTMEDSEG" info --image "$good" --json | head -n 1 > /dev/null
same "a reader that goes away is no error" "${PIPESTATUS[0]}" 0
"$ADAPTMEDSEG" info --image "$good" > /dev/full 2> /dev/null
same "a full standard output is" "$?" 4
expect "help lists the exit codes" 0 '130  cancelled' --help
expect "the version" 0 '^adaptmedseg [0-9]+\.[0-9]+\.[0-9]+' --version

finish
