#!/usr/bin/env python3
"""PaTH attention as one writes it in PyTorch, beside `cairn bench attention --mechanism path`: the
paper's masked form over whole matrices of logits, with one triangular solve a head, under autograd.
The published kernels need a GPU; this is what runs on a CPU. Directions and strengths are given:
the projections and the convolution that make them are part of ours and not of this.

    S = tril(Q K^T) - tril(Q W^T) (I + stril(D W W^T))^-1 D stril(W K^T),  D = diag(beta)

Logits are checked against the products of reflections before anything is timed.

    python bench/peers/pytorch/path.py --threads 2 --tokens 2048
"""
import bench_attention


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


def further_inputs(torch, sequences, heads, tokens, dim):
    return list(random_maps(torch, sequences, heads, tokens, dim))


if __name__ == "__main__":
    bench_attention.run(__doc__.splitlines()[0], "path", attend, further_inputs, check)
