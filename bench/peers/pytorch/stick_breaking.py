#!/usr/bin/env python3
"""Stick-breaking attention as one writes it in PyTorch, beside `cairn bench attention --mechanism
stick_breaking`: whole matrices of logits, log-sigmoids and their cumulative sums, under autograd.
The published kernels need a GPU; this is what runs on a CPU.

Prints one JSON line a shape with the keys of attention.py: 8 heads, sequences of T tokens that
together make 4096, forward and backward, medians. Weights are checked to add up with the remainder
to 1 before anything is timed.

    python bench/peers/pytorch/stick_breaking.py --threads 2 --tokens 2048
"""
import argparse
import json
import statistics
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--head-dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    return parser.parse_args()


def attend(torch, q, k, v, u):
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
    out, remainder = attend(torch, q, k, torch.ones(1, 2, 100, 1), torch.zeros(2, 1))
    worst = (out + remainder - 1).abs().max().item()
    if worst > 1e-5:
        raise SystemExit(f"weights and remainder add up to 1 only within {worst}")


def measure(torch, sequences, heads, tokens, dim, dtype, repetitions):
    # [batch, tokens, heads, dim] in memory, seen as [batch, heads, tokens, dim]: as a model has it.
    def rows():
        x = torch.randn(sequences, tokens, heads, dim).to(dtype)
        return x.transpose(1, 2).detach()

    inputs = [rows().requires_grad_() for _ in range(3)] + [torch.zeros(heads, dim).requires_grad_()]
    dout = rows()
    forward, backward, both = [], [], []
    for repetition in range(-1, repetitions):
        for x in inputs:
            x.grad = None
        start = time.perf_counter()
        out, _ = attend(torch, *inputs)
        middle = time.perf_counter()
        out.backward(dout)
        end = time.perf_counter()
        if repetition < 0:
            continue
        forward.append(middle - start)
        backward.append(end - middle)
        both.append(end - start)
    return [statistics.median(times) for times in (forward, backward, both)]


def main():
    args = arguments()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    check(torch)
    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    for name in args.dtypes:
        for tokens in args.tokens:
            for dim in args.head_dims:
                sequences = max(1, 4096 // tokens)
                forward, backward, both = measure(
                    torch, sequences, args.heads, tokens, dim, types[name], args.repetitions)
                print(json.dumps({
                    "program": "torch " + torch.__version__,
                    "mechanism": "stick_breaking",
                    "dtype": name,
                    "sequences": sequences,
                    "tokens": tokens,
                    "heads": args.heads,
                    "head_dim": dim,
                    "threads": args.threads,
                    "forward_seconds": forward,
                    "backward_seconds": backward,
                    "both_seconds": both,
                }), flush=True)


if __name__ == "__main__":
    main()
