#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention on the CPU, beside `cairn bench attention`.

    python bench/peers/pytorch/attention.py --threads 2 > torch.jsonl

Rotation is not part of SDPA, so ours does a little more work.
"""
import bench_attention


def attend(torch, q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


if __name__ == "__main__":
    bench_attention.run(__doc__.splitlines()[0], "softmax", attend,
                        tokens=(512, 2048, 8192, 32768))
