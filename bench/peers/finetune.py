#!/usr/bin/env python3
"""Training steps of SmolLM2-135M in Cairn and in llama.cpp's llama-finetune, in turns: AdamW on every
weight, windows of 512 tokens, the same threads.

    ./dev peers finetune [--rounds 3]

Prints one JSON line a precision of ours: {ours, peer (tokens a second, medians over the rounds),
ratio (median of the ratios of one round), ceiling (what this machine's peak allows at most, to the
peer)}. The peer trains in f32 only; one of its windows, the first, is its warm-up and not counted.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile

from common.package import CAIRN
from llama import library

WINDOW = 512
WINDOWS = 5
STAMP = re.compile(r"(\d+)\.(\d+)\.(\d+)\.(\d+) I epoch ")


def ours(precision, threads):
    command = [CAIRN, "bench", "train", "--shape", "smollm2-135m", "--precision", precision,
               "--threads", threads, "--json"]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def theirs(model, text, out, threads):
    """Tokens a second: it logs the moment at which every window begins."""
    log = library.tool("llama-finetune", "-m", model, "-f", text, "-o", out, "-c", WINDOW, "-b",
                       WINDOW, "-ub", WINDOW, "-t", threads, "-epochs", 1, "--val-split", 0)
    starts = [60 * int(m) + int(s) + int(ms) / 1e3 + int(us) / 1e6
              for m, s, ms, us in STAMP.findall(log)]
    seconds = [after - before for before, after in zip(starts[1:], starts[2:])]
    if not seconds:
        raise SystemExit(f"llama-finetune trained fewer than three windows:\n{log[-1000:]}")
    return WINDOW / statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=library.THREADS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    library.build()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, text = folder / "f32.gguf", folder / "text"
        subprocess.run([str(CAIRN), "convert", str(library.SMOLLM2), str(model), "--to", "gguf",
                        "--type", "f32"], check=True, stdout=subprocess.DEVNULL)
        # Its windows overlap by half; English of this project, some four bytes a token.
        page = (library.ROOT / "docs" / "attention.md").read_bytes()
        text.write_bytes(page[:2 * WINDOW * (WINDOWS + 1)])
        mine, peers = {precision: [] for precision in options.precisions}, []
        for _ in range(options.rounds):
            peers.append(theirs(model, text, folder / "out.gguf", options.threads))
            for precision in options.precisions:
                mine[precision].append(ours(precision, options.threads))
    for precision, lines in mine.items():
        rates = [line["tokens_per_second"] for line in lines]
        print(json.dumps({
            "bench": "peers finetune", "processor": lines[0]["processor"], "precision": precision,
            "threads": options.threads, "rounds": options.rounds,
            "ours": statistics.median(rates), "peer": statistics.median(peers),
            "ratio": statistics.median(m / p for m, p in zip(rates, peers)),
            "ceiling": statistics.median(line["tokens_per_second"] / line["mfu"] / p
                                         for line, p in zip(lines, peers)),
        }), flush=True)


main()
