"""Cairn's tokenizers beside the HF `tokenizers` library, live.

    pip install tokenizers pytest
    CAIRN=build/release/cairn pytest tests/python/test_tokenizer_parity.py

The corpus is whatever text this machine has; the awkward strings are made here.
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sysconfig

import pytest

os.environ["TOKENIZERS_PARALLELISM"] = "false"
tokenizers = pytest.importorskip("tokenizers")
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models  # noqa: E402
from tokenizers import pre_tokenizers, processors, trainers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
CAIRN = os.environ.get("CAIRN") or str(ROOT / "build" / "release" / "cairn")
if not (os.path.exists(CAIRN) or shutil.which(CAIRN)):
    pytest.skip(f"no program at {CAIRN}: build it or set CAIRN", allow_module_level=True)

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
RULES = {
    "gpt2": BYTE_LEVEL,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), BYTE_LEVEL]),
    "digit-runs": pre_tokenizers.Sequence([pre_tokenizers.Digits(False), BYTE_LEVEL]),
    "prefix": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "no-rule": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
}


def run(*arguments, stdin=b""):
    done = subprocess.run([CAIRN, "tokenizer", *map(str, arguments)], input=stdin,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def ours(folder, text, *flags):
    return json.loads(run("encode", folder, "--json", *flags, stdin=text.encode()))["ids"]


def corpus_files(limit=2_500_000):
    """Text of this machine, smallest names first, up to `limit` bytes."""
    roots = ["/usr/include", "/usr/share/common-licenses", sysconfig.get_paths()["stdlib"]]
    total = 0
    for root in map(pathlib.Path, roots):
        share = 0
        for path in sorted(root.rglob("*")):
            if path.suffix not in (".h", ".py", ".txt", "") or not path.is_file():
                continue
            data = path.read_bytes()
            try:
                text = data.decode()
            except UnicodeDecodeError:
                continue
            if not 64 <= len(data) <= 500_000 or "\0" in text:
                continue
            yield text
            share += len(data)
            total += len(data)
            if share > limit // len(roots) or total > limit:
                break


@pytest.fixture(scope="session")
def corpus():
    texts = list(dict.fromkeys(corpus_files()))
    assert sum(map(len, texts)) > 100_000
    return texts


@pytest.fixture(scope="session")
def awkward():
    """All code points alone and between letters, then characters that rules trip over."""
    parts = []
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF or (0x3400 < code < 0xD7A0 and code % 64):
            continue
        if 0x20000 <= code < 0xE0000 and code % 1021 or code >= 0xE0200 and code % 4093:
            continue
        parts.append(f"a{chr(code)}b {chr(code)}1{chr(code)}\n")
    pieces = [" ", " ", "\n", "\r", "\t", "'", "s", "'t", "'RE", "ve", "ll", "d", "A", "z", "0",
              "9", "_", "-", "é", "中", "あ", "한", "ب", "٣", "½", "Ⅷ", "\u00a0", "\u3000",
              "\u2028", "\u0085", "\u200b", "\u180e", "\u0301", "😀", "👩‍💻", "🇩🇪", "𝒜", "𝟘",
              "\x00", "\x1b", "\x7f", "\ufeff", "<|", "|>", "==", "//"]
    choose = random.Random(7).choice
    parts.extend(choose(pieces) for _ in range(100_000))
    return "".join(parts)


def train_theirs(rule, texts, vocab_size=1500):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = RULES[rule]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, show_progress=False,
                                  special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def first_difference(tokenizer, theirs, mine):
    for i, (a, b) in enumerate(zip(theirs, mine)):
        if a != b:
            near = slice(max(0, i - 4), i + 6)
            return f"token {i}: {tokenizer.decode(theirs[near])!r}, ours {mine[near]}"
    return f"{len(theirs)} tokens, ours {len(mine)}"


def assert_same(tokenizer, folder, text):
    tokenizer.encode_special_tokens = True
    theirs = tokenizer.encode(text, add_special_tokens=False).ids
    mine = ours(folder, text)
    assert theirs == mine, first_difference(tokenizer, theirs, mine)
    tokenizer.encode_special_tokens = False
    theirs = tokenizer.encode(text).ids
    mine = ours(folder, text, "--parse-special", "--add-special")
    assert theirs == mine, first_difference(tokenizer, theirs, mine)


@pytest.mark.parametrize("rule", RULES)
def test_their_files_encode_the_same_with_us(rule, corpus, awkward, tmp_path):
    # Without a rule a document is one word, and training on it takes their library long.
    texts = [line for text in corpus[:60] for line in text.split()] if rule == "no-rule" else corpus
    tokenizer = train_theirs(rule, texts)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for text in [awkward[:400_000], awkward[-150_000:], "\n".join(corpus[-40:])[:1_000_000]]:
        if rule == "no-rule":
            text = text[:20_000]
        assert_same(tokenizer, tmp_path, text)


def test_the_rules_see_the_same_words_at_every_code_point(awkward, tmp_path, corpus):
    tokenizer = train_theirs("gpt2", corpus[:20], 300)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert_same(tokenizer, tmp_path, awkward)


@pytest.mark.parametrize("name", ["metaspace", "gemma", "unigram", "wordpiece", "forms"])
def test_tokenizers_of_other_kinds(name, corpus, awkward, tmp_path):
    file = ROOT / "tests" / "golden" / "tokenizer" / f"{name}.json"
    (tmp_path / "tokenizer.json").write_bytes(file.read_bytes())
    tokenizer = Tokenizer.from_file(str(file))
    # Without words to cut at, their library takes long over a document.
    for text in [awkward[-30_000:], "\n".join(corpus[-10:])[:100_000], corpus[0][:100_000]]:
        assert_same(tokenizer, tmp_path, text)
        ids = tokenizer.encode(text).ids
        theirs = tokenizer.decode(ids, skip_special_tokens=True)
        mine = run("decode", tmp_path, "--skip-special", stdin=" ".join(map(str, ids)).encode())
        assert mine.decode(errors="replace") == theirs


def test_added_tokens_of_every_kind(corpus, tmp_path):
    tokenizer = train_theirs("gpt2", corpus[:40], 800)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|im|>"])
    tokenizer.add_tokens([
        AddedToken("[L]", lstrip=True, normalized=False),
        AddedToken("[R]", rstrip=True, normalized=False),
        AddedToken("[LR]", lstrip=True, rstrip=True, normalized=True),
        AddedToken("one", single_word=True, normalized=False),
        AddedToken("<<", normalized=False), AddedToken("<<<<", normalized=True),
        AddedToken("==", normalized=False), AddedToken("naïve", normalized=True),
    ])
    # Not tried: an added token of blanks right after one that swallows blanks. Their library then
    # emits those blanks twice.
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    pieces = ["<|im_start|>", "<|im_end|>", "<|im|>", "<|im_", "[L]", "[R]", "[LR]", "one", "on",
              "e", "==", "=", "<<", "<<<", " ", "  ", "\n", "\t", "naïve", "na", "é", "x", "_", "1",
              "\u3000", "<|endoftext|>"]
    choose = random.Random(11)
    for _ in range(60):
        text = "".join(choose.choice(pieces) for _ in range(choose.randrange(40)))
        assert_same(tokenizer, tmp_path, text)


def test_templates_add_the_same_tokens(corpus, tmp_path):
    tokenizer = train_theirs("llama3", corpus[:40], 800)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ids = [(t, tokenizer.token_to_id(t)) for t in ("<s>", "</s>")]
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B </s>",
                                      special_tokens=ids)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for text in ("", "word", "<s>word</s> and more"):
        assert_same(tokenizer, tmp_path, text)


@pytest.mark.parametrize("rule", ["gpt2", "smollm"])
def test_training_gives_the_same_vocabulary_and_merges(rule, corpus, tmp_path):
    source = tmp_path / "text"
    source.mkdir()
    for i, text in enumerate(corpus):
        (source / f"{i:05}.txt").write_text(text, newline="")
    run("train", "--from", source, "--out", tmp_path / "out", "--vocab-size", 3000,
        "--rule", rule, "--held-out-fraction", "0")
    mine = json.loads((tmp_path / "out" / "tokenizer.json").read_text())["model"]
    theirs = json.loads(train_theirs(rule, corpus, 3000).to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in mine["merges"]]
    assert merges == [tuple(m) for m in theirs["merges"]]
    assert mine["vocab"] == theirs["vocab"]


def test_they_read_our_files_and_we_decode_theirs(corpus, awkward, tmp_path):
    source = tmp_path / "text"
    source.mkdir()
    for i, text in enumerate(corpus[:80]):
        (source / f"{i:05}.txt").write_text(text, newline="")
    run("train", "--from", source, "--out", tmp_path / "out", "--vocab-size", 1000)
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    text = awkward[:50_000] + "".join(corpus[:3])
    assert_same(tokenizer, tmp_path / "out", text)
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert run("decode", tmp_path / "out", stdin=" ".join(map(str, ids)).encode()) == text.encode()


def test_transformers_opens_our_folder(corpus, tmp_path):
    transformers = pytest.importorskip("transformers")
    source = tmp_path / "text"
    source.mkdir()
    for i, text in enumerate(corpus[:20]):
        (source / f"{i:05}.txt").write_text(text, newline="")
    run("train", "--from", source, "--out", tmp_path / "out", "--vocab-size", 600)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert tokenizer.eos_token == "<|endoftext|>" and tokenizer.eos_token_id == 0
    text = corpus[0][:5000]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ours(
        tmp_path / "out", text, "--parse-special")
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
