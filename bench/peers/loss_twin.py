#!/usr/bin/env python3
"""The same training twice: by Cairn and by PyTorch, from one initial model over the same batches.

    loss_twin.py DATASET [--steps 500] [--threads 2]

A Llama of width 128 (f32). Cairn trains; PyTorch (transformers' LlamaForCausalLM, torch.optim.AdamW,
clip_grad_norm_) starts from the model that Cairn initialised, reads the batches that Cairn's sampler
names and takes the learning rates that Cairn logged. Prints one JSON line: the mean loss of the last
50 steps of each, and their difference.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CAIRN = ROOT / "build" / "release" / "cairn"
SEQUENCES, LENGTH, LAST = 16, 256, 50
CONFIG = f"""
[model]
hidden_size = 128
layers = 4
heads = 4
kv_heads = 2
intermediate_size = 320
[batch]
seq_len = {LENGTH}
micro_batch = {SEQUENCES}
tokens_per_step = {SEQUENCES * LENGTH}
[optim]
lr = 3e-3
[run]
precision = "f32"
seed = 5
"""


def cairn(*words):
    done = subprocess.run([CAIRN, *map(str, words)], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout


def run_ours(folder, dataset, steps, threads, lr=None):
    """(the run's folder, [(loss, lr) of each step])"""
    config = folder / "twin.toml"
    config.write_text(CONFIG)
    run = folder / f"run-{steps}"
    words = [f"--data.folder={dataset}", f"--run.folder={run}", f"--run.steps={steps}",
             f"--run.threads={threads}", "--quiet"]
    if lr is not None:
        words.append(f"--optim.lr={lr}")
    cairn("train", config, *words)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return run, [(r["loss"], r["lr"]) for r in rows if "loss" in r]


def batches(dataset, steps):
    lines = cairn("data", "sample", dataset, "--count", steps * SEQUENCES, "--length", LENGTH,
                  "--seed", 0, "--json").splitlines()
    samples = [json.loads(line) for line in lines]
    rows = torch.tensor([s["tokens"] + [s["next"]] for s in samples])
    return rows.view(steps, SEQUENCES, LENGTH + 1)


def run_theirs(start, data, rates):
    model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for batch, rate in zip(data, rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = model(input_ids=batch[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = options.dataset.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # One step at the smallest learning rate leaves the initial weights: f32 rounds it away.
        start, _ = run_ours(folder, dataset, 1, options.threads, lr=1e-12)
        _, ours = run_ours(folder, dataset, options.steps, options.threads)
        theirs = run_theirs(start / "model", batches(dataset, options.steps),
                            [rate for _, rate in ours])
    last = min(LAST, options.steps)
    mean_ours = sum(loss for loss, _ in ours[-last:]) / last
    mean_theirs = sum(theirs[-last:]) / last
    print(json.dumps({"bench": "loss_twin", "steps": options.steps, "ours": mean_ours,
                      "peer": mean_theirs, "difference": mean_ours - mean_theirs,
                      "first_ours": ours[0][0], "first_peer": theirs[0]}))


main()
