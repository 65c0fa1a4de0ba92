#!/bin/sh
# The main job from end to end: this machine's own text into a tokenizer, a dataset, a trained model
# and completions. `./dev demo` builds the program and calls this.
#
#   demo.sh [--quick] [--out FOLDER]    --quick: one minute of training instead of five
set -eu
cd "$(dirname "$0")/.."

out=demo
minutes=5
windows=0 # all
while [ $# -gt 0 ]; do
  case $1 in
    --quick)
      minutes=1
      windows=1000
      ;;
    --out)
      out=$2
      shift
      ;;
    *)
      echo "demo: unknown argument $1" >&2
      exit 2
      ;;
  esac
  shift
done

cairn=build/release/cairn
say() { printf '\n== %s\n' "$*"; }

# The text that every Debian machine with a compiler has.
set --
for folder in /usr/include /usr/lib/gcc /usr/share/common-licenses; do
  [ -d "$folder" ] && set -- "$@" --from "$folder"
done

rm -rf "$out"
mkdir -p "$out"

say "tokenizer: 4096 tokens from this machine's headers and licences"
$cairn tokenizer train "$@" --vocab-size 4096 --out "$out/tokenizer"

say "dataset: files split by path, near-duplicates of training files refused"
$cairn data pack "$@" --tokenizer "$out/tokenizer" --out "$out/dataset"

say "training for $minutes minutes"
$cairn train examples/demo.toml "--data.folder=$out/dataset" "--run.folder=$out/run" \
  "--run.time=${minutes}m"
model=$out/run/model

say "files it has never seen, beside what compressors make of them"
$cairn eval "$model" perplexity --data "$out/dataset" --compare --windows "$windows"
echo "(xz sees the held-out files' own repetition; the model meets each one for the first time)"

for prompt in '#include <std' 'int main(int argc, char **' '/* Copyright (C) '; do
  say "$prompt"
  $cairn run "$model" -p "$prompt" -n 60 --temperature 0.6 --seed 1 --quiet
  echo
done

say "$model opens in Hugging Face transformers as it is. Next:"
cat <<END
  $cairn run $model -p 'static inline' --temperature 0.8
  $cairn train examples/demo.toml --run.time=30m --run.folder=longer --data.folder=$out/dataset
  $cairn plot $out/run
  $cairn inspect $model/model.safetensors
END
