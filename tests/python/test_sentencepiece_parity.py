"""Cairn's reading of SentencePiece models beside the library itself, live, on a few megabytes.

    apt-get install python3-sentencepiece
    CAIRN=build/release/cairn pytest tests/python/test_sentencepiece_parity.py

The models are trained here on what text this machine has, with the whole nmt_nfkc map of T5.
"""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

sentencepiece = pytest.importorskip("sentencepiece")

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAIRN = os.environ.get("CAIRN") or str(ROOT / "build" / "release" / "cairn")
if not (os.path.exists(CAIRN) or shutil.which(CAIRN)):
    pytest.skip(f"no program at {CAIRN}: build it or set CAIRN", allow_module_level=True)

sys.path.insert(0, str(ROOT / "tests" / "golden"))
from make_tokenizer_texts import TEXTS  # noqa: E402


def some_text(pattern, folder, size):
    text = ""
    for file in sorted(pathlib.Path(folder).rglob(pattern)):
        if len(text) >= size:
            break
        text += file.read_bytes().decode(errors="ignore") if file.is_file() else ""
    return text[:size]


@pytest.fixture(scope="module")
def documents():
    text = some_text("*.py", sysconfig.get_path("stdlib"), 400_000)
    text += some_text("*.h", "/usr/include", 200_000)
    # Characters of every block, whether or not they are in use.
    text += " ".join(chr(c) for c in range(0x21, 0x30000, 7) if not 0xD800 <= c < 0xE000)
    text = text.replace("\0", "")
    return [text[at:at + 4000] for at in range(0, len(text), 4000)] + TEXTS


MODELS = {
    "t5": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc", "pad_id": 0,
           "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "llama": {"model_type": "bpe", "normalization_rule_name": "identity", "byte_fallback": True,
              "remove_extra_whitespaces": False},
    "albert": {"model_type": "unigram", "normalization_rule_name": "nfkc",
               "remove_extra_whitespaces": False, "byte_fallback": True},
}


@pytest.mark.parametrize("name", MODELS)
def test_ids_and_texts_are_those_of_the_library(name, documents, tmp_path):
    lines = [line for document in documents[:100] for line in document.splitlines() if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=2000, num_threads=1,
        minloglevel=2, **MODELS[name])
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    library = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    differing = []
    for document in documents:
        done = subprocess.run([CAIRN, "tokenizer", "encode", str(tmp_path), "--json"],
                              input=document.encode(), capture_output=True, check=True)
        if json.loads(done.stdout)["ids"] != library.EncodeAsIds(document):
            differing.append(document)
    assert not differing, f"{len(differing)} of {len(documents)} documents, the first {differing[0]!r}"
