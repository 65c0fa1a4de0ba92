#!/usr/bin/env python3
"""Golden numbers for schedules, clipping and AdamW, from the formulas alone (no Cairn code).

    python3 tests/golden/train/make_golden.py      # rewrites schedule.csv and adamw.csv beside it

Plain Python, f64. The gradients of adamw.csv are sin(1.7 i + 0.3 t) * amplitude(t), so that a
reader can recompute them.
"""
import math
import pathlib

HERE = pathlib.Path(__file__).parent


def decay(shape, x, end):
    if shape == "linear":
        return end * x + (1 - x)
    if shape == "sqrt":
        return 1 - (1 - end) * x**0.5
    # Exponential through (0, 1) and (1, end): solve A + B = 1 and A / e + B = end.
    a = (1 - end) / (1 - math.exp(-1))
    return a * math.exp(-x) + (1 - a)


def rate(kind, peak, total, warmup, tail, end, shape, done):
    if done < warmup:
        return peak * (done / warmup)
    if kind == "constant":
        return peak
    if kind == "cosine":
        low = end * peak
        x = min(1.0, (done - warmup) / (total - warmup))
        return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * x))
    if done <= total - tail:
        return peak
    return peak * decay(shape, min(1.0, (done - total + tail) / tail), end)


def schedules():
    rows = ["kind,peak,total,warmup,decay,end_ratio,shape,done,lr"]
    tokens = 32768
    cases = [("constant", 1e-3, 1024, 32, 0, 0, "linear"),
             ("cosine", 3e-3, 1024, 32, 0, 0.1, "linear"),
             ("cosine", 6e-4, 100, 0, 0, 0.0, "linear"),
             ("wsd", 2e-2, 1024, 32, 102, 0.0, "exponential"),
             ("wsd", 2e-2, 1024, 32, 102, 0.1, "exponential"),
             ("wsd", 2e-2, 1024, 32, 102, 0.0, "linear"),
             ("wsd", 2e-2, 1024, 32, 102, 0.05, "sqrt")]
    for kind, peak, total, warmup, tail, end, shape in cases:
        steps = sorted({s for s in (0, 1, 7, 31, 32, 33, 50, 58, 99, 100, 512, 921, 922, 923, 973,
                                    1000, 1023, 1024, 2000) if s <= 2 * total})
        for s in steps:
            lr = rate(kind, peak, total * tokens, warmup * tokens, tail * tokens, end, shape,
                      s * tokens)
            rows.append(f"{kind},{peak!r},{total * tokens},{warmup * tokens},{tail * tokens},"
                        f"{end!r},{shape},{s * tokens},{lr!r}")
    # The decay values that Shen et al.'s formula gives at these points, by hand (six digits).
    for x, f in ((0.1, .849455), (0.25, .650068), (0.5, .377541), (0.75, .165296), (0.9, .061207)):
        assert abs(decay("exponential", x, 0) - f) < 5e-7
    (HERE / "schedule.csv").write_text("\n".join(rows) + "\n")


def adamw():
    # Six weights: the first four decayed, the last two not.
    beta1, beta2, eps, weight_decay, clip, targets = 0.9, 0.95, 1e-8, 0.1, 1.0, 640
    w = [0.5, -1.25, 2.0, 0.03125, 1.0, -0.75]
    m, v = [0.0] * 6, [0.0] * 6
    rows = ["step,lr,amplitude,norm,w0,w1,w2,w3,w4,w5"]
    for t in range(1, 101):
        lr = rate("cosine", 1e-2, 100, 10, 0, 0.1, "linear", t)
        amplitude = 640.0 * (0.2 if t % 3 else 4.0)  # every third step is clipped
        g = [math.sin(1.7 * i + 0.3 * t) * amplitude / targets for i in range(6)]
        norm = math.sqrt(sum(x * x for x in g))
        if norm > clip:
            g = [x * clip / (norm + 1e-6) for x in g]
        for i in range(6):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            mean = m[i] / (1 - beta1**t)
            variance = v[i] / (1 - beta2**t)
            if i < 4:
                w[i] *= 1 - lr * weight_decay
            w[i] -= lr * mean / (math.sqrt(variance) + eps)
        rows.append(",".join(repr(x) for x in [t, lr, amplitude, norm, *w]))
    (HERE / "adamw.csv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    schedules()
    adamw()
