#!/usr/bin/env python3
"""Tokenizers of Cairn and of Hugging Face `tokenizers` on the same files and text, one thread each,
in turns: loading, encoding, decoding.

  smollm2  the vocabulary of SmolLM2 (49,152 tokens)
  150k     a byte-level BPE of 150,000 tokens, trained by Cairn on this machine's own files

The text is a third each of C headers, Python, and words of many scripts with emoji between them.

    ./dev peers tokenizer [--mb 12] [--rounds 3]

Prints one JSON line a vocabulary: {encode_mbs, peer_encode_mbs, encode_ratio, load_seconds, ...};
"ok" when all ids agree, encoding is at least twice as fast and at least 10 MB/s, and 150,000 tokens
load within 100 ms.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers  # noqa: E402  reads the variable

from common.package import CAIRN, import_cairn  # noqa: E402
from llama import library  # noqa: E402

DOCUMENT = 16384  # bytes; what is encoded at a time
SCRIPTS = [(0x00C0, 0x017F), (0x0391, 0x03C9), (0x0410, 0x044F), (0x05D0, 0x05EA),
           (0x0621, 0x064A), (0x0915, 0x0939), (0x3041, 0x3096), (0x4E00, 0x57FF),
           (0xAC00, 0xB3FF)]
EMOJI = (0x1F600, 0x1F64F)


def files_of(folder, pattern, size):
    text = b""
    for file in sorted(pathlib.Path(folder).rglob(pattern)):
        if len(text) >= size:
            break
        text += file.read_bytes() if file.is_file() else b""
    return text[:size].decode(errors="ignore")


def words_of_many_scripts(size):
    """Sentences of words that repeat as words do: the k-th of a script in proportion to 1/k."""
    draw = random.Random(1)
    sentences, length = [], 0
    vocabularies = [["".join(chr(draw.randint(*script)) for _ in range(draw.randint(1, 8)))
                     for _ in range(3000)] for script in SCRIPTS]
    weights = [1 / (k + 1) for k in range(3000)]
    while length < size:
        words = draw.choices(draw.choice(vocabularies), weights, k=draw.randint(3, 20))
        if draw.random() < 0.2:
            words.append(chr(draw.randint(*EMOJI)))
        sentences.append(" ".join(words) + draw.choice([". ", "!\n", ", 2024\n\n", "? "]))
        length += len(sentences[-1].encode())
    return "".join(sentences)


def make_documents(size):
    parts = (files_of("/usr/include", "*.h", size // 3),
             files_of(sysconfig.get_path("stdlib"), "*.py", size // 3),
             words_of_many_scripts(size // 3))
    documents = []
    for part in parts:
        data = part.encode()
        for at in range(0, len(data), DOCUMENT):
            documents.append(data[at:at + DOCUMENT].decode(errors="ignore"))
    return documents


def run_cairn(*words):
    done = subprocess.run([str(CAIRN), *map(str, words)], stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"cairn {' '.join(map(str, words))} fails")
    return done.stdout


def vocabulary(name, folder):
    """The folder of a tokenizer.json, made if it is not there."""
    path = folder / name
    if (path / "tokenizer.json").exists():
        return path
    if name == "smollm2":
        library.build()
        run_cairn("convert", library.SMOLLM2, path, "--to", "hf", "--json")
    else:
        run_cairn("tokenizer", "train", "--from", "/usr/include", "--from",
                  sysconfig.get_path("stdlib"), "--from", "/usr/share", "--vocab-size", 150000,
                  "--out", path, "--quiet")
    return path


def seconds_of(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def measure_peer(file, documents):
    """Rates in MB/s as `cairn bench tokenizer` measures its own, and the ids."""
    load = statistics.median(seconds_of(lambda: tokenizers.Tokenizer.from_file(file))
                             for _ in range(3))
    peer = tokenizers.Tokenizer.from_file(file)
    ids = []

    def encode():
        ids.clear()
        for document in documents:
            ids.append(peer.encode(document, add_special_tokens=False).ids)

    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    encoding = statistics.median(seconds_of(encode) for _ in range(3))
    decoding = statistics.median(
        seconds_of(lambda: [peer.decode(some, skip_special_tokens=False) for some in ids])
        for _ in range(3))
    return {"load": load, "encode": megabytes / encoding, "decode": megabytes / decoding}, ids


def compare(name, folder, documents, package, rounds):
    path = vocabulary(name, folder)
    mine, theirs, ratios = [], [], []
    for _ in range(rounds):
        line = json.loads(run_cairn("bench", "tokenizer", "--tokenizer", path, "--from",
                                    folder / "documents", "--runs", 3, "--json"))
        peer, ids = measure_peer(str(path / "tokenizer.json"), documents)
        mine.append(line)
        theirs.append(peer)
        ratios.append(line["encode_mbs"] / peer["encode"])
    ours = package.Tokenizer.load(str(path / "tokenizer.json"))
    same = all(ours.encode(document) == found for document, found in zip(documents, ids))
    median = statistics.median
    encode, load = median(m["encode_mbs"] for m in mine), median(m["load_seconds"] for m in mine)
    ok = same and median(ratios) >= 2 and encode >= 10 and load <= 0.1
    print(json.dumps({
        "bench": "peers tokenizer", "processor": mine[0]["processor"], "vocabulary": name,
        "vocab_size": mine[0]["vocab_size"], "bytes": mine[0]["bytes"], "same_ids": same,
        "encode_mbs": encode, "peer_encode_mbs": median(t["encode"] for t in theirs),
        "encode_ratio": median(ratios), "decode_mbs": median(m["decode_mbs"] for m in mine),
        "peer_decode_mbs": median(t["decode"] for t in theirs), "load_seconds": load,
        "peer_load_seconds": median(t["load"] for t in theirs), "ok": ok}), flush=True)
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=12, help="of text")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    package = import_cairn()
    documents = make_documents(options.mb * 1000000)
    folder = library.PEERS / "tokenizers"
    shutil.rmtree(folder / "documents", ignore_errors=True)
    (folder / "documents").mkdir(parents=True)
    for i, document in enumerate(documents):
        (folder / "documents" / f"{i:05}.txt").write_bytes(document.encode())
    good = True
    for name in ("smollm2", "150k"):
        good &= compare(name, folder, documents, package, options.rounds)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
