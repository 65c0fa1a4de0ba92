"""Makes tests/golden/blocks/decode.bin with the PyPI package `gguf` (its NumPy decoders).

For each block type: u32 type id, u32 number of elements, the blocks (random bytes with sane scales
and a few edge cases) and what the package makes of them, in f32. tests/kernels holds the decoders
to its bits. Usage: make_blocks_golden.py [blocks a type [file]]
"""
import pathlib
import sys

import gguf
import numpy
from gguf import GGMLQuantizationType as Type

# Type to the byte offsets of its halves: random bytes there would mostly be huge or NaN.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2],
    Type.Q6_K: [208], Type.IQ4_NL: [0], Type.MXFP4: [], Type.F16: [], Type.BF16: [],
}


def halves(random, count):
    """Scales as they are in files, and the first few at the edges."""
    values = random.normal(0, 0.05, count).astype(numpy.float16)
    edges = [0.0, -0.0, 6e-8, -5e-7, 6.1e-5, 65504.0, -1.0, 1.0]  # subnormals, the largest
    values[: min(count, len(edges))] = edges[:count]
    return values


def blocks_of(kind, random, count):
    _, size = gguf.GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (count, size), dtype=numpy.uint8)
    for offset in HALVES[kind]:
        data[:, offset : offset + 2] = halves(random, count).view(numpy.uint8).reshape(count, 2)
    if kind == Type.MXFP4:
        data[:, 0] = random.integers(100, 150, count)
    if kind in (Type.F16, Type.BF16):
        exponent = 0x7C00 if kind == Type.F16 else 0x7F80  # no infinities and NaN: bits differ
        words = data.view(numpy.uint16)
        words[(words & exponent) == exponent] = 0
    return data


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 12  # committed: 12
    default = pathlib.Path(__file__).parent / "blocks" / "decode.bin"
    random = numpy.random.default_rng(20251125)
    with open(sys.argv[2] if len(sys.argv) > 2 else default, "wb") as file:
        for kind in HALVES:
            blocks = blocks_of(kind, random, count)
            with numpy.errstate(all="ignore"):
                values = gguf.quants.dequantize(blocks, kind).astype(numpy.float32)
            file.write(numpy.uint32([kind, values.size]).tobytes())
            file.write(blocks.tobytes() + values.tobytes())
