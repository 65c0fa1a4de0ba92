#!/usr/bin/env python3
"""Quantisers of Cairn and of llama.cpp in turns, on one thread, over normal weights: with and
without an importance of the columns.

    ./dev peers quantize [--types q4_k ...] [--rounds 5]

Prints one JSON line a type: {type, importance, ours, peer (10^6 weights a second), ratio (the median
over the rounds), error, peer_error (squares of what is lost over squares of the weights)}, "ok" when
Cairn is as fast at no larger error, to half a percent; exits with 1 when one is not.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

from common.package import CAIRN
from llama import library

TYPES = {"q8_0": 8, "q6_k": 14, "q5_k": 13, "q5_1": 7, "q5_0": 6, "q4_k": 12, "q4_1": 3, "q4_0": 2,
         "q3_k": 11, "q2_k": 10}
ROWS, COLS = 256, 4096


def ours(kind, importance):
    command = [str(CAIRN), "bench", "quantize", "--types", kind, "--runs", "3", "--json"]
    done = subprocess.run(command + (["--importance"] if importance else []),
                          stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class Peer:
    def __init__(self):
        random = np.random.default_rng(1)
        self.weights = random.normal(0, 0.02, (ROWS, COLS)).astype(np.float32)
        # As `cairn bench quantize --importance`.
        self.importance = np.exp(2.5 * np.sin(0.7 * np.arange(COLS))).astype(np.float32)
        self.quantize = library.quantize_chunk()
        self.dequantize = library.gguf_tools()[1]

    def rate(self, kind, importance):
        given = self.importance if importance else None
        seconds = []
        for _ in range(4):
            start = time.monotonic()
            self.blocks = self.quantize(TYPES[kind], self.weights, given)
            seconds.append(time.monotonic() - start)
        return ROWS * COLS / 1e6 / statistics.median(seconds[1:])

    def error(self, kind, importance):
        """Of the blocks that rate() made last."""
        values = self.dequantize(self.blocks.reshape(ROWS, -1), TYPES[kind])
        weight = self.importance.astype(np.float64) if importance else 1.0
        lost = weight * np.square((values - self.weights).astype(np.float64))
        return float(lost.sum() / (weight * np.square(self.weights.astype(np.float64))).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", nargs="+", default=list(TYPES), choices=list(TYPES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peer = Peer()
    good = True
    for importance in (False, True):
        for kind in options.types:
            mine, theirs = [], []
            for _ in range(options.rounds):
                mine.append(ours(kind, importance))
                theirs.append(peer.rate(kind, importance))
            rates = [line["mweights_per_second"] for line in mine]
            ratio = statistics.median(m / t for m, t in zip(rates, theirs))
            error, peer_error = mine[0]["error"], peer.error(kind, importance)
            ok = ratio >= 1 and error <= 1.005 * peer_error
            good &= ok
            print(json.dumps({"bench": "peers quantize", "processor": mine[0]["processor"],
                              "type": kind, "importance": importance, "threads": 1,
                              "ours": statistics.median(rates),
                              "peer": statistics.median(theirs), "ratio": ratio, "error": error,
                              "peer_error": peer_error, "ok": ok}), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
