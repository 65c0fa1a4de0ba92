#!/usr/bin/env python3
"""Golden numbers for stick-breaking attention, from its definition alone (no Cairn code).

    python3 tests/golden/make_stick_breaking_golden.py    # rewrites attention/stick_breaking.txt

Plain Python. Outputs are the products of the definition, in f64; gradients are derivatives along
complex steps of 1e-40 through the same products, so that no formula for a gradient is needed. Inputs
are multiples of 1/64, which f32 and bf16 hold exactly.
"""
import cmath
import pathlib

HERE = pathlib.Path(__file__).parent
STEP = 1e-40
EPSILON = 1e-5


class Draw:
    """Multiples of 1/64 in [-2, 2)."""

    def __init__(self, seed):
        self.state = seed

    def __call__(self, count):
        values = []
        for _ in range(count):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
            values.append(((self.state >> 40) % 256 - 128) / 64)
        return values


class Case:
    def __init__(self, seed, remainder, attend_current, head_norm, heads, kv_heads, lens,
                 head_dim=3, value_dim=2, scale=0.5):
        self.remainder, self.current, self.norm = remainder, attend_current, head_norm
        self.heads, self.kv_heads, self.d, self.dv = heads, kv_heads, head_dim, value_dim
        self.scale = scale
        self.offsets = [0]
        for n in lens:
            self.offsets.append(self.offsets[-1] + n)
        draw, tokens = Draw(seed), self.offsets[-1]
        self.inputs = {
            "q": draw(tokens * heads * head_dim),
            "k": draw(tokens * kv_heads * head_dim),
            "v": draw(tokens * kv_heads * value_dim),
            "remainder": draw(heads * value_dim) if remainder == "head_bias" else [],
            "norm_weight": draw(heads * value_dim) if head_norm else [],
            "norm_bias": draw(heads * value_dim) if head_norm else [],
            "logit_bias": draw(heads),
        }
        self.dout, self.drem = draw(tokens * heads * value_dim), draw(tokens * heads)

    def attend(self, x):
        """out [tokens, heads, value_dim] and remainder [tokens, heads] of the inputs x."""
        out, remainders = [], []
        for begin, end in zip(self.offsets, self.offsets[1:]):
            for i in range(begin, end):
                for h in range(self.heads):
                    y, stick = self.row(x, begin, i, h)
                    out += self.normed(x, h, y) if self.norm else y
                    remainders.append(stick)
        return out, remainders

    def row(self, x, begin, i, h):
        kv, d, dv = h // (self.heads // self.kv_heads), self.d, self.dv
        key = lambda j: (j * self.kv_heads + kv) * d
        value = lambda j: (j * self.kv_heads + kv) * dv
        y, stick = [0.0] * dv, 1.0
        for j in range(i if self.current else i - 1, begin - 1, -1):
            query = (i * self.heads + h) * d
            z = x["logit_bias"][h]
            for c in range(d):
                z += self.scale * x["q"][query + c] * x["k"][key(j) + c]
            beta = 1 / (1 + cmath.exp(-z))
            for c in range(dv):
                y[c] += beta * stick * x["v"][value(j) + c]
            stick *= 1 - beta
        for c in range(dv):
            if self.remainder == "value":
                y[c] += stick * x["v"][value(i) + c]
            elif self.remainder == "head_bias":
                y[c] += stick * x["remainder"][h * dv + c]
        return y, stick

    def normed(self, x, h, y):
        mean = sum(y) / self.dv
        variance = sum((c - mean) ** 2 for c in y) / self.dv
        root = cmath.sqrt(variance + EPSILON)
        at = h * self.dv
        return [(y[c] - mean) / root * x["norm_weight"][at + c] + x["norm_bias"][at + c]
                for c in range(self.dv)]

    def gradient(self, name):
        result = []
        for i in range(len(self.inputs[name])):
            moved = dict(self.inputs)
            moved[name] = list(moved[name])
            moved[name][i] += 1j * STEP
            out, rem = self.attend(moved)
            loss = sum(o * w for o, w in zip(out, self.dout))
            loss += sum(r * w for r, w in zip(rem, self.drem))
            result.append(complex(loss).imag / STEP)
        return result

    def write(self, file):
        print("case", self.remainder, int(self.current), int(self.norm), self.heads, self.kv_heads,
              self.d, self.dv, self.scale, len(self.offsets), *self.offsets, file=file)
        out, rem = self.attend(self.inputs)
        arrays = dict(self.inputs, dout=self.dout, drem=self.drem,
                      out=[complex(o).real for o in out], rem=[complex(r).real for r in rem])
        arrays.update({"d" + name: self.gradient(name) for name in self.inputs})
        for name, values in arrays.items():
            print(name, len(values), *(repr(float(v)) for v in values), file=file)


def main():
    cases = [Case(seed, remainder, current, False, *shape)
             for seed, (remainder, current, shape) in enumerate([
                 ("none", False, (3, 1, [4, 1, 0, 5])),
                 ("none", True, (2, 2, [6, 3])),
                 ("value", False, (4, 2, [5, 2])),
                 ("value", True, (3, 1, [1, 7])),
                 ("head_bias", False, (4, 2, [7, 1, 2])),
                 ("head_bias", True, (2, 1, [0, 8])),
             ])]
    cases += [Case(11, "head_bias", False, True, 4, 2, [4, 3], 2, 5),
              Case(12, "value", True, True, 2, 1, [6], 5, 4)]
    with open(HERE / "attention" / "stick_breaking.txt", "w") as file:
        for case in cases:
            case.write(file)


main()
