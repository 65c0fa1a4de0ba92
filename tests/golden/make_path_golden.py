#!/usr/bin/env python3
"""Golden numbers for PaTH attention, from its definition alone (no Cairn code; needs numpy).

    python3 tests/golden/make_path_golden.py    # rewrites attention/path.txt

Logits are made of explicit dim x dim products H_{j+1} ... H_i; gradients are derivatives along
complex steps of 1e-40 through the same products, so that no formula for a gradient is needed.
A file of lines "NAME COUNT VALUES..."; "case" begins a case, with its sizes.
"""
import pathlib

import numpy as np

STEP = 1e-40


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def attend(a, c):
    """out [tokens, heads, value_dim] for the arrays `a` and the sizes `c`."""
    heads, group = c["heads"], c["heads"] // c["kv_heads"]
    out = np.zeros((c["offsets"][-1], heads, c["value_dim"]), complex)
    for begin, end in zip(c["offsets"], c["offsets"][1:]):
        for i in range(begin, end):
            for h in range(heads):
                logits, path, gate = [], np.eye(c["dim"], dtype=complex), 0
                for j in range(i, begin - 1, -1):  # path = H_{j+1} ... H_i
                    logits.append(c["scale"] * (a["k"][j, h // group] @ path @ a["q"][i, h])
                                  + c["gate_scale"] * gate)
                    for m in range(c["products"] - 1, -1, -1):
                        row = j * c["products"] + m
                        w = a["w"][row, h // group]
                        path = path - a["beta"][row, h // group] * np.outer(w, w @ path)
                    gate = gate + a["log_gate"][j, h] if "log_gate" in a else 0
                weights = np.exp(np.array(logits) - max(x.real for x in logits))
                values = np.array([a["v"][j, h // group] for j in range(i, begin - 1, -1)])
                out[i, h] = weights @ values / weights.sum()
    return out


def room(a, c):
    """The same from the hidden state: low rank, convolution, silu, length 1, strength, gate."""
    tokens, maps = c["offsets"][-1], c["products"]
    y = a["x"] @ a["w_proj.0.weight"].T @ a["w_proj.1.weight"].T
    taps, z = a["w_conv1d.weight"][:, 0], np.zeros_like(y)
    kernel = taps.shape[1]
    for begin, end in zip(c["offsets"], c["offsets"][1:]):
        for t in range(begin, end):
            for back in range(min(kernel, t - begin + 1)):
                z[t] += taps[:, kernel - 1 - back] * y[t - back]
    z = (z * sigmoid(z)).reshape(tokens * maps, c["kv_heads"], c["dim"])
    b = dict(q=a["q"], k=a["k"], v=a["v"])
    b["w"] = z / np.sqrt((z * z).sum(-1, keepdims=True) + 1e-6)
    strength = a["x"] @ a["bt_proj.weight"].T + a["bt_proj.bias"]
    b["beta"] = (2 * sigmoid(strength)).reshape(tokens * maps, c["kv_heads"])
    b["log_gate"] = np.log(sigmoid(a["x"] @ a["g_proj.weight"].T + a["g_proj.bias"]))
    return attend(b, c)


def gradients(function, arrays, sizes, dout):
    result = {}
    for name, values in arrays.items():
        gradient = np.zeros(values.shape)
        for at in np.ndindex(values.shape):
            moved = {n: v.astype(complex) for n, v in arrays.items()}
            moved[name][at] += STEP * 1j
            gradient[at] = (function(moved, sizes).imag * dout).sum() / STEP
        result["d" + name] = gradient
    return result


def core_arrays(draw, c):
    tokens, rows = c["offsets"][-1], c["offsets"][-1] * c["products"]
    a = {"q": draw.normal(size=(tokens, c["heads"], c["dim"])),
         "k": draw.normal(size=(tokens, c["kv_heads"], c["dim"])),
         "v": draw.normal(size=(tokens, c["kv_heads"], c["value_dim"])),
         "w": draw.normal(size=(rows, c["kv_heads"], c["dim"])),
         "beta": draw.uniform(0, 2, size=(rows, c["kv_heads"]))}
    a["w"] /= np.sqrt((a["w"] ** 2).sum(-1, keepdims=True))
    if c["gate"]:
        a["log_gate"] = np.log(draw.uniform(0.5, 1, size=(tokens, c["heads"])))
    return a


def room_arrays(draw, c):
    a = {n: v for n, v in core_arrays(draw, c).items() if n in "qkv"}
    channels, rank = c["products"] * c["kv_heads"] * c["dim"], c["rank"]
    strengths = c["products"] * c["kv_heads"]
    a["x"] = draw.normal(size=(c["offsets"][-1], c["hidden"]))
    for name, shape in (("w_proj.0.weight", (rank, c["hidden"])),
                        ("w_proj.1.weight", (channels, rank)),
                        ("w_conv1d.weight", (channels, 1, 3)),
                        ("bt_proj.weight", (strengths, c["hidden"])), ("bt_proj.bias", (strengths,)),
                        ("g_proj.weight", (c["heads"], c["hidden"])), ("g_proj.bias", (c["heads"],))):
        a[name] = 0.5 * draw.normal(size=shape)
    return a


def write(file, name, values):
    flat = np.asarray(values, float).ravel()
    file.write(f"{name} {flat.size} " + " ".join(repr(float(x)) for x in flat) + "\n")


def main():
    draw = np.random.default_rng(7)
    cases = [
        dict(kind="core", heads=2, kv_heads=1, dim=3, value_dim=2, products=1, gate=False,
             gate_scale=1.0, scale=3 ** -0.5, offsets=[0, 6]),
        dict(kind="core", heads=4, kv_heads=2, dim=4, value_dim=3, products=1, gate=True,
             gate_scale=0.5, scale=0.5, offsets=[0, 1, 5, 8]),
        dict(kind="core", heads=1, kv_heads=1, dim=2, value_dim=2, products=3, gate=True,
             gate_scale=1.0, scale=0.8, offsets=[0, 5]),
        dict(kind="room", heads=2, kv_heads=1, dim=4, value_dim=3, products=1, gate=True,
             gate_scale=1.0, scale=0.5, offsets=[0, 5, 7], hidden=8, rank=3),
    ]
    folder = pathlib.Path(__file__).parent / "attention"
    with open(folder / "path.txt", "w") as file:
        for c in cases:
            function = room if c["kind"] == "room" else attend
            arrays = room_arrays(draw, c) if c["kind"] == "room" else core_arrays(draw, c)
            out = function({n: v.astype(complex) for n, v in arrays.items()}, c).real
            dout = draw.normal(size=out.shape)
            write(file, "case", [c["kind"] == "room"] + [c[n] for n in (
                "heads", "kv_heads", "dim", "value_dim", "products", "gate", "gate_scale", "scale")])
            write(file, "offsets", c["offsets"])
            for name, values in arrays.items():
                write(file, name, values)
            write(file, "dout", dout)
            write(file, "out", out)
            for name, values in gradients(function, arrays, c, dout).items():
                write(file, name, values)


main()
