#!/usr/bin/env python3
"""The PyTorch twin of `cairn bench train`: one training step of the same Llama shape.

RMSNorm, RoPE, grouped queries through scaled_dot_product_attention, SwiGLU, AdamW (fused, decay on
matrices only), gradients clipped to norm 1. Written as one would for speed in PyTorch: fused
projections, fused kernels where it has them, no Python in loops over tokens. bf16 means autocast.

Prints one JSON line: {impl, shape, precision, threads, tokens_per_second, step_ms,
peak_memory_bytes}; step_ms is the median of the timed steps.

  python bench/peers/pytorch/train.py --shape d256-l8 --precision bf16 --threads 2 --compile
"""

import argparse
import json
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

# hidden, layers, heads, kv_heads, intermediate, vocabulary, sequences x length of a step
SHAPES = {
    "d256-l8": dict(d=256, layers=8, heads=4, kv_heads=4, f=640, vocab=4096, batch=8, length=512),
    "d512-l8": dict(d=512, layers=8, heads=8, kv_heads=8, f=1280, vocab=4096, batch=8, length=512),
    "smollm2-135m": dict(
        d=576, layers=30, heads=9, kv_heads=3, f=1536, vocab=49152, batch=2, length=512
    ),
}


class Attention(nn.Module):
    def __init__(self, d: int, heads: int, kv_heads: int):
        super().__init__()
        self.heads, self.kv_heads, self.dim = heads, kv_heads, d // heads
        self.qkv = nn.Linear(d, (heads + 2 * kv_heads) * self.dim, bias=False)
        self.out = nn.Linear(heads * self.dim, d, bias=False)

    def forward(self, x, cos, sin):  # x [batch, length, d]
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, -1, self.dim).split(
            [self.heads, self.kv_heads, self.kv_heads], dim=2
        )
        q = rotate(q, cos, sin).transpose(1, 2)
        k = rotate(k, cos, sin).transpose(1, 2)
        y = F.scaled_dot_product_attention(
            q, k, v.transpose(1, 2), is_causal=True, enable_gqa=self.heads != self.kv_heads
        )
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))


def rotate(x, cos, sin):  # x [batch, length, heads, dim]; halves are paired as in Llama
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, d: int, heads: int, kv_heads: int, f: int):
        super().__init__()
        self.attention_norm = nn.RMSNorm(d, eps=1e-5)
        self.attention = Attention(d, heads, kv_heads)
        self.mlp_norm = nn.RMSNorm(d, eps=1e-5)
        self.gate_up = nn.Linear(d, 2 * f, bias=False)
        self.down = nn.Linear(f, d, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    """Returns the mean loss of targets [batch, length]. The embedding is the head."""

    def __init__(self, s: dict):
        super().__init__()
        self.embedding = nn.Embedding(s["vocab"], s["d"])
        self.blocks = nn.ModuleList(
            Block(s["d"], s["heads"], s["kv_heads"], s["f"]) for _ in range(s["layers"])
        )
        self.norm = nn.RMSNorm(s["d"], eps=1e-5)
        dim = s["d"] // s["heads"]
        angles = torch.outer(
            torch.arange(s["length"], dtype=torch.float64),
            10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim),
        )
        self.register_buffer("cos", angles.cos().float()[:, None, :])
        self.register_buffer("sin", angles.sin().float()[:, None, :])
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * s["layers"]) if residual else 0.02
                nn.init.normal_(parameter, std=std)

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)


def peak_memory_bytes() -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="d256-l8")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=0, help="0: as PyTorch chooses")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before (compilation included)")
    parser.add_argument("--layers", type=int, default=0, help="another depth, for trying out")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    shape = dict(SHAPES[arguments.shape])
    if arguments.layers:
        shape["layers"] = arguments.layers

    model = Llama(shape)
    optimizer = make_optimizer(model)
    run = torch.compile(model) if arguments.compile else model
    tokens = torch.randint(0, shape["vocab"], (shape["batch"], shape["length"] + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = run(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    first = step()
    for _ in range(arguments.warmup - 1):
        step()
    times, loss = [], first
    for _ in range(arguments.steps):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    if not (math.isfinite(loss) and loss < first):
        raise SystemExit(f"the loss went from {first} to {loss}: this is no training step")
    median = statistics.median(times)
    print(
        json.dumps(
            {
                "impl": f"pytorch-{torch.__version__.split('+')[0]}-"
                + ("compile" if arguments.compile else "eager"),
                "shape": arguments.shape,
                "precision": arguments.precision,
                "threads": torch.get_num_threads(),
                "tokens_per_second": shape["batch"] * shape["length"] / median,
                "step_ms": 1e3 * median,
                "peak_memory_bytes": peak_memory_bytes(),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
