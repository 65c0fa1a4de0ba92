#!/usr/bin/env python3
"""Generation on processors that other programs want too, by Cairn and by llama.cpp in turns.

    ./dev peers crowd [--model FILE] [--neighbours 2] [--depth 128] [--blocks 8]

Blocks of 32 greedily decoded tokens alternate while `neighbours` processes compute without end. Cairn
runs with all threads and decides by itself who walks a pass; llama.cpp runs with one thread and with
all. Prints one JSON line: tokens a second of each, ratio to llama.cpp's best and to its all-thread
speed, and what is left of Cairn's own speed on one thread of an idle machine.
"""

import contextlib
import json
import statistics
import subprocess

from llama import library, turns


@contextlib.contextmanager
def neighbours(count):
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def rate_of(seconds):
    """Tokens a second over whole blocks: late tokens count."""
    return statistics.median(len(block) / sum(block) for block in seconds)


def measure(programs, request, blocks):
    for program in programs:
        program.block(request)
    seconds = [[] for _ in programs]
    for _ in range(blocks):
        for program, of in zip(programs, seconds):
            of.append(program.block(request))
    return [rate_of(of) for of in seconds]


def main():
    parser = turns.arguments(__doc__.splitlines()[0])
    parser.set_defaults(formats=["q4_0"], blocks=8)
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--neighbours", type=int, default=2)
    options = parser.parse_args()
    request = f"decode {options.depth} 32"
    for kind, model in turns.models(options):
        alone = turns.ours(model, 1)
        idle, = measure([alone], request, options.blocks)
        alone.close()
        context = options.depth + 64
        programs = [turns.ours(model, library.THREADS), turns.peer(model, 1, context),
                    turns.peer(model, library.THREADS, context)]
        with neighbours(options.neighbours):
            mine, one, all_threads = measure(programs, request, options.blocks)
        for program in programs:
            program.close()
        print(json.dumps({"bench": "peers crowd", "format": kind, "neighbours": options.neighbours,
                          "threads": library.THREADS, "depth": options.depth,
                          "tokens_per_second": mine, "peer_one_thread": one,
                          "peer_all_threads": all_threads, "ratio": mine / max(one, all_threads),
                          "ratio_to_all_threads": mine / all_threads,
                          "share_of_idle_thread": mine / idle}), flush=True)


if __name__ == "__main__":
    main()
