#!/usr/bin/env python3
"""Makes tests/golden/models: tiny random models of each family, and the logits and gradients that
Hugging Face transformers gives for them.

Needs torch and transformers; the tests need only what this leaves behind, a folder a model with
config.json, model.safetensors and expected.safetensors: tokens [n], logits [n, vocab_size], and
gradients [tensors, 3] of the summed cross-entropy of each next token (and of the load-balancing loss,
once a token, where the model has one). Of a gradient g, for the tensors in the order of their names:
its norm, g . w with the weights w, and g . cos(0, 1, 2, ...). Of an encoder-decoder also: source
[m], which its encoder reads while its decoder reads the tokens, and generated, what it greedily writes
to that source.

  python tests/golden/make_model_golden.py [NAME...]
"""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent / "models"
TOKENS = 40
SOURCE = 30
SIZES = dict(
    vocab_size=64,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)

GRANITE = dict(
    embedding_multiplier=3.0,
    attention_multiplier=0.25,
    residual_multiplier=0.4,
    logits_scaling=2.0,
    tie_word_embeddings=True,
)

GEMMA = dict(
    head_dim=16,
    num_hidden_layers=3,
    sliding_window=8,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    query_pre_attn_scalar=20,
    pad_token_id=0,
)

T5 = dict(
    vocab_size=64,
    d_model=24,
    d_kv=8,
    d_ff=40,
    num_layers=2,
    num_heads=4,
    decoder_start_token_id=0,
)

# Name: class, and what differs from SIZES. Each turns on everything that its family can have.
MODELS = {
    "llama": ("Llama", dict(tie_word_embeddings=True, rms_norm_eps=1e-5)),
    "llama-untied": (
        "Llama",
        dict(
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=16,
            tie_word_embeddings=False,
            rope_theta=500000.0,
        ),
    ),
    "llama-biases": ("Llama", dict(attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3)),
    "llama-linear": (
        "Llama",
        dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0)),
    ),
    "llama-yarn": ("Llama", dict(rope_parameters=YARN)),
    "llama-dynamic": (
        "Llama",
        dict(
            rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0),
            max_position_embeddings=32,
        ),
    ),
    "mistral": ("Mistral", dict(sliding_window=8, head_dim=8)),
    "granite": ("Granite", GRANITE),
    "qwen2": ("Qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1)),
    "qwen3": ("Qwen3", dict(head_dim=16, attention_bias=True, tie_word_embeddings=True)),
    "phi3": ("Phi3", dict(pad_token_id=0, sliding_window=None)),
    "phi3-longrope": (
        "Phi3",
        dict(
            pad_token_id=0,
            sliding_window=None,
            num_attention_heads=3,
            num_key_value_heads=1,
            original_max_position_embeddings=32,
            rope_parameters=dict(
                rope_type="longrope",
                rope_theta=10000.0,
                partial_rotary_factor=0.5,
                short_factor=[1.0, 1.25],
                long_factor=[1.5, 3.0],
            ),
        ),
    ),
    "granitemoe": ("GraniteMoe", dict(num_local_experts=6, num_experts_per_tok=3, **GRANITE)),
    "granitemoeshared": (
        "GraniteMoeShared",
        dict(
            num_local_experts=5,
            num_experts_per_tok=2,
            shared_intermediate_size=28,
            output_router_logits=True,
            router_aux_loss_coef=0.5,
            **GRANITE,
        ),
    ),
    "gemma3": ("Gemma3", GEMMA),
    # With images, which the text does without.
    "gemma3-multimodal": (
        "Gemma3",
        dict(
            GEMMA,
            vision_config=dict(
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=16,
                patch_size=8,
            ),
        ),
    ),
    "t5": ("T5", dict(T5)),
    "t5-gated": (
        "T5",
        dict(
            T5,
            num_layers=3,
            num_decoder_layers=2,
            num_heads=3,
            relative_attention_num_buckets=16,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        ),
    ),
}
CONFIGS = {"Gemma3": "Gemma3TextConfig"}


