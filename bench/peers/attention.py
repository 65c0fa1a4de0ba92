#!/usr/bin/env python3
"""Attention of Cairn and of PyTorch in turns: forward and backward, or one token against a cache.

    ./dev peers attention [--tokens 512 ...] [--head-dims 64 128] [--precisions f32 bf16] [--rounds 3]
    ./dev peers attention --mechanism stick_breaking [--option exit_threshold=0] --tokens 2048
    ./dev peers attention --phase decode --mechanism path --tokens 4096 32768

The peer of softmax is scaled_dot_product_attention, that of stick_breaking what one writes in
PyTorch for it. Prints one JSON line a case: {ours, peer, ratio, ...}: medians of the milliseconds
that it takes, and the median over the rounds of how much faster ours is.
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

PEERS = {"softmax": "attention.py", "stick_breaking": "stick_breaking.py", "path": "path.py"}


def last_json(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mechanism", choices=PEERS, default="softmax")
    parser.add_argument("--phase", choices=["train", "decode"], default="train")
    parser.add_argument("--option", action="append", default=[], help="of ours, as key=value")
    parser.add_argument("--tokens", nargs="+", type=int, help="default: 512 to 32768, or to 2048 "
                        "where the peer holds whole matrices")
    parser.add_argument("--head-dims", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    decode = options.phase == "decode"
    if options.tokens is None:
        options.tokens = [512, 2048] + ([8192, 32768] if options.mechanism == "softmax" else [])
        options.tokens = [4096, 32768] if decode else options.tokens
    chosen = ["--mechanism", options.mechanism, "--phase", options.phase]
    program = [HERE / "pytorch" / PEERS[options.mechanism]]
    if decode:
        program = [HERE / "pytorch" / "decode.py", "--mechanism", options.mechanism]
    for option in options.option:
        chosen += ["--option", option]
    for precision in options.precisions:
        for dim in options.head_dims:
            for tokens in options.tokens:
                repetitions = 5 if tokens < 32768 or decode else 1
                mine, peers = [], []
                for _ in range(options.rounds):
                    mine.append(last_json(
                        [CAIRN, "bench", "attention", *chosen, "--tokens", tokens, "--head-dim",
                         dim, "--precision", precision, "--repetitions", repetitions, "--threads",
                         options.threads, "--json"]))
                    peers.append(last_json(
                        [sys.executable, *program, "--tokens", tokens, "--head-dims", dim,
                         "--dtypes", precision, "--repetitions", repetitions, "--threads",
                         options.threads]))
                print(json.dumps({
                    "bench": "peers attention", "processor": mine[0]["processor"],
                    "mechanism": options.mechanism, "phase": options.phase, "options": options.option,
                    "precision": precision, "head_dim": dim, "tokens": tokens,
                    "threads": options.threads, "rounds": options.rounds,
                    "ours": statistics.median(m["both_ms"] for m in mine),
                    "peer": statistics.median(1e3 * p["both_seconds"] for p in peers),
                    "ratio": statistics.median(
                        1e3 * p["both_seconds"] / m["both_ms"] for m, p in zip(mine, peers)),
                    "share_of_peak": statistics.median(m["share_of_peak"] for m in mine),
                }), flush=True)


main()
