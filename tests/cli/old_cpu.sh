#!/bin/sh
# The whole way from text to a completion in miniature, with the program given as a command:
#   old_cpu.sh qemu-x86_64 -cpu Nehalem build/release/cairn
# A stray AVX instruction ends in SIGILL here.
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$@" tokenizer train --from docs --from cairn/base --vocab-size 300 --out "$folder/tokenizer"
"$@" data pack --from docs --from cairn/base --tokenizer "$folder/tokenizer" \
  --held-out-fraction 0.2 --out "$folder/dataset"
cat >"$folder/tiny.toml" <<END
[model]
hidden_size = 32
layers = 1
heads = 2
[batch]
seq_len = 32
micro_batch = 2
tokens_per_step = 64
[eval]
windows = 2
END
"$@" train "$folder/tiny.toml" "--data.folder=$folder/dataset" "--run.folder=$folder/run" \
  --run.steps=2
"$@" run "$folder/run/model" -p "the floor" -n 4 --temperature 0
