#!/usr/bin/env python3
"""One token against a cache of keys and values in eager PyTorch, beside `cairn bench attention
--phase decode`: scaled_dot_product_attention, stick-breaking as one writes it, and PaTH by its
published rule, which changes every cached key at every token.

    python bench/peers/pytorch/decode.py --mechanism path --tokens 4096 --threads 2
"""
import argparse
import json
import statistics
import time


def softmax(torch, q, k, v, w):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def stick_breaking(torch, q, k, v, w):
    z = (q @ k.transpose(2, 3)).float() * q.shape[3] ** -0.5
    rest = -torch.nn.functional.softplus(z)
    newer = rest.flip(3).cumsum(3).flip(3) - rest
    weights = (torch.nn.functional.logsigmoid(z) + newer).exp()
    return weights.to(v.dtype) @ v


def path(torch, q, k, v, w):
    k -= (k @ w.transpose(2, 3)) @ w  # strength 1
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


MECHANISMS = {f.__name__: f for f in (softmax, stick_breaking, path)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mechanism", choices=MECHANISMS, default="softmax")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 32768])
    parser.add_argument("--head-dims", type=int, nargs="+", default=[64])
    parser.add_argument("--dtypes", nargs="+", default=["f32"], choices=["f32", "bf16"])
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    steps = 64  # of one sample
    for name in args.dtypes:
        for tokens in args.tokens:
            for dim in args.head_dims:
                k, v = (torch.randn(1, args.heads, tokens, dim).to(types[name]) for _ in range(2))
                q, w = (torch.randn(1, args.heads, 1, dim).to(types[name]) for _ in range(2))
                w /= w.norm(dim=3, keepdim=True)
                times = []
                with torch.no_grad():
                    for repetition in range(-1, args.repetitions):
                        start = time.perf_counter()
                        for _ in range(steps):
                            MECHANISMS[args.mechanism](torch, q, k, v, w)
                        if repetition >= 0:
                            times.append((time.perf_counter() - start) / steps)
                print(json.dumps({
                    "program": "torch " + torch.__version__, "mechanism": args.mechanism,
                    "phase": "decode", "dtype": name, "tokens": tokens, "heads": args.heads,
                    "head_dim": dim, "threads": args.threads,
                    "both_seconds": statistics.median(times)}), flush=True)


if __name__ == "__main__":
    main()
