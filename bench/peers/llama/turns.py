"""Cairn and llama.cpp in turns on one GGUF file: blocks A, B, A, B, ... of decoded tokens or of prompts,
each program loaded once and asleep while the other works. The protocol of both programs is in
blocks.cpp."""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

from common import random_model
from common.package import CAIRN

from llama import library

FORMATS = ["q4_0", "q4_1", "q4_k_m", "q8_0", "f16"]


class Program:
    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self._answer()  # ready

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} has ended")
        return json.loads(line)

    def block(self, request):
        """Seconds of each token, or of the prompt."""
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(model, threads):
    return Program("cairn", [CAIRN, "bench", "decode", "--turns", "--model", model, "--threads",
                             threads])


def peer(model, threads, context):
    return Program("llama.cpp", [library.BIN / "llama-blocks", model, threads, context])


def best_peer(model, context, request):
    """llama.cpp with the number of threads that it is fastest with, and that number."""
    best = None
    for threads in sorted({1, library.THREADS}):
        program = peer(model, threads, context)
        seconds = min(statistics.median(program.block(request)) for _ in range(3))
        if best is None or seconds < best[0]:
            if best is not None:
                best[1].close()
            best = (seconds, program, threads)
        else:
            program.close()
    return best[1:]


def interval(ratios):
    """Bootstrap interval, 95 %, of their median."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[49], medians[1949]


def bandwidth(model, depth):
    """(GB/s of reading, bytes a token behind `depth` others) for weights of this size, all threads."""
    done = subprocess.run([str(CAIRN), "bench", "decode", "--model", str(model), "--blocks", "1",
                           "--tokens", "8", "--depth", str(depth), "--json"], stdout=subprocess.PIPE, check=True)
    line = json.loads(done.stdout)
    return line["bandwidth_gbs"], line["bytes"]


def take_turns(model, request, context, blocks, rival=best_peer):
    """Medians of our and the peer's seconds, the paired ratios, and the peer's threads."""
    mine = ours(model, library.THREADS)
    theirs, threads = rival(model, context, request)
    mine.block(request)
    seconds = [[], []]
    for _ in range(blocks):
        for program, of in zip((mine, theirs), seconds):
            of.append(statistics.median(program.block(request)))
    mine.close()
    theirs.close()
    ratios = [b / a for a, b in zip(*seconds)]
    return statistics.median(seconds[0]), statistics.median(seconds[1]), ratios, threads


def model_of(kind):
    """SmolLM2-135M in a format, made if it is not there."""
    path = library.PEERS / "models" / f"smollm2-{kind}.gguf"
    if not path.exists():
        subprocess.run([str(CAIRN), "quantize", str(library.SMOLLM2), str(path), "-t", kind,
                        "--json"], stdout=subprocess.DEVNULL, check=True)
    return path


def random_model_of(shape, kind):
    """Random weights in a shape and format, made if they are not there."""
    path = library.PEERS / "models" / f"random-{shape}-{kind}.gguf"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=library.PEERS) as folder:
            random_model.write(folder, shape)
            subprocess.run([str(CAIRN), "quantize", folder, str(path), "-t", kind, "--json"],
                           stdout=subprocess.DEVNULL, check=True)
    return path


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=pathlib.Path, help="a GGUF file (SmolLM2-135M)")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--shapes", nargs="+", choices=random_model.SHAPES,
                        help="random weights in these shapes, not SmolLM2-135M")
    parser.add_argument("--blocks", type=int, default=12)
    return parser


def models(options):
    library.build()
    if options.model:
        return [(options.model.stem, options.model)]
    if options.shapes:
        return [(f"{shape} {kind}", random_model_of(shape, kind)) for shape in options.shapes
                for kind in options.formats]
    return [(kind, model_of(kind)) for kind in options.formats]


def report(bench, kind, per_time, result, **facts):
    """Prints the line of one model; `per_time` tokens took each of the times."""
    mine, theirs, ratios, threads = result
    low, high = interval(ratios)
    print(json.dumps({"bench": bench, "format": kind, "threads": library.THREADS, **facts,
                      "tokens_per_second": per_time / mine,
                      "peer_tokens_per_second": per_time / theirs,
                      "peer_threads": threads, "ratio": statistics.median(ratios),
                      "ratio_low": low, "ratio_high": high}), flush=True)
