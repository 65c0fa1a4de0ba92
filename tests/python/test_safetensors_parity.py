"""Safetensors held to the independent reader and writer of the PyPI package `safetensors`."""
import json
import os
import pathlib
import random
import struct
import subprocess
import sys

import pytest

safetensors = pytest.importorskip("safetensors")

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
PROGRAM = pathlib.Path(os.environ.get("CAIRN", ROOT / "build" / "release" / "cairn"))

sys.path.insert(0, str(GOLDEN))
import make_safetensors_golden as golden  # noqa: E402

needs_program = pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not built")
WORDS = {"BOOL": 1, "U8": 1, "I64": 8, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}


def package_tensors(content):
    """What the package reads: name to (dtype, shape, bytes)."""
    return {
        name: (entry["dtype"].lower(), list(entry["shape"]), bytes(entry["data"]))
        for name, entry in safetensors.deserialize(content)
    }


def inspect(path):
    """Exit code, parsed output and message of `cairn inspect PATH --json`."""
    done = subprocess.run(
        [PROGRAM, "inspect", path, "--json"], capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stdout and json.loads(done.stdout), done.stderr.decode()


def with_header(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_the_package_reads_the_file_that_cairn_writes():
    content = (GOLDEN / "safetensors" / "ours.safetensors").read_bytes()
    assert package_tensors(content) == golden.tensors()


def test_the_file_that_cairn_writes_can_be_mapped_for_wide_loads():
    content = (GOLDEN / "safetensors" / "ours.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    assert (8 + length) % 64 == 0
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__")["format"] == "pt"
    for entry in header.values():
        assert entry["data_offsets"][0] % WORDS[entry["dtype"]] == 0


@needs_program
def test_cairn_reads_what_the_package_writes(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes((GOLDEN / "safetensors" / "theirs.safetensors").read_bytes())
    code, found, message = inspect(path)
    assert code == 0, message
    assert {t["name"]: (t["dtype"].lower(), t["shape"], t["bytes"]) for t in found["tensors"]} == {
        name: (dtype, shape, len(data)) for name, (dtype, shape, data) in golden.tensors().items()
    }


def one(dtype="U8", shape=(4,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


BROKEN = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "huge header": b"\xff" * 8,
    "header beyond the file": struct.pack("<Q", 9) + b"{}",
    "no object": with_header(b"[]", b""),
    "cut JSON": with_header(b'{"a":', b""),
    "bad UTF-8": with_header(b'{"\xff":{}}', b""),
    "unknown type": with_header({"a": one("F31")}, b"1234"),
    "negative size": with_header({"a": one(shape=[-4])}, b"1234"),
    "size and shape disagree": with_header({"a": one(shape=[3])}, b"1234"),
    "overflow": with_header({"a": one(shape=[2**63, 2, 2])}, b"1234"),
    "end before begin": with_header({"a": one(offsets=[4, 0])}, b"1234"),
    "beyond the data": with_header({"a": one(shape=[8], offsets=[0, 8])}, b"1234"),
    "hole": with_header({"a": one(), "b": one(offsets=[5, 9])}, b"123456789"),
    "overlap": with_header({"a": one(), "b": one(offsets=[2, 6])}, b"123456"),
    "data left over": with_header({"a": one()}, b"12345"),
    "metadata of numbers": with_header({"__metadata__": {"a": 1}}, b""),
}


@needs_program
@pytest.mark.parametrize("rule", BROKEN)
def test_both_readers_refuse(rule, tmp_path):
    with pytest.raises(Exception):
        package_tensors(BROKEN[rule])
    path = tmp_path / "m.safetensors"
    path.write_bytes(BROKEN[rule])
    code, _, message = inspect(path)
    assert code == 3
    assert "m.safetensors" in message


@needs_program
def test_whatever_cairn_accepts_the_package_accepts(tmp_path):
    whole = (GOLDEN / "safetensors" / "ours.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    draw = random.Random(1)
    accepted = 0
    for number in range(150):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 2)):
            content[draw.randrange(8 + length)] = draw.choice(b'0123456789,:"[]{} aF\xff\0')
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(content)
        code, _, message = inspect(path)
        assert code in (0, 3), message
        if code == 0:
            accepted += 1
            package_tensors(bytes(content))
    assert accepted > 0
