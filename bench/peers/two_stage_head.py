#!/usr/bin/env python3
"""What a head read in two stages could save: first in 4 bits, then in 8 bits only those rows whose logit
may still be among the k largest. Hidden states are transformers', of SmolLM2-135M on real text.

    ./dev peers two_stage_head [--tokens 256] [--exact-columns 0 32]

The logit of a row is known from its 4-bit codes up to sum over blocks of |E_b| |x_b| (Cauchy-Schwarz;
E: what 4 bits lose, x: the hidden state), or up to |E| |x| where that is less; columns with the largest
hidden values may be kept in 8 bits. A row must be read again when the upper end of its logit is above
the k-th largest lower end. Prints one JSON line for each k and number of exact columns: rows that must be
read again, and bytes read as a share of the 8-bit head's.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.package import CAIRN
from llama import library

BLOCK = 32
ROOT = pathlib.Path(__file__).resolve().parents[2]
BYTES4, BYTES8 = 18 / 32, 34 / 32  # a weight: codes and a 16-bit scale


def rounded(blocks, levels, steps):
    """Blocks in whole multiples of a scale each: of several scales the one that loses least."""
    best, least = None, None
    for step in steps:
        scale = np.abs(blocks).max(-1, keepdims=True) / step
        scale[scale == 0] = 1
        values = np.clip(np.rint(blocks / scale), -levels - 1, levels) * scale
        loss = ((blocks - values) ** 2).sum(-1, keepdims=True)
        if best is None:
            best, least = values, loss
        else:
            best, least = np.where(loss < least, values, best), np.minimum(loss, least)
    return best


def load():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "hf"
        subprocess.run([str(CAIRN), "convert", str(library.SMOLLM2), str(path), "--to", "hf"],
                       check=True, stdout=subprocess.DEVNULL)
        return (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
                AutoTokenizer.from_pretrained(path))


def hidden_states(model, tokenizer, tokens):
    texts = [ROOT / "README.md", ROOT / "docs" / "architecture.md", ROOT / "cairn/infer/engine.cpp"]
    for text in texts:
        ids = tokenizer(text.read_text(), return_tensors="pt").input_ids[:, :tokens]
        with torch.no_grad():
            yield from model.model(ids).last_hidden_state[0].numpy()[::7]


def rows_again(approximate, bound, k):
    lowest = np.partition(approximate - bound, -k)[-k]
    return int((approximate + bound >= lowest).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=256, help="of each of three texts")
    parser.add_argument("--exact-columns", type=int, nargs="+", default=[0, 32])
    options = parser.parse_args()
    library.build()
    model, tokenizer = load()
    states = np.stack(list(hidden_states(model, tokenizer, options.tokens)))
    head = model.lm_head.weight.detach().numpy()
    rows, cols = head.shape
    eight = rounded(head.reshape(rows, -1, BLOCK), 127, [127]).reshape(rows, cols)
    four = rounded(eight.reshape(rows, -1, BLOCK), 7, np.linspace(5.5, 8, 11)).reshape(rows, cols)
    largest = np.argsort(-np.abs(states).mean(0))
    for exact in options.exact_columns:
        lost = eight - four
        lost[:, largest[:exact]] = 0
        by_block = np.linalg.norm(lost.reshape(rows, -1, BLOCK), axis=-1)
        by_row = np.linalg.norm(lost, axis=-1)
        again = {1: [], 40: []}
        for x in states:
            other = x.copy()
            other[largest[:exact]] = 0
            bound = np.minimum(by_block @ np.linalg.norm(other.reshape(-1, BLOCK), axis=-1),
                               by_row * np.linalg.norm(other))
            approximate = (eight - lost) @ x
            for k, counts in again.items():
                counts.append(rows_again(approximate, bound, k))
        first = (BYTES4 * (cols - exact) + BYTES8 * exact) / (BYTES8 * cols)
        for k, counts in again.items():
            share = float(np.mean(counts)) / rows
            print(json.dumps({"bench": "peers two_stage_head", "k": k, "exact_columns": exact,
                              "states": len(states), "rows_again": share,
                              "bytes_share": first + share}), flush=True)


if __name__ == "__main__":
    main()
