#!/bin/sh
# The small CPU recipe by which nanoGPT is known, Llama-shaped: 4 layers, width 128, 4 heads, context 64,
# 12 windows a step, 2000 steps (1.54M tokens), one token a byte. Trained on this project's own pages
# and sources; prints a JSON line with its seconds, held-out loss and tokens a second.
#
#   studies/nanogpt.sh [PRECISION] [PROGRAM]     bf16 build/release/cairn
set -eu
precision=${1:-bf16}
cairn=${2:-build/release/cairn}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cairn" tokenizer train --from "$here/cairn" --vocab-size 257 --out "$work/tokenizer" --quiet >/dev/null
"$cairn" data pack --from "$here/cairn" --tokenizer "$work/tokenizer" --out "$work/dataset" --quiet >/dev/null
cat >"$work/run.toml" <<END
[model]
hidden_size = 128
layers = 4
heads = 4
intermediate_size = 352
init_std = 0.08
[batch]
seq_len = 64
micro_batch = 12
tokens_per_step = 768
[optim]
lr = 2e-3
[run]
steps = 2000
[eval]
every = 250
windows = 256
END
"$cairn" train "$work/run.toml" "--data.folder=$work/dataset" "--run.folder=$work/run" \
  "--run.precision=$precision" --quiet >/dev/null
grep val_loss "$work/run/metrics.jsonl" | tail -n 1 |
  sed "s/^{/{\"study\":\"nanogpt\",\"precision\":\"$precision\",/"
