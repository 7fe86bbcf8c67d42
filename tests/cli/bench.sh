#!/usr/bin/env bash
# `bench` measures every part once it is asked to, and says so in numbers that other programs read. How large they are is
# not tested: that depends on the machine.

source "$(dirname "$0")/lib.sh"
make_demo
mkdir -p "$out"

expect "bench of the built-in model" 0 'image encoder +[0-9.]+ s, [0-9.]+ of the product' \
    bench --model builtin --threads 1 --json "$work/bench.json"
# Names of the object's fields, in order, and how many of their values are numbers.
fields() { grep -oE '^  "[a-z0-9_]+"' "$1" | tr -d ' "' | sort | tr '\n' ' '; }
want="decoder_s device encoder_efficiency encoder_s gemm_gflops load_s peak_rss_mb precision segment_s text_s threads train_step_s "
if [ "$(fields "$work/bench.json")" = "$want" ]; then pass "the fields of the JSON"; else fail "the fields of the JSON: $(fields "$work/bench.json")"; fi
if [ "$(grep -cE '": [0-9.]+(e-?[0-9]+)?,?$' "$work/bench.json")" -eq 10 ]; then pass "times are numbers"; else fail "times are numbers"; fi
if grep -q '"device": "cpu"' "$work/bench.json" && grep -q '"precision": "f32"' "$work/bench.json" && grep -q '"threads": 1' "$work/bench.json"
then pass "what was measured is named"; else fail "what was measured is named"; fi

expect "bench of a model without text" 0 'mask decoder +[0-9.]+ s' bench --model "$demo/model" --json "$work/silent.json"
if grep -q '"text_s": null' "$work/silent.json"; then pass "no time of what the model has not"; else fail "no time of what the model has not"; fi

expect "bench of the encoder alone" 0 'image encoder' bench --model builtin --encoder-only --json "$work/encoder.json"
if [ "$(fields "$work/encoder.json")" = "$want" ] && [ "$(grep -c ': null' "$work/encoder.json")" -eq 4 ]
then pass "the same fields, of which others are null"; else fail "the same fields, of which others are null"; fi

expect "bench, unknown device" 2 'no device "abacus"; there is cpu' bench --model builtin --device abacus --json "$out/none.json"
expect "bench, precision the processor has not" 5 'does not compute in f16' bench --model builtin --precision f16 --json "$out/none.json"
expect "bench, unknown precision" 2 'unknown precision "f15"' bench --model builtin --precision f15
expect "bench, file that is there" 4 'bench\.json' bench --model builtin --json "$work/bench.json"
finish
