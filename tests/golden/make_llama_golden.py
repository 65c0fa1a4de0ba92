#!/usr/bin/env python3
"""Makes tests/golden/llama: tiny random Llama models and the logits that Hugging Face gives for them.

Needs torch and transformers; the tests need only what this leaves behind:
  tied/    grouped queries, tied embedding, rope_theta 10000
  untied/  a head of its own, head_dim that is not hidden_size / heads, rope_theta 500000
each with config.json, model.safetensors and expected.safetensors (tokens [n], logits [n, vocab]).

  python tests/golden/make_llama_golden.py
"""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = pathlib.Path(__file__).parent / "llama"
TOKENS = 48

MODELS = {
    "tied": dict(
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
    ),
    "untied": dict(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=False,
        rms_norm_eps=1e-6,
        rope_theta=500000.0,
    ),
}


def random_llama(options: dict, seed: int, vocab_size: int = 96) -> LlamaForCausalLM:
    """A model whose weights are large enough that every part of it shows in the logits."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="eager",
        **options,
    )
    model = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0, 0.2)
            elif "embed" in name or "lm_head" in name:
                parameter.normal_(0.0, 0.5)
            else:
                parameter.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)
    return model


def main() -> None:
    for seed, (name, options) in enumerate(MODELS.items()):
        model = random_llama(options, seed)
        folder = FOLDER / name
        model.save_pretrained(folder)
        tokens = torch.randint(0, model.config.vocab_size, (TOKENS,))
        # The reference sums in float64, so that all of a difference is ours.
        with torch.no_grad():
            logits = model.double()(tokens[None]).logits[0].float()
        save_file(
            {"tokens": tokens.to(torch.int32), "logits": logits.contiguous()},
            folder / "expected.safetensors",
        )
        print(name, sum(p.stat().st_size for p in folder.iterdir()), "bytes, logits within",
              float(logits.abs().max()))


if __name__ == "__main__":
    main()
