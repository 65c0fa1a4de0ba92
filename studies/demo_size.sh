#!/bin/sh
# Which size learns most in the demo's time: trains each shape for as long on the same dataset and prints
# a JSON line with its held-out loss.
#
#   studies/demo_size.sh DATASET [TIME] [PROGRAM]     4m build/release/cairn
set -eu
dataset=${1:?the dataset folder, as ./dev demo leaves it in demo/dataset}
time=${2:-4m}
cairn=${3:-build/release/cairn}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# try WIDTH LAYERS HEADS INNER LENGTH
try() {
  run="$work/d$1-l$2-s$5"
  deviation=$(awk -v width="$1" 'BEGIN { print 1 / sqrt(width) }')
  "$cairn" train "$here/examples/demo.toml" "--data.folder=$dataset" "--run.folder=$run" \
    "--run.time=$time" "--model.hidden_size=$1" "--model.layers=$2" "--model.heads=$3" \
    "--model.kv_heads=2" "--model.intermediate_size=$4" "--model.init_std=$deviation" \
    "--batch.seq_len=$5" "--batch.micro_batch=$((2048 / $5))" --quiet >/dev/null
  tail -n 1 "$run/metrics.jsonl" |
    sed "s/^{/{\"study\":\"demo_size\",\"time\":\"$time\",\"width\":$1,\"layers\":$2,\"length\":$5,/"
}

try 128 2 4 352 256
try 128 3 4 352 256
try 128 4 4 352 256
try 192 3 6 512 256
try 128 3 4 352 512
