#!/usr/bin/env python3
"""From the start of a program to its first tokens, by Cairn and by llama.cpp in turns on the same GGUF
file, which is in the page cache.

    ./dev peers load [--model FILE | --formats q4_0 ...] [--blocks 12]

Each block starts a program, lets it open the model with all threads, take its caches and decode behind
one token (four tokens to warm up and one more, the same for both), and ends it; the clock runs from the
start to the answer. Prints one JSON line a file: {format, threads, seconds, peer_seconds, ratio,
ratio_low, ratio_high}, medians; `ratio` is the peer's time over ours with its bootstrap interval of 95 %.
"""

import json
import statistics
import time

from llama import library, turns


def seconds(start, *arguments):
    begin = time.perf_counter()
    program = start(*arguments)
    program.block("decode 1 1")
    taken = time.perf_counter() - begin
    program.close()
    return taken


def main():
    options = turns.arguments(__doc__.splitlines()[0]).parse_args()
    for kind, model in turns.models(options):
        model.read_bytes()  # into the page cache
        mine, theirs = [], []
        for _ in range(options.blocks):
            mine.append(seconds(turns.ours, model, library.THREADS))
            theirs.append(seconds(turns.peer, model, library.THREADS, 2048))
        ratios = [b / a for a, b in zip(mine, theirs)]
        low, high = turns.interval(ratios)
        print(json.dumps({"bench": "peers load", "format": kind, "threads": library.THREADS,
                          "seconds": statistics.median(mine),
                          "peer_seconds": statistics.median(theirs),
                          "ratio": statistics.median(ratios), "ratio_low": low,
                          "ratio_high": high}), flush=True)


if __name__ == "__main__":
    main()
