#!/usr/bin/env python3
"""Small models of every family from a Hugging Face folder through `cairn convert` into llama.cpp: its
logits, and those of Cairn's engine on the same file, beside those of Hugging Face transformers on the
folder.

Prints one JSON line a model, with "ok" where no logit of either differs by more than 1e-3 of the largest
(PEER_LIMITS has the exception), and exits with 1 when one is not. Encoder-decoders read a source first; a
tied head of theirs is not scaled in llama.cpp, so there its logits are divided by sqrt(d_model) here. Such
a model also goes back to a Hugging Face folder, from which transformers must give the same logits. The
models are those of tests/golden/models, each without what llama.cpp does not do for its family (CHANGES).

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
from safetensors.numpy import load_file, save_file

from common.package import CAIRN, import_cairn
from llama import library

MODELS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"
TOKENS = 40
SOURCE = 30
LIMIT = 1e-3
# Windows are ignored but in Gemma; Qwen3 has no bias behind attention, Gemma3 one scale of scores.
CHANGES = {
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False, "sliding_window": None, "layer_types": None},
    "qwen3": {"attention_bias": False},
    "gemma3": {"query_pre_attn_scalar": 16},
    "gemma3-multimodal": {"text_config": {"query_pre_attn_scalar": 16}},
}
# GELU is a table of f16 in llama.cpp; that alone moves these logits by 1.07e-3 (in transformers too, when
# its GELU reads and writes f16): T5 does not scale its scores.
PEER_LIMITS = {"t5-gated": 2e-3}
LEFT_OUT = {"qwen3": ".bias"}  # tensors by how their names end
UNSAYABLE = {"llama-dynamic"}  # cairn convert refuses it


def prepare(name: str, folder: pathlib.Path) -> None:
    shutil.copytree(MODELS / name, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    for key, value in CHANGES.get(name, {}).items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))
    if ending := LEFT_OUT.get(name):
        file = folder / "model.safetensors"
        tensors = load_file(file)
        save_file({key: tensors[key] for key in tensors if not key.endswith(ending)}, file)


def logits_of(model, tokens, source):
    read = torch.tensor(tokens)[None]
    with torch.no_grad():
        if source is None:
            return model(read).logits[0].numpy()
        return model(input_ids=torch.tensor(source)[None], decoder_input_ids=read).logits[0].numpy()


def open_folder(folder: pathlib.Path):
    """In float64."""
    with_source = json.loads((folder / "config.json").read_text()).get("is_encoder_decoder")
    kind = transformers.AutoModelForSeq2SeqLM if with_source else transformers.AutoModelForCausalLM
    plain = {} if with_source else {"experts_implementation": "eager"}
    return kind.from_pretrained(folder, attn_implementation="eager", **plain).double().eval()


def of_llama_cpp(gguf: pathlib.Path, tokens, source, config):
    peer = library.Model(gguf, exact=True)
    if source is not None:
        peer.encode(source)
    found = peer.append(tokens)
    peer.close()
    scaled = source is not None and config.scale_decoder_outputs
    return found / config.d_model**0.5 if scaled else found


def way_back(gguf: pathlib.Path, folder: pathlib.Path, tokens, source):
    """What transformers says of the folder that Cairn makes of the file."""
    subprocess.run([str(CAIRN), "convert", str(gguf), str(folder), "--to", "hf"],
                   stdout=subprocess.DEVNULL, check=True)
    return logits_of(open_folder(folder), tokens, source)


def compare(package, name: str, folder: pathlib.Path) -> bool:
    prepare(name, folder)
    gguf = folder / "model.gguf"
    done = subprocess.run([str(CAIRN), "convert", str(folder), str(gguf), "--to", "gguf"],
                          stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"cairn does not convert {name}")
    model = open_folder(folder)
    draw = np.random.default_rng(7)
    vocab_size = model.config.get_text_config().vocab_size
    tokens, source = draw.integers(3, vocab_size, TOKENS), None
    if model.config.is_encoder_decoder:
        source = draw.integers(3, vocab_size, SOURCE)
        tokens[0] = model.config.decoder_start_token_id
    expected = logits_of(model, tokens, source)
    # Of frequencies that depend on the context, those for more than the original one.
    context = getattr(model.config.get_text_config(), "max_position_embeddings", 0)
    found = {
        "llama_cpp": of_llama_cpp(gguf, tokens, source, model.config),
        "cairn": package.Model(gguf, threads=1, context=context).logits(
            tokens.tolist(), *([] if source is None else [source.tolist()])),
    }
    if source is not None:
        found["back"] = way_back(gguf, folder / "back", tokens, source)
    differences = {who: float(np.abs(logits - expected).max() / np.abs(expected).max())
                   for who, logits in found.items()}
    limits = {"llama_cpp": PEER_LIMITS.get(name, LIMIT)}
    ok = all(differences[who] <= limits.get(who, LIMIT) for who in differences)
    print(json.dumps({"bench": "peers families", "model": name, "tokens": TOKENS, **differences,
                      "ok": ok}), flush=True)
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
