"""Makes tests/golden/safetensors/theirs.safetensors with the PyPI package `safetensors`.

ours.safetensors beside it is what cairn/io writes for the same tensors; tests/io holds the writer
to its bytes, tests/python holds the package to its content.
"""
import pathlib

import numpy
import safetensors

DTYPES = [("bool", 5), ("u8", 4), ("i64", 3), ("f16", 6), ("bf16", 7), ("f32", 8), ("f64", 2)]
NAMES = {
    "bool": "bool", "u8": "uint8", "i64": "int64", "f16": "float16", "bf16": "bfloat16",
    "f32": "float32", "f64": "float64",
}
SIZES = {"bool": 1, "u8": 1, "i64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8}


def tensors():
    """Name to (dtype, shape, bytes): byte i of the tensor number t is (37 t + i) mod 256."""
    result = {}
    for number, (dtype, count) in enumerate(DTYPES):
        size = count * SIZES[dtype]
        # A bool may only be 0 or 1.
        data = bytes((37 * number + i) % (2 if dtype == "bool" else 256) for i in range(size))
        shape = [2, count // 2] if count % 2 == 0 else [count]
        result[f"été.{dtype}"] = (dtype, shape, data)
    result["scalar"] = ("f32", [], numpy.float32(2.5).tobytes())
    result["empty"] = ("f32", [0, 3], b"")
    return result


if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent / "safetensors"
    folder.mkdir(exist_ok=True)
    buffers = {n: numpy.frombuffer(data, numpy.uint8) for n, (_, _, data) in tensors().items()}
    entries = {
        name: safetensors.TensorSpec(
            dtype=NAMES[dtype],
            shape=shape,
            data_ptr=buffers[name].ctypes.data,
            data_len=buffers[name].nbytes,
        )
        for name, (dtype, shape, _) in tensors().items()
    }
    content = safetensors.serialize(entries, {"format": "pt", "note": "été"})
    (folder / "theirs.safetensors").write_bytes(bytes(content))
