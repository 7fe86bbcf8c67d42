#!/usr/bin/env bash
# Ctrl-C: the run ends with code 130 and leaves no file.

source "$(dirname "$0")/lib.sh"
make_demo

# A volume that takes a while: the fixture's, sixteen times as large
big=$work/big.mha
printf 'ObjectType = Image\nNDims = 3\nElementSpacing = 1 1 1\nDimSize = 384 384 256\nElementType = MET_SHORT\nElementDataFile = LOCAL\n' > "$big"
for _ in $(seq 64); do tail -c +$((at_voxels + 1)) "$work/volume.nii" >> "$big"; done

mkdir -p "$out"
for signal in INT TERM; do
    "$ADAPTMEDSEG" segment --model "$demo/model" --image "$big" --out "$out/mask.nii.gz" --report "$out/r.json" \
        --box 10,10,10,370,370,250 > "$work/stdout" 2> "$work/stderr" &
    child=$!
    for _ in $(seq 100); do # until the outputs have been planned
        [ -n "$(find "$out" -name '.adaptmedseg*')" ] && break
        sleep 0.05
    done
    sleep 1
    kill -$signal $child 2> /dev/null || fail "$signal: the run was over too early"
    wait $child
    status=$?
    if [ $status -eq 130 ] && grep -q '^error: cancelled' "$work/stderr" && [ -z "$(ls -A "$out")" ]; then
        pass "$signal ends the run and leaves nothing"
    else
        fail "$signal: exit code $status, left: $(ls -A "$out"), said: $(cat "$work/stderr")"
    fi
done

finish
