"""Makes tests/golden/tokenizer/: small tokenizers and what the HF library does with them.

    pip install tokenizers==0.23.3    (and Debian's python3-sentencepiece, for a normalisation map)
    python tests/golden/make_tokenizer_golden.py

Each NAME.json is a tokenizer.json as the library saves it; NAME.cases.json lists texts with
  plain    ids with spellings of special tokens taken as text (encode_special_tokens); null where
           the library finds special tokens even so
  special  ids with special tokens found, and the template's tokens added
  decoded  the text of `special`
"""

import base64
import io
import json
import pathlib
import tempfile

import sentencepiece
from make_tokenizer_texts import CORPUS, TEXTS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent / "tokenizer"

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

def train(pre_tokenizer):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        min_frequency=2,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def gpt2():
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_tokens(
        [
            AddedToken("[MASK]", lstrip=True, rstrip=True, normalized=False),
            AddedToken("word", single_word=True, normalized=False),
            AddedToken("<<", normalized=False),
            AddedToken("<<<", normalized=True),
            AddedToken("<<x", normalized=False),
        ]
    )
    return tokenizer


def smollm():
    return train(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
        )
    )


def prefixed():
    return train(pre_tokenizers.ByteLevel(add_prefix_space=True))


def llama3():
    tokenizer = train(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    tokenizer.model.ignore_merges = True
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|endoftext|> $A",
                pair="<|endoftext|> $A <|endoftext|> $B",
                special_tokens=[("<|endoftext|>", end)],
            ),
        ]
    )
    return tokenizer


def metaspace():
    """As Llama 2's: characters, blanks as U+2581, bytes for what has no token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        min_frequency=2,
        special_tokens=["<unk>", "<s>", "</s>"],
        limit_alphabet=90,
        max_token_length=8,
        show_progress=False,
    )
    # Trained on words, as SentencePiece does: no token holds a blank inside.
    words = ["\u2581" + word for line in CORPUS for word in line.split()]
    plain = tokenizer.normalizer
    tokenizer.normalizer = None
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.normalizer = plain
    document = json.loads(tokenizer.to_str())
    model = document["model"]
    model |= {"byte_fallback": True, "fuse_unk": True}
    first = len(model["vocab"])
    model["vocab"] |= {f"<0x{byte:02X}>": first + byte for byte in range(256)}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens([AddedToken("    ", normalized=False), AddedToken("<b>", normalized=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def small_map():
    """A SentencePiece normalisation map of a few rules, base64."""
    rules = {"\uff21": "A", "\u00bd": "1\u20442", "\u2028": " ", "\u3000": " ", "\u00a0": " ",
             "e\u0301": "\u00e9", "\u2026": "...", "\u201c": '"', "\u00ad": ""}
    with tempfile.TemporaryDirectory() as folder:
        table = pathlib.Path(folder) / "rules.tsv"
        code = lambda text: " ".join(f"{ord(c):X}" for c in text)
        table.write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in rules.items()))
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=120,
            hard_vocab_limit=False, normalization_rule_tsv=str(table), minloglevel=2,
        )
    return base64.b64encode(charsmap_of(model.getvalue())).decode()


def fields(message):
    """(number, value) of a protobuf message: length-delimited ones as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 2:
            size = varint()
            yield key >> 3, message[at : at + size]
            at += size
        elif key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}[key & 7]
            yield key >> 3, message[at : at + size]
            at += size


def charsmap_of(model):
    normalizer_spec = next(value for number, value in fields(model) if number == 3)
    return next(value for number, value in fields(normalizer_spec) if number == 2)


def unigram():
    """As T5's: a precompiled map, words with U+2581, a unigram model."""
    tokenizer = Tokenizer(models.Unigram())
    map_step = {"type": "Precompiled", "precompiled_charsmap": small_map()}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("\u2581", "always")]
    )
    tokenizer.decoder = decoders.Metaspace("\u2581", "always")
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=160, special_tokens=["<pad>", "</s>", "<unk>"],
                                unk_token="<unk>", show_progress=False),
    )
    document = json.loads(tokenizer.to_str())
    document["normalizer"] = {"type": "Sequence", "normalizers": [
        map_step, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def gemma():
    """As Gemma's: blanks as U+2581 that never start a text, runs of blanks as added tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse()])
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<bos>"],
                            show_progress=False, max_token_length=10),
    )
    tokenizer.add_tokens([AddedToken("\u2581" * n, normalized=False) for n in (2, 3, 4)])
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False)])
    return tokenizer


def wordpiece():
    """As BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(vocab_size=300, show_progress=False,
                                  special_tokens=["[UNK]", "[CLS]", "[SEP]"]),
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def forms():
    """Unicode forms, letters in one case, and pieces cut in every way."""
    tokenizer = train(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("-", "merged_with_next"),
                pre_tokenizers.Split(Regex(r"[.,;]"), "merged_with_previous"),
                pre_tokenizers.Split(Regex("="), "contiguous"),
                pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True),
                pre_tokenizers.Punctuation("isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
            ]
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.NFKC(), normalizers.Lowercase()]
    )
    return tokenizer


def cases_of(tokenizer):
    cases = []
    unknown = getattr(tokenizer.model, "unk_token", None) or "<unk>"
    specials = {i for i, token in tokenizer.get_added_tokens_decoder().items()
                if token.special and token.content != unknown}
    for text in TEXTS:
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        # Their models may still find special tokens in such text; ours never do.
        if specials & set(plain):
            plain = None
        tokenizer.encode_special_tokens = False
        special = tokenizer.encode(text, add_special_tokens=True).ids
        decoded = tokenizer.decode(special, skip_special_tokens=False)
        cases.append({"text": text, "plain": plain, "special": special, "decoded": decoded})
    return cases


def one_line_each(cases):
    return "[\n" + ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases) + "\n]\n"


def main():
    HERE.mkdir(exist_ok=True)
    for make in (gpt2, smollm, prefixed, llama3, metaspace, gemma, unigram, wordpiece, forms):
        tokenizer = make()
        tokenizer.save(str(HERE / f"{make.__name__}.json"), pretty=False)
        (HERE / f"{make.__name__}.cases.json").write_text(one_line_each(cases_of(tokenizer)))


if __name__ == "__main__":
    main()
