"""Finds the package and makes small models: random weights, a tokenizer trained on a few lines."""

import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"

# The package of the build tree, unless one is installed or PYTHONPATH names another.
sys.path.append(os.environ.get("CAIRN_PYTHON_PATH", str(ROOT / "build" / "release" / "python")))

LINES = [
    "int main(int argc, char** argv) {",
    "  return argc > 1 ? std::atoi(argv[1]) : 0;",
    "// A comment with ümlauts, a € sign and 数字.",
    "for (size_t i = 0; i < values.size(); ++i) sum += values[i];",
    "The quick brown fox doesn't jump over 12345 lazy dogs.",
    "\tif (!file) throw Error(\"no file\");\n\n",
] * 4


def train_tokenizer(path: pathlib.Path, vocab_size: int):
    """A byte-level BPE by the reference library, with an end-of-text token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        LINES,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.save(str(path))
    return tokenizer


def write_llama(folder: pathlib.Path, vocab_size: int, seed: int = 1) -> None:
    """A random Llama of two layers as a Hugging Face folder."""
    hidden, inner, layers, heads, kv_heads, dim = 48, 80, 2, 4, 2, 12
    random = np.random.default_rng(seed)

    def matrix(rows: int, cols: int) -> np.ndarray:
        return (random.standard_normal((rows, cols)) * 1.5 / np.sqrt(cols)).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(vocab_size, hidden),
        "model.norm.weight": np.ones(hidden, np.float32),
    }
    for i in range(layers):
        layer = f"model.layers.{i}."
        tensors |= {
            layer + "input_layernorm.weight": np.ones(hidden, np.float32),
            layer + "self_attn.q_proj.weight": matrix(heads * dim, hidden),
            layer + "self_attn.k_proj.weight": matrix(kv_heads * dim, hidden),
            layer + "self_attn.v_proj.weight": matrix(kv_heads * dim, hidden),
            layer + "self_attn.o_proj.weight": matrix(hidden, heads * dim),
            layer + "post_attention_layernorm.weight": np.ones(hidden, np.float32),
            layer + "mlp.gate_proj.weight": matrix(inner, hidden),
            layer + "mlp.up_proj.weight": matrix(inner, hidden),
            layer + "mlp.down_proj.weight": matrix(hidden, inner),
        }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": dim,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "eos_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("model")
    vocab_size = 320
    write_llama(folder, vocab_size)
    train_tokenizer(folder / "tokenizer.json", vocab_size)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    return folder


def copy_with_context(model: pathlib.Path, folder: pathlib.Path, positions: int):
    """A copy of the model in a new folder, with another context length."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = positions
    (folder / "config.json").write_text(json.dumps(config))
    return folder
