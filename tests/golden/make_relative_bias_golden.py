#!/usr/bin/env python3
"""Golden buckets of relative positions, from Hugging Face transformers (needs torch, transformers).

    python3 tests/golden/make_relative_bias_golden.py    # rewrites attention/relative_buckets.txt

A line for each case: whether it is bidirectional, the buckets, the greatest distance, then how many
distances (key - query, from -600 to 600) in a row fall into which bucket: "BUCKET COUNT ..." 0 0.
"""
import itertools
import pathlib

import torch
from transformers.models.t5.modeling_t5 import T5Attention

CASES = [(0, 32, 128), (1, 32, 128), (1, 32, 256), (0, 10, 37), (1, 20, 50), (0, 7, 500), (0, 64, 33)]

lines = []
for bidirectional, buckets, max_distance in CASES:
    distances = torch.arange(-600, 601)
    of = T5Attention._relative_position_bucket(distances, bool(bidirectional), buckets, max_distance)
    runs = [f"{bucket} {len(list(run))}" for bucket, run in itertools.groupby(of.tolist())]
    lines.append(f"{bidirectional} {buckets} {max_distance} {' '.join(runs)} 0 0\n")
(pathlib.Path(__file__).parent / "attention" / "relative_buckets.txt").write_text("".join(lines))
