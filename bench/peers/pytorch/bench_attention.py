"""What the attention peers share: arguments, inputs as a model has them, timing, JSON lines.

Each line has the keys of `cairn bench attention`: causal, sequences of T tokens that together make
4096 (one sequence when T is longer), forward and backward under autograd, medians.
"""
import argparse
import json
import statistics
import time


def arguments(description, tokens):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--tokens", type=int, nargs="+", default=tokens)
    parser.add_argument("--head-dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    return parser.parse_args()


def rows(torch, sequences, heads, tokens, dim, dtype):
    """[batch, tokens, heads, dim] in memory, seen as [batch, heads, tokens, dim]."""
    x = torch.randn(sequences, tokens, heads, dim, dtype=torch.float32).to(dtype)
    return x.transpose(1, 2).detach()


def timings(attend, inputs, dout, repetitions):
    """Medians in seconds of attend(*inputs), of its backward, and of both; one run warms up."""
    forward, backward, both = [], [], []
    for repetition in range(-1, repetitions):
        for x in inputs:
            x.grad = None
        start = time.perf_counter()
        out = attend(*inputs)
        middle = time.perf_counter()
        out.backward(dout)
        end = time.perf_counter()
        if repetition < 0:
            continue
        forward.append(middle - start)
        backward.append(end - middle)
        both.append(end - start)
    return [statistics.median(times) for times in (forward, backward, both)]


def run(description, mechanism, attend, extra_inputs=None, check=None, tokens=(512, 2048)):
    """Times attend(torch, q, k, v, *extra) on every shape asked for; extra_inputs(torch, sequences,
    heads, tokens, dim) are its further tensors, check(torch) ends the program when it is wrong."""
    args = arguments(description, list(tokens))
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    if check is not None:
        check(torch)
    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    for name in args.dtypes:
        for length in args.tokens:
            for dim in args.head_dims:
                sequences = max(1, 4096 // length)
                shape = (sequences, args.heads, length, dim)
                inputs = [rows(torch, *shape, types[name]) for _ in range(3)]
                inputs += extra_inputs(torch, *shape) if extra_inputs else []
                forward, backward, both = timings(
                    lambda *tensors: attend(torch, *tensors), [x.requires_grad_() for x in inputs],
                    rows(torch, *shape, types[name]), args.repetitions)
                print(json.dumps({
                    "program": "torch " + torch.__version__,
                    "mechanism": mechanism,
                    "dtype": name,
                    "sequences": sequences,
                    "tokens": length,
                    "heads": args.heads,
                    "head_dim": dim,
                    "threads": args.threads,
                    "forward_seconds": forward,
                    "backward_seconds": backward,
                    "both_seconds": both,
                }), flush=True)
