#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention on the CPU, beside `cairn bench attention`.

Prints one JSON line a shape with the keys of ours: causal, 8 heads, sequences of T tokens that
together make 4096 (one sequence when T is longer), forward and backward, medians.

    python bench/peers/pytorch/attention.py --threads 2 > torch.jsonl

Rotation is not part of SDPA, so ours does a little more work. GFLOP/s count what the causal mask
leaves: a forward pass is two products, a backward pass five.
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
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 8192, 32768])
    parser.add_argument("--head-dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    return parser.parse_args()


def make_inputs(torch, sequences, heads, tokens, dim, dtype):
    # [batch, tokens, heads, dim] in memory, seen as [batch, heads, tokens, dim]: as a model has it.
    def rows(grad):
        x = torch.randn(sequences, tokens, heads, dim, dtype=torch.float32).to(dtype)
        return x.transpose(1, 2).detach().requires_grad_(grad)

    return rows(True), rows(True), rows(True), rows(False)


def measure(torch, sequences, heads, tokens, dim, dtype, repetitions):
    q, k, v, dout = make_inputs(torch, sequences, heads, tokens, dim, dtype)
    attend = torch.nn.functional.scaled_dot_product_attention
    forward, backward, both = [], [], []
    for repetition in range(-1, repetitions):
        q.grad = k.grad = v.grad = None
        start = time.perf_counter()
        out = attend(q, k, v, is_causal=True)
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
    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    for name in args.dtypes:
        for tokens in args.tokens:
            for dim in args.head_dims:
                sequences = max(1, 4096 // tokens)
                forward, backward, both = measure(
                    torch, sequences, args.heads, tokens, dim, types[name], args.repetitions)
                pairs = sequences * args.heads * tokens * (tokens + 1) / 2
                gflop = 1e-9 * pairs * 4 * dim
                print(json.dumps({
                    "program": "torch " + torch.__version__,
                    "mechanism": "softmax",
                    "dtype": name,
                    "sequences": sequences,
                    "tokens": tokens,
                    "heads": args.heads,
                    "head_dim": dim,
                    "threads": args.threads,
                    "forward_seconds": forward,
                    "backward_seconds": backward,
                    "both_seconds": both,
                    "forward_gflops": gflop / forward,
                    "backward_gflops": 2.5 * gflop / backward,
                    "both_gflops": 3.5 * gflop / both,
                }), flush=True)


if __name__ == "__main__":
    main()
