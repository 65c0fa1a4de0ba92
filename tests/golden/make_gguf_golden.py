"""Makes tests/golden/gguf/theirs.gguf with the PyPI package `gguf`: every kind of value, an array of
each, and a few tensors. tests/io reads it, and holds our writer to its bytes."""
import pathlib

import gguf
import numpy
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Kind

SCALARS = [
    (Kind.UINT8, 200), (Kind.INT8, -100), (Kind.UINT16, 60000), (Kind.INT16, -30000),
    (Kind.UINT32, 4000000000), (Kind.INT32, -2000000000), (Kind.FLOAT32, 0.1), (Kind.BOOL, True),
    (Kind.STRING, "été\n"), (Kind.UINT64, 2**63 + 5), (Kind.INT64, -(2**60)), (Kind.FLOAT64, 0.1),
]

if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent / "gguf"
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / "theirs.gguf", "llama")
    for kind, value in SCALARS:
        writer.add_key_value(f"test.{kind.name.lower()}", value, kind)
    for kind, value in SCALARS:
        writer.add_key_value(f"test.array.{kind.name.lower()}", [value, value], Kind.ARRAY, kind)
    ramp = numpy.arange(24, dtype=numpy.float32)
    writer.add_tensor("a.weight", ramp.reshape(2, 3, 4))
    writer.add_tensor("b.weight", ramp[:5].astype(numpy.float16))
    writer.add_tensor("c.weight", numpy.arange(72, dtype=numpy.uint8).reshape(2, 36),
                      raw_dtype=Type.Q4_0)
    writer.add_tensor("d.weight", ramp[:1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
