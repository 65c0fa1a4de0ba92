#!/usr/bin/env python3
"""Cairn and Hugging Face transformers on the same models: the same logits, both ways.

  hf-to-cairn  random Llama models written by transformers, opened by Cairn
  cairn-to-hf  the same models written again by Cairn (f32, bf16), opened by transformers
  given        the folders on the command line, such as one that `cairn train` left

Prints one JSON line a comparison: {direction, model, dtype, tokens, max_difference, limit, ok} and
exits with 1 when one is beyond its limit.

  ./dev peers parity [FOLDER...]
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers

from common.package import import_cairn

LIMIT = 1e-4


def random_models():
    """(name, model) of shapes that differ in what a reader can get wrong."""
    shapes = {
        "tied-gqa": dict(num_attention_heads=8, num_key_value_heads=2, tie_word_embeddings=True),
        "untied-mha": dict(num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False),
        "wide-heads": dict(
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=64,
            rope_theta=500000.0,
            tie_word_embeddings=False,
        ),
    }
    for seed, (name, shape) in enumerate(shapes.items()):
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(
            vocab_size=1000,
            hidden_size=128,
            intermediate_size=344,
            num_hidden_layers=4,
            max_position_embeddings=512,
            initializer_range=0.06,
            bos_token_id=1,
            eos_token_id=2,
            **shape,
        )
        model = transformers.LlamaForCausalLM(config).float().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.normal_(1.0, 0.2)
        yield name, model


def torch_logits(model, tokens) -> np.ndarray:
    """Summed in float64, so that all of a difference is Cairn's."""
    with torch.no_grad():
        return model.double()(torch.tensor([tokens])).logits[0].numpy()


def open_with_transformers(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def report(direction, model, dtype, found, expected) -> bool:
    difference = float(np.abs(found - expected).max())
    ok = difference <= LIMIT and found.shape == expected.shape
    print(
        json.dumps(
            {
                "direction": direction,
                "model": model,
                "dtype": dtype,
                "tokens": len(expected),
                "max_difference": difference,
                "limit": LIMIT,
                "ok": ok,
            }
        ),
        flush=True,
    )
    return ok


def compare_random(cairn, folder: pathlib.Path) -> bool:
    tokens = np.random.default_rng(1).integers(0, 1000, 300).tolist()
    good = True
    for name, model in random_models():
        model.save_pretrained(folder / name)
        ours = cairn.Model(folder / name).logits(tokens)
        expected = torch_logits(model, tokens)
        good &= report("hf-to-cairn", name, "f32", ours, expected)
        for dtype in ("f32", "bf16"):
            written = folder / f"{name}-{dtype}"
            cairn.convert(folder / name, written, dtype)
            # What transformers reads from Cairn's files, against what Cairn reads from them.
            theirs = torch_logits(open_with_transformers(written), tokens)
            good &= report("cairn-to-hf", name, dtype, cairn.Model(written).logits(tokens), theirs)
            if dtype == "f32":
                good &= report("there-and-back", name, dtype, theirs, expected)
    return good


def compare_given(cairn, folder: str) -> bool:
    """Logits of a given folder, and, with tokenizer.json, tokens and greedy text."""
    text = "#include <stdio.h>\n\nint main(int argc, char **argv) {\n"
    model = open_with_transformers(folder)
    ours = cairn.Model(folder)
    good = True
    tokens = np.random.default_rng(2).integers(0, ours.vocab_size, min(300, ours.context)).tolist()
    if (pathlib.Path(folder) / "tokenizer.json").exists():
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        ids = ours.tokenizer.encode(text, add_special=True, parse_special=True)
        same = ids == theirs(text)["input_ids"]
        print(json.dumps({"direction": "tokens", "model": folder, "ok": same}), flush=True)
        good &= same
    return good & report(
        "given", folder, "f32", ours.logits(tokens), torch_logits(model, tokens)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", help="model folders to compare as well")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cairn = import_cairn()
    with tempfile.TemporaryDirectory() as folder:
        good = compare_random(cairn, pathlib.Path(folder))
    for given in arguments.folder:
        good &= compare_given(cairn, given)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
