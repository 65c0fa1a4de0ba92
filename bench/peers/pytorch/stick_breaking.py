#!/usr/bin/env python3
"""Stick-breaking attention as one writes it in PyTorch, beside `cairn bench attention --mechanism
stick_breaking`: whole matrices of logits, log-sigmoids and their cumulative sums, under autograd.
The published kernels need a GPU; this is what runs on a CPU.

Weights are checked to add up with the remainder to 1 before anything is timed.

    python bench/peers/pytorch/stick_breaking.py --threads 2 --tokens 2048
"""
import bench_attention


def attend_with_remainder(torch, q, k, v, u):
    """q, k, v [batch, heads, tokens, dim], u [heads, dim]: output and remainder, strictly causal.

    Products in the type of q, k, v; gates in f32, as half-precision sums of logarithms are useless.
    """
    functional = torch.nn.functional
    tokens = q.shape[2]
    z = (q @ k.transpose(2, 3)).float() * q.shape[3] ** -0.5
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu()
    rest = (-functional.softplus(z)).masked_fill(later, 0.0)  # log(1 - beta)
    newer = rest.flip(3).cumsum(3).flip(3) - rest
    weights = (functional.logsigmoid(z) + newer).exp().masked_fill(later, 0.0)
    remainder = rest.sum(3, keepdim=True).exp()
    out = weights.to(v.dtype) @ v + (remainder * u[:, None, :]).to(v.dtype)
    return out, remainder


def check(torch):
    q, k = torch.randn(1, 2, 100, 16), torch.randn(1, 2, 100, 16)
    out, remainder = attend_with_remainder(torch, q, k, torch.ones(1, 2, 100, 1), torch.zeros(2, 1))
    worst = (out + remainder - 1).abs().max().item()
    if worst > 1e-5:
        raise SystemExit(f"weights and remainder add up to 1 only within {worst}")


def attend(torch, q, k, v, u):
    return attend_with_remainder(torch, q, k, v, u)[0]


def further_inputs(torch, sequences, heads, tokens, dim):
    return [torch.zeros(heads, dim)]


if __name__ == "__main__":
    bench_attention.run(__doc__.splitlines()[0], "stick_breaking", attend, further_inputs, check)
