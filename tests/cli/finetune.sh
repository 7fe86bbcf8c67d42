#!/usr/bin/env bash
# Fine-tuning from outside: a run, one that is killed and resumed, what becomes of the adapter, and what is refused.
source "$(dirname "$0")/lib.sh"
make_demo
cat > "$work/pairs.json" <<LIST
[{"image": "$demo/volume.nii.gz", "mask": "$demo/mask.nii.gz", "label": "thing", "modality": "MR"}]
LIST
sed 's/thing/other/' "$work/pairs.json" > "$work/new.json"
tune=(finetune --model "$demo/model" --data "$work/pairs.json" --steps 12 --validate-every 4 --checkpoint-every 2
    --lr 0.01 --seed 3 --quiet)
adapters=$work/adapters
mkdir "$adapters"

same() { # NAME FILE FILE
    if cmp -s "$2" "$3"; then pass "$1"; else fail "$1: $2 and $3 differ"; fi
}
mask() { # OUT ARGUMENT...
    local out=$1
    shift
    "$ADAPTMEDSEG" segment --model "$demo/model" --image "$demo/volume.nii.gz" --out "$out" $box --overwrite --quiet "$@"
}

# A whole run of each method.
for method in lora prior lora+prior; do
    if "$ADAPTMEDSEG" "${tune[@]}" --out "$adapters/$method" --method "$method" &&
        [ "$(grep -c '"kind":"step"' "$adapters/$method/metrics.jsonl")" -eq 12 ] &&
        [ -f "$adapters/$method/finetune.json" ] && [ ! -e "$adapters/$method.partial" ]; then
        pass "finetune --method $method"
    else
        fail "finetune --method $method"
    fi
done

# Killed in the middle, and gone on with: the same bytes.
for try in 1 2 3; do
    rm -rf "$adapters/killed" "$adapters/killed.partial"
    "$ADAPTMEDSEG" "${tune[@]}" --out "$adapters/killed" --method lora+prior > /dev/null 2>&1 &
    pid=$!
    for _ in $(seq 2000); do
        [ "$(grep -c '"kind":"step"' "$adapters/killed.partial/metrics.jsonl" 2> /dev/null)" -ge $((2 * try + 1)) ] 2> /dev/null && break
        sleep 0.01
    done
    kill -9 "$pid" 2> /dev/null
    wait "$pid" 2> /dev/null
    if [ -d "$adapters/killed.partial" ] && [ ! -e "$adapters/killed" ]; then
        pass "kill -9 leaves an unfinished run and no adapter ($try)"
    else
        fail "kill -9 leaves an unfinished run and no adapter ($try)"
    fi
    expect "what was killed is not overwritten by mistake ($try)" 4 'killed\.partial.*exists' "${tune[@]}" --out "$adapters/killed" --method lora+prior
    "$ADAPTMEDSEG" "${tune[@]}" --out "$adapters/killed" --method lora+prior --resume
    same "killed and resumed: the same adapter ($try)" "$adapters/killed/adapter.safetensors" "$adapters/lora+prior/adapter.safetensors"
done

# The adapter beside the model; without it, the model's own mask.
mask "$work/base.nii"
mask "$work/adapted.nii" --adapter "$adapters/lora+prior" --modality MR --task thing --report "$work/report.json"
mask "$work/base_again.nii"
if cmp -s "$work/base.nii" "$work/adapted.nii"; then fail "an adapter changes the mask"; else pass "an adapter changes the mask"; fi
same "without the adapter the mask is the base's" "$work/base.nii" "$work/base_again.nii"
grep -q '"task": "thing"' "$work/report.json" && pass "the report names the task" || fail "the report names the task"
expect_segment "a task the adapter does not know" 2 'spine.*' "$demo/volume.nii.gz" $box --adapter "$adapters/prior" --task spine
expect_segment "no adapter folder" 3 'not an adapter' "$demo/volume.nii.gz" $box --adapter "$demo"

# What becomes of it.
expect "adapter info" 0 'rsLoRA, rank 8' adapter info "$adapters/lora"
expect "adapter info --json" 0 '"rslora": true' adapter info "$adapters/lora" --json
expect "adapter merge" 0 'merged' adapter merge "$adapters/lora" --model "$demo/model" --out "$work/merged"
expect "a merged model segments" 0 'voxels' segment --model "$work/merged" --image "$demo/volume.nii.gz" --out "$work/m.nii" $box
expect "a prior is not merged" 5 'context prior' adapter merge "$adapters/prior" --model "$demo/model" --out "$out/no"
expect "adapter export-peft" 0 'PEFT' adapter export-peft "$adapters/lora" --model "$demo/model" --out "$work/peft"
expect "adapter import-peft" 0 '' adapter import-peft "$work/peft" --model "$demo/model" --out "$adapters/imported"
same "PEFT's format keeps every bit" "$adapters/lora/adapter.safetensors" "$adapters/imported/adapter.safetensors"
expect "another base is refused" 5 'was made for' segment --model "$work/merged" --image "$demo/volume.nii.gz" --out "$out/m.nii" $box --adapter "$adapters/lora"
expect "learning further, with a new task" 0 '' finetune --model "$demo/model" --data "$work/new.json" --out "$adapters/further" --from "$adapters/lora+prior" --steps 2
expect "the new task is known" 0 'thing, other' adapter info "$adapters/further"

# What is refused.
printf '[]' > "$work/none.json"
printf '[{"image": "absent.nii", "mask": "absent.nii"}]' > "$work/absent.json"
printf '{"image": ' > "$work/broken.json"
refused() { expect "$1" "$2" "$3" finetune --model "$demo/model" --out "$out/adapter" --quiet "${@:4}"; }
refused "no pairs" 3 'no pairs' --data "$work/none.json"
refused "an image that is not there" 3 'entry 1.*absent' --data "$work/absent.json"
refused "a list that is no JSON" 3 'broken\.json' --data "$work/broken.json"
refused "no list" 4 'nothing\.json' --data "$work/nothing.json"
refused "nothing to resume" 2 'no unfinished run' --data "$work/pairs.json" --resume
refused "a learning rate of zero" 2 'learning rate' --data "$work/pairs.json" --lr 0
refused "a rank of zero" 3 'rank 0' --data "$work/pairs.json" --rank 0
finish
