#!/usr/bin/env python3
"""Cairn and llama.cpp generate, or read prompts, from the same GGUF files in turns.

Both programs stay loaded and rest while the other is measured: A, B, A, B, ... in blocks of some
tokens, each taken greedily from the logits of the one before. For every thread count of both; the
peer's best count is what ours is set against.

    ./dev peers decode [--types q4_0 q8_0 ...] [--depth 128] [--tokens 64] [--blocks 12] [--prefill N]

Prints one JSON line a type and thread count: tokens a second (the median of the blocks' medians) of
both, the median of the ratios of neighbouring blocks with its 95 % interval (bootstrap), and the
share of read bandwidth that ours reaches on a buffer as large as what a token reads. The model is
SmolLM2-135M-Instruct unless another GGUF file is given; types are made of it with cairn quantize.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess

from common.package import CAIRN, ROOT

PEERS = ROOT / ".peers"
TYPES = ["q4_0", "q4_1", "q4_k_m", "q8_0", "f16", "bf16"]


class Turns:
    """A program that measures when a line says so."""

    def __init__(self, command):
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended")
        return json.loads(line)

    def measure(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return statistics.median(self.read()["seconds"])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def file_of(model, kind):
    """The model in another type, made once."""
    path = PEERS / "models" / f"{model.name.split('.')[0]}.{kind}.gguf"
    if not path.exists():
        subprocess.run([CAIRN, "quantize", model, path, "-t", kind, "--quiet"], check=True,
                       stdout=subprocess.PIPE)
    return path


def interval(ratios):
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return [medians[50], medians[-51]]


def bandwidth(path, threads, depth):
    command = [CAIRN, "bench", "decode", "--model", path, "--threads", threads, "--depth", depth,
               "--tokens", 16, "--blocks", 1, "--json"]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def compare(path, kind, options):
    words = ["prefill", options.prefill] if options.prefill else \
        ["decode", options.depth, options.tokens]
    unit = options.prefill or 1
    context = max(options.prefill, options.depth + options.tokens) + 64
    rounds = {}
    for threads in options.threads:
        ours = Turns([CAIRN, "bench", "decode", "--turns", "--model", path, "--threads", threads])
        peer = Turns([PEERS / "llama.cpp/bin/llama-blocks", path, threads, context])
        rounds[threads] = [(ours.measure(*words), peer.measure(*words))
                           for _ in range(options.blocks)]
        ours.close()
        peer.close()
    best = min(statistics.median(p for _, p in pairs) for pairs in rounds.values())
    for threads, pairs in rounds.items():
        mine = statistics.median(m for m, _ in pairs)
        theirs = statistics.median(p for _, p in pairs)
        ratios = [p / m for m, p in pairs]
        facts = bandwidth(path, threads, options.depth)
        line = {"bench": f"peers {words[0]}", "processor": facts["processor"], "type": kind,
                "threads": threads, "ours": unit / mine, "peer": unit / theirs,
                "ratio": statistics.median(ratios), "interval": interval(ratios),
                "ratio_to_best_threads": best / mine, "load": facts["load"]}
        if options.prefill:
            line["tokens"] = options.prefill
        else:
            line |= {"depth": options.depth, "bandwidth_gbs": facts["bandwidth_gbs"],
                     "mbu": facts["bytes"] / mine / 1e9 / facts["bandwidth_gbs"]}
        print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path,
                        default=PEERS / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--prefill", type=int, default=0, help="length of a prompt to read instead")
    options = parser.parse_args()
    subprocess.run(["sh", ROOT / "bench/peers/llama_cpp.sh"], check=True)
    for kind in options.types:
        compare(file_of(options.model, kind), kind, options)


if __name__ == "__main__":
    main()
