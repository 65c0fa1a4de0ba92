#!/bin/sh
# Kills `cairn train` with SIGKILL at random moments, resumes it, and compares the final weights, bit
# for bit, with those of a run that nobody disturbed. Checkpoints are written every second step, so
# many kills fall into their writing. The random moments come from the seed: a failure can be
# looked at again (where the kill falls still depends on the machine's speed).
#
#   studies/kill_resume.sh [KILLS] [PROGRAM] [SEED]    50 build/release/cairn 1
#
# Prints a JSON line a kill and one at the end; exits with 1 when any run ended with other bits.
set -eu
kills=${1:-50}
cairn=${2:-build/release/cairn}
seed=${3:-1}
here=$(cd "$(dirname "$0")/.." && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

$cairn tokenizer train --from "$here/cairn" --vocab-size 512 --out "$work/tokenizer" --quiet >"$work/log"
$cairn data pack --from "$here/cairn" --tokenizer "$work/tokenizer" --out "$work/dataset" \
  --quiet >>"$work/log"
cat >"$work/run.toml" <<END
[model]
hidden_size = 64
layers = 2
heads = 2
[batch]
seq_len = 64
micro_batch = 4
tokens_per_step = 512
[run]
steps = 60
[checkpoint]
every = 2
[eval]
every = 20
windows = 16
END

# start FOLDER: the run in the background; $pid is the program itself.
start() {
  "$cairn" train "$work/run.toml" "--data.folder=$work/dataset" "--run.folder=$1" --quiet \
    >>"$work/log" 2>&1 &
  pid=$!
}
# weights FOLDER: their hash.
weights() {
  sha256sum <"$1/model/model.safetensors" | cut -d ' ' -f 1
}

begin=$(date +%s.%N)
start "$work/whole"
wait "$pid"
expected=$(weights "$work/whole")
length=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')

done_kills=0
landed=0
different=0
run=0
while [ "$done_kills" -lt "$kills" ]; do
  run=$((run + 1))
  folder=$work/run-$run
  # Up to five kills a run, then it may end.
  tries=0
  while [ "$tries" -lt 5 ] && [ "$done_kills" -lt "$kills" ]; do
    tries=$((tries + 1))
    done_kills=$((done_kills + 1))
    delay=$(awk -v s="$seed" -v k="$done_kills" -v l="$length" \
      'BEGIN { srand(s * 100003 + k); rand(); printf "%.4f", rand() * l * 0.35 }')
    start "$folder"
    sleep "$delay"
    alive=false
    if kill -9 "$pid" 2>/dev/null; then
      alive=true
      landed=$((landed + 1))
    fi
    wait "$pid" 2>/dev/null || true
    printf '{"kill": %d, "run": %d, "after_s": %s, "while_running": %s, "checkpoint": "%s"}\n' \
      "$done_kills" "$run" "$delay" "$alive" "$(cat "$folder/checkpoints/latest" 2>/dev/null)"
  done
  start "$folder"
  if ! wait "$pid"; then
    echo "the run did not end well:" >&2
    tail -n 5 "$work/log" >&2
    different=$((different + 1))
  elif [ "$(weights "$folder")" != "$expected" ]; then
    different=$((different + 1))
  fi
  rm -rf "$folder"
done
printf '{"kills": %d, "while_running": %d, "runs": %d, "different": %d, "weights": "%s"}\n' \
  "$done_kills" "$landed" "$run" "$different" "$expected"
[ "$different" -eq 0 ]