def empty_model(family: str, options: dict):
    if family == "T5":
        config = transformers.T5Config(**options, dropout_rate=0.0)
        model = transformers.T5ForConditionalGeneration(config)
        if not config.scale_decoder_outputs:  # a head of its own, as T5 v1.1 has it
            model.lm_head.weight = torch.nn.Parameter(model.shared.weight.detach().clone())
        return model
    options = {**SIZES, **options}
    plain = dict(attn_implementation="eager", experts_implementation="eager")
    if "vision_config" in options:
        vision = options.pop("vision_config")
        config = getattr(transformers, family + "Config")(
            text_config=options, vision_config=vision, mm_tokens_per_image=4,
            eos_token_id=[2, 3], **plain)
        return getattr(transformers, family + "ForConditionalGeneration")(config)
    config = getattr(transformers, CONFIGS.get(family, family + "Config"))(**plain, **options)
    return getattr(transformers, family + "ForCausalLM")(config)


def random_model(family: str, options: dict, seed: int):
    """A model whose weights are large enough that every part of it shows in the logits."""
    torch.manual_seed(seed)
    model = empty_model(family, options).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(0.0 if "bias" in name or family == "Gemma3" else 1.0, 0.2)
            elif "embed" in name or "lm_head" in name:
                parameter.normal_(0.0, 0.5)
            elif name == "shared.weight":
                parameter.normal_(0.0, 0.3)
            elif name.endswith("Attention.q.weight"):  # scores that nothing scales
                parameter.normal_(0.0, 0.5 / parameter.shape[-1] ** 0.5)
            else:
                large = 1.0 if family == "T5" else 1.5
                parameter.normal_(0.0, large / parameter.shape[-1] ** 0.5)
    return model


def stored_name(name: str) -> str:
    """Files keep the names that stacks of experts had before transformers 5."""
    for new, old in [
        ("model.language_model.", "model."),
        ("experts.gate_up_proj", "input_linear.weight"),
        ("experts.down_proj", "output_linear.weight"),
        ("moe.router.weight", "moe.router.layer.weight"),
    ]:
        name = name.replace(new, old)
    return name


def run(model, tokens, source):
    if source is None:
        return model(tokens[None])
    return model(input_ids=source[None], decoder_input_ids=tokens[None])


def gradient_marks(model, tokens, source) -> torch.Tensor:
    model.zero_grad()
    output = run(model, tokens, source)
    loss = torch.nn.functional.cross_entropy(output.logits[0, :-1], tokens[1:], reduction="sum")
    if getattr(output, "aux_loss", None) is not None:
        loss = loss + model.router_aux_loss_coef * output.aux_loss * (len(tokens) - 1)
    loss.backward()
    marks = []
    used = [(stored_name(n), p) for n, p in model.named_parameters() if p.grad is not None]
    for _, parameter in sorted(used):
        gradient = parameter.grad.flatten()
        wave = torch.cos(torch.arange(len(gradient), dtype=torch.float64))
        marks.append([gradient.norm(), gradient @ parameter.detach().flatten(), gradient @ wave])
    return torch.tensor(marks, dtype=torch.float32)


def main() -> None:
    wanted = sys.argv[1:] or list(MODELS)
    for seed, (name, (family, options)) in enumerate(MODELS.items()):
        if name not in wanted:
            continue
        model = random_model(family, options, seed)
        folder = FOLDER / name
        model.save_pretrained(folder)
        tokens = torch.randint(3, SIZES["vocab_size"], (TOKENS,))  # 0 may be padding
        source = None
        if model.config.is_encoder_decoder:
            source = torch.randint(3, SIZES["vocab_size"], (SOURCE,))
            tokens[0] = model.config.decoder_start_token_id
        # The reference sums in float64, so that all of a difference is ours.
        with torch.no_grad():
            logits = run(model.double(), tokens, source).logits[0].float()
        expected = {
            "tokens": tokens.to(torch.int32),
            "logits": logits.contiguous(),
            "gradients": gradient_marks(model, tokens, source),
        }
        if source is not None:
            written = model.generate(source[None], max_new_tokens=TOKENS, do_sample=False)
            expected["source"] = source.to(torch.int32)
            expected["generated"] = written[0, 1:].to(torch.int32)
            print("writes", written.tolist())
        save_file(expected, folder / "expected.safetensors")
        print(name, sum(p.stat().st_size for p in folder.iterdir()), "bytes, logits within",
              float(logits.abs().max()))


if __name__ == "__main__":
    main()
