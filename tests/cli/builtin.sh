# The built-in model: demonstration, phantoms, segmentation by every prompt, training from scratch.
. "$(dirname "$0")/lib.sh"

# The demonstration segments what it generates
expect "the demonstration" 0 'not for clinical use' demo --out "$work/demo"
cp "$work/stdout" "$work/tables"
for file in ct mr ct-labels mr-labels ct-mask mr-mask; do
    [ -s "$work/demo/$file.nii.gz" ] && pass "the demonstration writes $file" || fail "the demonstration writes $file"
done
same() { [ "$2" = "$3" ] && pass "$1" || fail "$1: $2, not $3"; }
differ() { [ "$2" != "$3" ] && pass "$1" || fail "$1: both are $2"; }
same "the demonstration draws a picture" "$(head -c 4 "$work/demo/overlay.png" | tail -c 3)" PNG
cp -r "$work/demo" "$work/first"
expect "the demonstration can be repeated" 0 '' demo --out "$work/demo" --quiet
same "it is the same every time" "$(cat "$work/demo"/*.nii.gz | sha256sum)" "$(cat "$work/first"/*.nii.gz | sha256sum)"
mkdir -p "$work/taken" && echo mine > "$work/taken/notes.txt"
expect "a demonstration into a folder that holds other files" 4 'notes\.txt' demo --out "$work/taken"

# It is good at what it learned: the mean Dice of boxes and of names in the table, organs of a generated CT and MR
mean() { awk -v scan="$1" -v column="$2" '$1 == "Dice," { on = $2 == scan } on && $1 == "mean" { print $column }' "$work/tables"; }
for scan in CT MR; do
    for prompt in "boxes 2" "names 5"; do
        dice=$(mean $scan "${prompt#* }")
        awk -v dice="$dice" 'BEGIN { exit !(dice >= 0.6) }' && pass "mean Dice of ${prompt% *} on the $scan phantom ($dice)" ||
            fail "mean Dice of ${prompt% *} on the $scan phantom: $dice, below 0.6"
    done
done

# Phantoms
phantom=(phantom --seed 5 --size 40,36,30)
expect "phantoms" 0 '4 scans' "${phantom[@]}" --count 2 --out "$work/set"
"$ADAPTMEDSEG" "${phantom[@]}" --count 2 --out "$work/set2" --quiet
same "phantoms are the same for a seed" "$(cat "$work/set"/* | sha256sum)" "$(cat "$work/set2"/* | sha256sum)"
expect "phantoms of one modality" 0 '1 scans' phantom --seed 6 --size 40,36,30 --modality ct --out "$work/ct"
[ ! -e "$work/ct/mr-000.nii.gz" ] && pass "no MR was asked for" || fail "no MR was asked for"
expect "phantoms over something" 4 'exists' phantom --out "$work/set"
expect "a phantom of nothing" 2 '8 to 512' phantom --size 40,36,3 --out "$out/none"
expect "info of a phantom" 0 '40 x 36 x 30' info --image "$work/set/ct-000.nii.gz"

# Prompts
expect "info of the built-in model" 0 'builtin' info --model builtin
image=$work/demo/ct.nii.gz
segment() { expect "$1" "$2" "$3" segment --model builtin --image "$image" --out "$4" "${@:5}"; }
segment "a text" 0 'voxels' "$work/t.nii.gz" --text liver
segment "a name that no torso has" 0 'does not show a "brain"' "$work/n.nii.gz" --text brain
segment "a box and what it is drawn around" 0 'voxels' "$work/bl.nii.gz" --box 17,40,6,108,86,92 --text colon
segment "the same box and another name" 0 'voxels' "$work/bk.nii.gz" --box 17,40,6,108,86,92 --text "small bowel"
differ "a name beside a box counts" "$(sha256sum < "$work/bl.nii.gz")" "$(sha256sum < "$work/bk.nii.gz")"
segment "a word it does not know" 2 'unknown word "kydney"' "$out/t.nii.gz" --text "left kydney"
segment "a point" 0 'voxels' "$work/p.nii.gz" --point 40,55,80
segment "a point and a negative one" 0 'voxels' "$work/q.nii.gz" --point 40,55,80 --point 60,60,40,-
segment "a box" 0 'voxels' "$work/b.nii.gz" --box 30,40,60,60,70,100
segment "the reference mode slides windows" 0 'voxels' "$work/r.nii.gz" --box 30,40,60,60,70,100 --mode reference
expect "a folder of that name" 4 '' segment --model ./builtin --image "$image" --out "$out/x.nii.gz" --text liver

