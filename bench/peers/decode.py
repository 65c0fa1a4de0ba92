#!/usr/bin/env python3
"""Generation, one token after another, by Cairn and by llama.cpp in turns on the same GGUF file.

    ./dev peers decode [--model FILE | --formats q4_0 ... [--shapes 15m 25m 1b]] [--depth 128]
                       [--blocks 12]

Blocks of 64 greedily decoded tokens behind `depth` others alternate; llama.cpp runs with the number of
threads that it is fastest with, a pool that persists, and its cache in f16. Prints one JSON line a
file: {format, threads, depth, tokens_per_second, mbu, peer_tokens_per_second, ratio, ratio_low,
ratio_high, bandwidth_gbs, ...}. `ratio` is the median of the ratios of neighbouring blocks with its
bootstrap interval of 95 %; `mbu` the share of the read bandwidth, measured before and after with a
buffer as large as what a token reads. "steady" is false when those two differ by more than 15 %: then the
machine had other things to do.
"""

from llama import turns


def main():
    parser = turns.arguments(__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=128)
    options = parser.parse_args()
    for kind, model in turns.models(options):
        before, size = turns.bandwidth(model, options.depth)
        result = turns.take_turns(model, f"decode {options.depth} 64", options.depth + 128,
                                  options.blocks)
        after, _ = turns.bandwidth(model, options.depth)
        limit = (before + after) / 2
        turns.report("peers decode", kind, 1, result, depth=options.depth,
                     mbu=size / result[0] / 1e9 / limit, bandwidth_gbs=limit,
                     steady=abs(before - after) <= 0.15 * limit)


if __name__ == "__main__":
    main()
