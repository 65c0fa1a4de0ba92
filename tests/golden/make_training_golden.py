#!/usr/bin/env python3
"""Loss and gradients of a tiny Llama by PyTorch: what our training step is held to.

    python make_training_golden.py tests/golden/training     (needs torch, transformers, safetensors)

Three sequences of 17 tokens, some targets ignored; attention stays inside documents that cut the
second and third sequence, positions run on. Losses are summed, not averaged.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

SEQUENCES, LENGTH, VOCABULARY = 3, 17, 61
CUTS = [0, 17, 24, 34, 39, 40, 51]  # where documents begin, and the end


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.manual_seed(20)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=32,
        rms_norm_eps=1e-5, tie_word_embeddings=True, attn_implementation="eager",
        initializer_range=0.2)
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value += 0.3 * torch.randn_like(value)
    tokens = torch.randint(0, VOCABULARY, (SEQUENCES * LENGTH,))
    targets = torch.randint(0, VOCABULARY, (SEQUENCES * LENGTH,))
    targets[::5] = -1
    loss = torch.zeros(())
    for begin, end in zip(CUTS, CUTS[1:]):
        positions = torch.arange(begin, end) % LENGTH
        logits = model(input_ids=tokens[None, begin:end], position_ids=positions[None]).logits[0]
        loss = loss + torch.nn.functional.cross_entropy(
            logits, targets[begin:end], ignore_index=-1, reduction="sum")
    loss.backward()

    model.save_pretrained(folder)
    save_file({n: p.grad.contiguous() for n, p in model.named_parameters()},
              folder / "gradients.safetensors")
    (folder / "batch.json").write_text(json.dumps({
        "sequences": SEQUENCES, "length": LENGTH, "tokens": tokens.tolist(),
        "targets": targets.tolist(), "offsets": CUTS, "loss": loss.item()}) + "\n")


main()