# Its adapters
"$ADAPTMEDSEG" phantom --seed 9 --size 64,56,48 --modality mr --out "$work/mr" --quiet
python3 - "$work/mr/pairs.json" <<'PYTHON' 2> /dev/null || skip "python3 is absent: all structures of the phantom are learned"
import json, sys
pairs = json.load(open(sys.argv[1]))
json.dump([pair for pair in pairs if pair["label"] == "liver"] or pairs[:1], open(sys.argv[1], "w"))
PYTHON
expect "an adapter of the built-in model" 0 'learned' \
    finetune --model builtin --data "$work/mr" --out "$work/adapter" --steps 4 --validate-every 4
expect "the adapter segments" 0 'voxels' segment --model builtin --adapter "$work/adapter" --image "$work/mr/mr-000.nii.gz" \
    --out "$work/a.nii.gz" --point 30,30,24
expect "the adapter is merged" 0 'merged' adapter merge "$work/adapter" --model builtin --out "$work/merged"
expect "the merged model segments" 0 'voxels' segment --model "$work/merged" --image "$image" --out "$work/m.nii.gz" --text liver

# Training from scratch, killed and resumed
pretrain=(pretrain --steps 4 --batch 1 --checkpoint-every 2 --atlas-bodies 12)
expect "training from scratch" 0 '4 steps' "${pretrain[@]}" --out "$work/whole"
"$ADAPTMEDSEG" "${pretrain[@]}" --out "$work/killed" --quiet &
for _ in $(seq 3000); do [ -f "$work/killed.partial/last.json" ] && break; sleep 0.1; done
kill -9 $! 2> /dev/null
wait $! 2> /dev/null
[ -f "$work/killed.partial/last.json" ] && [ ! -e "$work/killed" ] && pass "killed in the middle" || fail "killed in the middle"
expect "an unfinished run is not overwritten" 2 'unfinished' "${pretrain[@]}" --out "$work/killed"
expect "other options are refused" 2 'batch was 1, is 2' pretrain --steps 4 --batch 2 --checkpoint-every 2 --atlas-bodies 12 --out "$work/killed" --resume
expect "it is resumed" 0 '4 steps' "${pretrain[@]}" --out "$work/killed" --resume
same "the resumed model is the whole one" "$(sha256sum < "$work/killed/model.safetensors")" "$(sha256sum < "$work/whole/model.safetensors")"
expect "the trained model segments" 0 'voxels' segment --model "$work/whole" --image "$image" --out "$work/w.nii.gz" --point 40,55,80
expect "learning goes on from a model" 0 '' pretrain --steps 1 --batch 1 --from "$work/whole" --out "$work/further"
differ "and changes its weights" "$(sha256sum < "$work/further/model.safetensors")" "$(sha256sum < "$work/whole/model.safetensors")"
same "but not its atlas" "$(sha256sum < "$work/further/anatomy.safetensors.gz")" "$(sha256sum < "$work/whole/anatomy.safetensors.gz")"
expect "all but nothing of what was learned is kept" 0 '' pretrain --steps 1 --batch 1 --seed 2 --from "$work/whole" --keep 0.999999 --new-atlas --atlas-bodies 12 --out "$work/kept"
# But for the sign of zeros.
changed=$(cmp -l "$work/kept/model.safetensors" "$work/whole/model.safetensors" | awk '$2 + $3 != 200' | wc -l)
same "the weights are the former ones" "$changed" 0
differ "the atlas is another" "$(sha256sum < "$work/kept/anatomy.safetensors.gz")" "$(sha256sum < "$work/whole/anatomy.safetensors.gz")"
expect "there must be something to keep" 2 'from' pretrain --steps 1 --keep 0.5 --out "$out/f"
expect "an atlas of nobody" 2 'bodies of an atlas must be 1 to' pretrain --steps 1 --atlas-bodies 0 --out "$out/f"
expect "what is kept is a share" 2 'keep must be from 0 to below 1' pretrain --steps 1 --from "$work/whole" --keep 1 --out "$out/f"
"${ADAPTMEDSEG_FIXTURE:-$(dirname "$ADAPTMEDSEG")/examples/fixture}" "$work/fixture"
expect "a model of another architecture" 2 'architecture' pretrain --steps 1 --from "$work/fixture/model" --out "$out/f"

finish
