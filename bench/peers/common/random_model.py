"""Llamas of random weights in known shapes, as Hugging Face folders: speed does not depend on the
values. The shapes are those of `cairn bench decode --shape`."""

import json
import pathlib
import struct

import numpy as np

# layers, width, inner width, heads, key heads, head width, vocabulary
SHAPES = {
    "15m": (6, 288, 768, 6, 6, 48, 32000),
    "25m": (12, 384, 1024, 6, 2, 64, 16384),
    "360m": (32, 960, 2560, 15, 5, 64, 49152),
    "1b": (16, 2048, 8192, 32, 8, 64, 128256),
}


def tensors(shape):
    """{name: shape}, in the order of the file."""
    layers, width, inner, heads, kv_heads, head_dim, vocab = SHAPES[shape]
    found = {"model.embed_tokens.weight": (vocab, width)}
    for layer in range(layers):
        found |= {f"model.layers.{layer}.{name}.weight": size for name, size in {
            "input_layernorm": (width,),
            "self_attn.q_proj": (heads * head_dim, width),
            "self_attn.k_proj": (kv_heads * head_dim, width),
            "self_attn.v_proj": (kv_heads * head_dim, width),
            "self_attn.o_proj": (width, heads * head_dim),
            "post_attention_layernorm": (width,),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }.items()}
    return found | {"model.norm.weight": (width,)}


def config(shape):
    layers, width, inner, heads, kv_heads, head_dim, vocab = SHAPES[shape]
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": inner,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
            "vocab_size": vocab, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": True, "dtype": "bfloat16",
            "bos_token_id": 1, "eos_token_id": 2}


def write(folder, shape):
    """Writes the folder; one table of draws serves all matrices, in bf16."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(shape)))
    draws = np.random.default_rng(1).normal(scale=0.02, size=1 << 22).astype(np.float32)
    draws = (draws.view(np.uint32) >> 16).astype(np.uint16)
    header, end = {}, 0
    for name, size in tensors(shape).items():
        begin, end = end, end + 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for size in tensors(shape).values():
            count = int(np.prod(size))
            if len(size) == 1:
                file.write(np.full(count, 0x3F80, np.uint16))  # gains of 1
                continue
            for at in range(0, count, draws.size):
                file.write(draws[:min(draws.size, count - at)])
