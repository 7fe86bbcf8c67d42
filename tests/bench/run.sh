#!/usr/bin/env bash
# The image encoder of SegVol's sizes in this engine, in PyTorch (with and without a kept heap), ONNX Runtime and OpenVINO,
# in float32 and bfloat16, on the processor (DEVICE cpu or torch:cpu): side by side, in turns, in one run. Prints seconds,
# ratios and peak memory. On a GPU (DEVICE torch:cuda:0) beside PyTorch alone.
#
#   bash tests/bench/run.sh [THREADS [ROUNDS [DEVICE]]]      default: all cores, 3 rounds, cpu
#
#   ADAPTMEDSEG       the command (default target/release/adaptmedseg; the example full_model is taken from beside it)
#   ADAPTMEDSEG_VENV  the Python environment to use and, if it is absent, to make (default target/tools/bench-venv):
#                     torch 2.9.0, onnx, onnxruntime, openvino, numpy; some gigabytes
#
# Not part of tests/run.sh: it takes minutes, and times mean nothing while anything else runs.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
threads=${1:-$(nproc)} rounds=${2:-3} device=${3:-cpu}
target=${CARGO_TARGET_DIR:-$root/target}
command=${ADAPTMEDSEG:-$target/release/adaptmedseg}
venv=${ADAPTMEDSEG_VENV:-$target/tools/bench-venv}
work=$target/tools/bench
mkdir -p "$work"
[[ -x $command ]] || { echo "error: $command is absent: cargo build --release --workspace --examples --bins" >&2; exit 1; }
if [[ ! -x $venv/bin/python ]]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.9.0 onnx onnxruntime openvino numpy
fi
[[ -f $work/model/config.json ]] || "$(dirname "$command")/examples/full_model" "$work/model"

export PYTHONWARNINGS=ignore OMP_NUM_THREADS=$threads
other() { "$venv/bin/python" "$root/tests/bench/compare.py" "$@" --threads "$threads" --folder "$work" 2>> "$work/log" | tail -n 1; }
ours() {
    "$command" bench --model "$work/model" --device "$device" --threads "$threads" --precision "$1" --encoder-only --quiet \
        --overwrite --json "$work/ours.json"
    "$venv/bin/python" -c 'import json, sys
report = json.load(open(sys.argv[1]))
print(json.dumps({"seconds": report["encoder_s"], "peak_mb": report["peak_rss_mb"]}))' "$work/ours.json"
}
run() { # run NAME: one turn of one engine
    case $1 in
        "AdaptMedSeg f32") ours f32 ;;
        "AdaptMedSeg bf16") ours bf16 ;;
        "PyTorch f32, GPU") other torch --cuda --turns 20 ;;
        "PyTorch bf16, GPU") other torch --cuda --turns 20 --bf16 ;;
        "PyTorch f32") other torch ;;
        "PyTorch f32, kept heap") other torch-kept ;;
        "PyTorch bf16") other torch --bf16 ;;
        "PyTorch bf16, kept heap") other torch-kept --bf16 ;;
        "ONNX Runtime f32") other onnxruntime ;;
        "OpenVINO f32") other openvino ;;
        "OpenVINO bf16") other openvino --bf16 ;;
    esac
}
names=("AdaptMedSeg f32" "PyTorch f32" "PyTorch f32, kept heap" "ONNX Runtime f32" "OpenVINO f32"
    "AdaptMedSeg bf16" "PyTorch bf16" "PyTorch bf16, kept heap" "OpenVINO bf16")
[[ $device == *cpu ]] || names=("AdaptMedSeg f32" "PyTorch f32, GPU" "AdaptMedSeg bf16" "PyTorch bf16, GPU")
: > "$work/log"
: > "$work/times"
# Written before anything is timed.
[[ $device != *cpu ]] || other onnxruntime --turns 1 > /dev/null
for ((round = 0; round < rounds; round++)); do
    for name in "${names[@]}"; do
        printf '%s\t%s\n' "$name" "$(run "$name")" >> "$work/times"
    done
done
"$venv/bin/python" - "$work/times" "$threads threads on $device" <<'PYTHON'
import json, statistics, sys
times = {}
for line in open(sys.argv[1]):
    name, report = line.rstrip("\n").split("\t")
    if report:
        times.setdefault(name, []).append(json.loads(report))
    else:
        print(f"skipped: {name} did not run; its message is in the log beside {sys.argv[1]}")
seconds = {name: statistics.median(turn["seconds"] for turn in turns) for name, turns in times.items()}
print(f"One window, {sys.argv[2]}, medians of {max(map(len, times.values()))} rounds; ratio: this engine's time over the other's\n")
print("| engine | seconds | peak memory | ratio |\n|---|---|---|---|")
for name, turns in times.items():
    own = seconds.get("AdaptMedSeg bf16" if "bf16" in name else "AdaptMedSeg f32")
    ratio = f"{own / seconds[name]:.2f}" if own else ""
    print(f"| {name} | {seconds[name]:.3g} | {max(turn['peak_mb'] for turn in turns):.0f} MB | {ratio} |")
PYTHON
