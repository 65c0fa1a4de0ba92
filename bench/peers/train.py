#!/usr/bin/env python3
"""Training steps of Cairn and of PyTorch (eager and compiled) in turns: the same shapes, precisions
and threads.

    ./dev peers train [--shapes d256-l8 ...] [--precisions f32 bf16] [--rounds 3] [--no-compile]

Prints one JSON line a shape and precision: {ours, peer, ratio, peak_memory_ratio, ...}. `ours` and
`peer` are medians of tokens a second over the rounds, `peer` being the faster of eager and compiled;
`ratio` is the median of the ratios of one round; `peak_memory_ratio` is our peak resident memory over
the peer's.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CAIRN = HERE.parent.parent / "build" / "release" / "cairn"
SHAPES = ["d256-l8", "d512-l8", "smollm2-135m"]


def last_json(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(shape, precision, threads):
    return last_json([CAIRN, "bench", "train", "--shape", shape, "--precision", precision,
                      "--threads", threads, "--json"])


def theirs(shape, precision, threads, compiled):
    command = [sys.executable, HERE / "pytorch" / "train.py", "--shape", shape, "--precision",
               precision, "--threads", threads, "--steps", "6"]
    return last_json(command + (["--compile"] if compiled else []))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, choices=SHAPES)
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    for shape in options.shapes:
        for precision in options.precisions:
            mine, peers = [], []
            for _ in range(options.rounds):
                mine.append(ours(shape, precision, options.threads))
                variants = [theirs(shape, precision, options.threads, False)]
                if not options.no_compile:
                    variants.append(theirs(shape, precision, options.threads, True))
                peers.append(max(variants, key=lambda line: line["tokens_per_second"]))
            rates = [m["tokens_per_second"] for m in mine], [p["tokens_per_second"] for p in peers]
            print(json.dumps({
                "bench": "peers train", "processor": mine[0]["processor"], "shape": shape,
                "precision": precision, "threads": options.threads, "rounds": options.rounds,
                "ours": statistics.median(rates[0]), "peer": statistics.median(rates[1]),
                "peer_name": peers[-1]["impl"],
                "ratio": statistics.median(m / p for m, p in zip(*rates)),
                "mfu": statistics.median(m["mfu"] for m in mine),
                "peak_memory_ratio": max(m["peak_memory_bytes"] for m in mine)
                                     / max(p["peak_memory_bytes"] for p in peers),
            }), flush=True)


main()
