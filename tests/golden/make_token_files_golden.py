#!/usr/bin/env python3
"""Small token files in the formats of other trainers, and what a reader of each makes of them.

    python make_token_files_golden.py tests/golden/token_files     (needs numpy)

nanogpt.bin, llmc-v1.bin, llmc-v7.bin and megatron-TYPE.bin with .idx; expected.json holds the tokens and
document starts that the readers below find in the files after they have been written.
"""

import json
import pathlib
import struct
import sys

import numpy as np

DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}


def write_llmc(path, tokens, magic, version, dtype):
    header = np.zeros(256, dtype="<i4")
    header[:3] = [magic, version, len(tokens)]
    path.write_bytes(header.tobytes() + np.asarray(tokens).astype(dtype).tobytes())


def write_megatron(stem, documents, code):
    """`documents`: lists of sequences. The payload has a gap before the last sequence."""
    dtype = np.dtype(DTYPES[code]).newbyteorder("<")
    lengths, pointers, boundaries, payload = [], [], [0], b""
    for document in documents:
        for sequence in document:
            if len(pointers) == 3:
                payload += b"\xee" * dtype.itemsize * 2
            lengths.append(len(sequence))
            pointers.append(len(payload))
            payload += np.asarray(sequence).astype(dtype).tobytes()
        boundaries.append(len(lengths))
    stem.with_suffix(".bin").write_bytes(payload)
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(lengths), len(boundaries))
    index += np.asarray(lengths, "<i4").tobytes() + np.asarray(pointers, "<i8").tobytes()
    index += np.asarray(boundaries, "<i8").tobytes()
    stem.with_suffix(".idx").write_bytes(index)


def read_llmc(path):
    header = np.fromfile(path, dtype="<i4", count=256)
    dtype = {20240520: "<u2", 20240801: "<u4"}[int(header[0])]
    tokens = np.fromfile(path, dtype=dtype, offset=1024)
    assert len(tokens) == header[2]
    return tokens.tolist(), []


def read_megatron(stem):
    index = stem.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, boundaries = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    lengths = np.frombuffer(index, "<i4", sequences, 34)
    pointers = np.frombuffer(index, "<i8", sequences, 34 + 4 * sequences)
    cuts = np.frombuffer(index, "<i8", boundaries, 34 + 12 * sequences)
    payload = stem.with_suffix(".bin").read_bytes()
    rows = [np.frombuffer(payload, np.dtype(DTYPES[code]).newbyteorder("<"), n, at).tolist()
            for n, at in zip(lengths, pointers)]
    starts = [sum(len(row) for row in rows[:cut]) for cut in cuts[:-1]]
    return [token for row in rows for token in row], starts


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    short = random.integers(0, 50257, 300)
    short[[40, 41, 200]] = 50256
    short.astype("<u2").tofile(folder / "nanogpt.bin")
    write_llmc(folder / "llmc-v1.bin", short[:111], 20240520, 1, "<u2")
    write_llmc(folder / "llmc-v7.bin", random.integers(0, 128256, 97), 20240801, 7, "<u4")
    expected = {"nanogpt.bin": [np.fromfile(folder / "nanogpt.bin", "<u2").tolist(), []]}
    for name in ("llmc-v1.bin", "llmc-v7.bin"):
        expected[name] = read_llmc(folder / name)
    for code in DTYPES:
        documents = [[random.integers(0, 120, n).tolist() for n in lengths]
                     for lengths in ([5, 3], [7], [0, 2, 4], [1])]
        stem = folder / f"megatron-{code}"
        write_megatron(stem, documents, code)
        expected[stem.with_suffix(".bin").name] = read_megatron(stem)
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
