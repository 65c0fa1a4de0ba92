#!/usr/bin/env python3
"""PaTH attention as one writes it in PyTorch, beside `cairn bench attention --mechanism path`: the
paper's masked form over whole matrices of logits, with one triangular solve a head, under autograd.
The published kernels need a GPU; this is what runs on a CPU. Directions and strengths are given:
the projections and the convolution that make them are part of ours and not of this.

    S = tril(Q K^T) - tril(Q W^T) (I + stril(D W W^T))^-1 D stril(W K^T),  D = diag(beta)

Prints one JSON line a shape with the keys of attention.py: 8 heads, sequences of T tokens that
together make 4096, forward and backward, medians. Logits are checked against the products of
reflections before anything is timed.

    python bench/peers/pytorch/path.py --threads 2 --tokens 2048
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


def scores(torch, q, k, w, beta):
    """q, k [batch, heads, tokens, dim] of any type, w and beta f32: scores in f32. The solve stays in
    f32: rounded directions would make long products grow."""
    qw, wk = (q.float() @ w.transpose(2, 3)).tril(), (w @ k.float().transpose(2, 3)).tril(-1)
    maps = (beta[..., None] * (w @ w.transpose(2, 3))).tril(-1)
    solved = torch.linalg.solve_triangular(maps, beta[..., None] * wk, upper=False,
                                           unitriangular=True)
    return (q @ k.transpose(2, 3)).float() - qw @ solved


def attend(torch, q, k, v, w, beta):
    s = scores(torch, q, k, w, beta) * q.shape[3] ** -0.5
    later = torch.ones(s.shape[2:], dtype=torch.bool).triu(1)
    return s.masked_fill(later, float("-inf")).softmax(3).to(v.dtype) @ v


def random_maps(torch, *shape):
    w = torch.nn.functional.normalize(torch.randn(*shape), dim=-1)
    return w, 2 * torch.rand(*shape[:-1])


def check(torch):
    q, k = torch.randn(1, 1, 30, 8), torch.randn(1, 1, 30, 8)
    w, beta = random_maps(torch, 1, 1, 30, 8)
    found, worst = scores(torch, q, k, w, beta)[0, 0], 0.0
    for i in range(30):
        x = q[0, 0, i]
        for j in range(i, -1, -1):
            worst = max(worst, (found[i, j] - x @ k[0, 0, j]).abs().item())
            x = x - beta[0, 0, j] * (x @ w[0, 0, j]) * w[0, 0, j]
    if worst > 1e-4:
        raise SystemExit(f"scores differ from products of reflections by {worst}")


def measure(torch, sequences, heads, tokens, dim, dtype, repetitions):
    # [batch, tokens, heads, dim] in memory, seen as [batch, heads, tokens, dim]: as a model has it.
    def rows():
        x = torch.randn(sequences, tokens, heads, dim).to(dtype)
        return x.transpose(1, 2).detach()

    w, beta = random_maps(torch, sequences, heads, tokens, dim)
    inputs = [x.requires_grad_() for x in (rows(), rows(), rows(), w, beta)]
    dout = rows()
    forward, backward, both = [], [], []
    for repetition in range(-1, repetitions):
        for x in inputs:
            x.grad = None
        start = time.perf_counter()
        out = attend(torch, *inputs)
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
                    "mechanism": "path",
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
