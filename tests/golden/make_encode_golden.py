"""Makes tests/golden/blocks/encode.bin with the ggml library (github.com/ggml-org/ggml):

    make_encode_golden.py libggml-base.so [rows of each distribution [file]]

(a shared library of ggml.c and ggml-quants.c, compiled without -ffast-math and without FMA).
The file: u32 rows, u32 columns; the rows and an importance of each column, in f32; then for each
type u32 id, the rows encoded plainly and encoded by importance.
"""
import ctypes
import os
import pathlib
import sys

import numpy

COLUMNS = 512
TYPES = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11, "q4_k": 12,
         "q5_k": 13, "q6_k": 14}


def make_rows(random, each):
    rows = [random.normal(0, 1, (each, COLUMNS)), random.laplace(0, 0.02, (each, COLUMNS)),
            random.normal(0.3, 0.1, (each, COLUMNS)),  # an offset
            random.normal(0, 1e-4, (each, COLUMNS)),  # subnormal halves as scales
            numpy.full((1, COLUMNS), 0.125), numpy.full((1, COLUMNS), -3.0),
            numpy.zeros((1, COLUMNS)),
            numpy.sign(random.normal(0, 1, (1, COLUMNS)))]  # ties of the largest magnitude
    mixed = random.normal(0, 1, (each, COLUMNS))
    mixed[:, 64:128] = 0  # sub-blocks of zeros among others
    mixed[:, 200] = 30  # an outlier
    return numpy.concatenate([*rows, mixed]).astype(numpy.float32)


if __name__ == "__main__":
    library = ctypes.CDLL(sys.argv[1], mode=os.RTLD_LAZY)
    each = int(sys.argv[2]) if len(sys.argv) > 2 else 2  # committed: 2
    default = pathlib.Path(__file__).parent / "blocks" / "encode.bin"
    random = numpy.random.default_rng(20251125)
    x = make_rows(random, each)
    importance = random.gamma(0.5, 1, COLUMNS).astype(numpy.float32) + numpy.float32(1e-3)
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                         ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    with open(sys.argv[3] if len(sys.argv) > 3 else default, "wb") as file:
        file.write(numpy.uint32(x.shape).tobytes() + x.tobytes() + importance.tobytes())
        for kind in TYPES.values():
            file.write(numpy.uint32(kind).tobytes())
            for weights in (None, importance.ctypes.data):
                blocks = numpy.zeros(x.nbytes, numpy.uint8)
                size = quantize(kind, x.ctypes.data, blocks.ctypes.data, 0, *x.shape, weights)
                file.write(blocks[:size].tobytes())
