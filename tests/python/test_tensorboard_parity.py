"""Event files of a run, read by the protobuf library: every scalar, and one curve after a resume."""

import json
import pathlib
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "release" / "cairn"

protobuf = pytest.importorskip("google.protobuf")


def event_class():
    """tensorflow.Event as far as scalars need it, from its field numbers."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        kind = file.message_type.add(name=name)
        for number, label, type_, field_name, of in fields:
            kind.field.add(number=number, label=label, type=type_, name=field_name,
                           type_name=f".t.{of}" if of else None)

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("Value", (1, one, field.TYPE_STRING, "tag", None),
            (2, one, field.TYPE_FLOAT, "simple_value", None))
    message("Summary", (1, many, field.TYPE_MESSAGE, "value", "Value"))
    message("SessionLog", (1, one, field.TYPE_INT32, "status", None))
    message("Event", (1, one, field.TYPE_DOUBLE, "wall_time", None),
            (2, one, field.TYPE_INT64, "step", None),
            (3, one, field.TYPE_STRING, "file_version", None),
            (5, one, field.TYPE_MESSAGE, "summary", "Summary"),
            (7, one, field.TYPE_MESSAGE, "session_log", "SessionLog"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("t.Event")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # before 4.22


def masked_crc(data: bytes) -> int:
    """CRC-32C bit by bit, then TensorBoard's mask."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path: pathlib.Path):
    data, at, kind = path.read_bytes(), 0, event_class()
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked_crc(data[at:at + 8])
        payload = data[at + 12:at + 12 + length]
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked_crc(payload)
        yield kind.FromString(payload)
        at += 16 + length


def train(folder: pathlib.Path, *arguments: str):
    return subprocess.run(
        [PROGRAM, "train", folder / "run.toml", "--quiet", *arguments], cwd=folder,
        check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if not PROGRAM.exists():
        pytest.skip("the program is not built")
    folder = tmp_path_factory.mktemp("events")
    text = folder / "text"
    text.mkdir()
    for i in range(40):
        (text / f"{i}.txt").write_text("".join(f"{i} plus {j} is {i + j}.\n" for j in range(60)))
    for command in (["tokenizer", "train", "--from", "text", "--vocab-size", "300", "--out", "tok"],
                    ["data", "pack", "--from", "text", "--tokenizer", "tok", "--out", "data"]):
        subprocess.run([PROGRAM, *command, "--quiet"], cwd=folder, check=True, capture_output=True)
    (folder / "run.toml").write_text(
        '[model]\nhidden_size = 16\nlayers = 1\nheads = 2\n[data]\nfolder = "data"\n'
        "[batch]\nmicro_batch = 2\nseq_len = 32\n[run]\nsteps = 6\nfolder = \"run\"\n"
        "[eval]\nevery = 3\nwindows = 4\n[checkpoint]\nevery = 3\n")
    train(folder)
    return folder


def scalars(folder: pathlib.Path):
    """What TensorBoard shows: an event of a later session drops earlier ones from its step on."""
    shown = {}
    for path in sorted((folder / "run" / "tensorboard").iterdir(), key=lambda p: p.name):
        for number, event in enumerate(events(path)):
            if number == 0:
                assert event.file_version == "brain.Event:2"
            if event.session_log.status == 1:
                for points in shown.values():
                    for step in [s for s in points if s >= event.step]:
                        del points[step]
            for value in event.summary.value:
                points = shown.setdefault(value.tag, {})
                assert event.step not in points and event.step > max(points, default=-1)
                points[event.step] = value.simple_value
    return shown


def noted(folder: pathlib.Path, field: str):
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[field] for line in lines if field in line}


def check_all(folder: pathlib.Path):
    shown = scalars(folder)
    for tag, field in (("train/loss", "loss"), ("train/learning_rate", "lr"),
                       ("train/gradient_norm", "grad_norm"), ("held_out/loss", "val_loss"),
                       ("held_out/bits_per_byte", "bits_per_byte")):
        expected = noted(folder, field)
        assert shown[tag] == {s: pytest.approx(v, rel=1e-6) for s, v in expected.items()}, tag


def test_every_scalar_reads_back(run):
    check_all(run)
    assert sorted(scalars(run)["train/loss"]) == [1, 2, 3, 4, 5, 6]


def test_a_resumed_run_is_one_rising_curve(run):
    """The last checkpoint is lost: steps 4 to 6 are made again, and two more."""
    checkpoints = run / "run" / "checkpoints"
    for path in sorted((checkpoints / "step-00000006").iterdir()):
        path.unlink()
    train(run, "--run.steps=8")
    assert len(list((run / "run" / "tensorboard").iterdir())) == 2
    check_all(run)
    assert sorted(scalars(run)["train/loss"]) == list(range(1, 9))
