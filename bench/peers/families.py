#!/usr/bin/env python3
"""Small models of every family from a Hugging Face folder through `cairn convert` into llama.cpp: its
logits, and those of Cairn's engine on the same file, beside those of Hugging Face transformers on the
folder.

Prints one JSON line a model, with "ok" where no logit of either differs by more than 1e-3 of the largest, and
exits with 1 when one is not. The models are those of tests/golden/models, each without what llama.cpp
does not do for its family (CHANGES).

    ./dev peers families [NAME...]
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

from common.package import CAIRN, import_cairn
from llama import library

MODELS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"
TOKENS = 40
LIMIT = 1e-3
# Windows are ignored but in Gemma; Qwen3 has no bias behind attention, Gemma3 one scale of scores.
CHANGES = {
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False, "sliding_window": None, "layer_types": None},
    "qwen3": {"attention_bias": False},
    "gemma3": {"query_pre_attn_scalar": 16},
}
UNSAYABLE = {"llama-dynamic"}  # cairn convert refuses it


def prepare(name: str, folder: pathlib.Path) -> None:
    shutil.copytree(MODELS / name, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config.update(CHANGES.get(name, {}))
    (folder / "config.json").write_text(json.dumps(config))


def compare(package, name: str, folder: pathlib.Path) -> bool:
    prepare(name, folder)
    gguf = folder / "model.gguf"
    done = subprocess.run([str(CAIRN), "convert", str(folder), str(gguf), "--to", "gguf"],
                          stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"cairn does not convert {name}")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", experts_implementation="eager")
    tokens = np.random.default_rng(7).integers(3, model.config.vocab_size, TOKENS)
    with torch.no_grad():
        expected = model.double().eval()(torch.tensor(tokens)[None]).logits[0].numpy()
    peer = library.Model(gguf, exact=True)
    found = peer.append(tokens)
    peer.close()
    ours = package.Model(gguf, threads=1).logits(tokens.tolist())
    peer_difference, our_difference = (
        float(np.abs(logits - expected).max() / np.abs(expected).max()) for logits in (found, ours))
    ok = max(peer_difference, our_difference) <= LIMIT
    print(json.dumps({"bench": "peers families", "model": name, "tokens": TOKENS,
                      "llama_cpp": peer_difference, "cairn": our_difference, "ok": ok}), flush=True)
    return ok


def main() -> None:
    transformers.logging.set_verbosity_error()
    names = sys.argv[1:] or sorted(p.name for p in MODELS.iterdir() if p.name not in UNSAYABLE)
    package = import_cairn()
    results = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            results.append(compare(package, name, pathlib.Path(folder)))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
