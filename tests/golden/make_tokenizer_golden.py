"""Makes tests/golden/tokenizer/: small tokenizers and what the HF library does with them.

    pip install tokenizers==0.23.3
    python tests/golden/make_tokenizer_golden.py

Each NAME.json is a tokenizer.json as the library saves it; NAME.cases.json lists texts with
  plain    ids with spellings of special tokens taken as text (encode_special_tokens)
  special  ids with special tokens found, and the template's tokens added
"""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers import trainers

HERE = pathlib.Path(__file__).parent / "tokenizer"

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CORPUS = [
    "The quick brown fox jumps over the lazy dog; it's what they'll do, isn't it?",
    "for (size_t i = 0; i < count; ++i) {\n    total += values[i] * 2.5f;\n  }\n\n",
    "def tokenise(text: str) -> list[int]:\n\treturn [ord(c) for c in text if c != ' ']\n",
    "Größe, naïve café, Ελληνικά, русский текст, 中文字符处理, 日本語の文章, 한국어 문장, العربية",
    "#include <vector>\r\n#define MAX_VALUE 0xFFFF12345 // the largest value\r\n",
    "aaaaaaaaaaaaaaaaaaaa ======== -------- ........ 1234567890 2024-06-07 12:34:56",
] * 12

TEXTS = [
    "",
    " ",
    "a",
    "Hello world",
    "  two leading and two trailing  ",
    "line\n\n  indented\r\n\ttab\n",
    "it's we'll they've I'M don'T 'quoted' ''s",
    "numbers 1 22 333 4444 0x1F 3.14 1,000,000 ½ ٣٤ Ⅷ 𝟘",
    "for (size_t j = 0; j < total; ++j) { values[j] -= 1; }\n",
    "Größe café — “quotes” … naïve re\u0301sume\u0301",
    "中文字符处理日本語の文章한국어 문장",
    "emoji 😀👍🏽👩‍👩‍👧‍👦🇩🇪 mixed中abc",
    "nul\x00 bell\x07 escape\x1b del\x7f nbsp\u00a0 ideographic\u3000 zwsp\u200b nel\u0085",
    "line\u2028separator paragraph\u2029 mongolian\u180e bom\ufeff",
    "a<|endoftext|>b <|endoftext|> <|endoftext|><|pad|>",
    "x [MASK] y[MASK]z \n[MASK]\t end",
    "word wordy sword word. _word word",
    "<<<<< <<x <<< <",
    "a" * 200,
    "ab" * 150 + "=" * 75 + " " * 50 + "x",
    "\U0010ffff\ufffe\ue000 private",
]


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


def cases_of(tokenizer):
    cases = []
    for text in TEXTS:
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        special = tokenizer.encode(text, add_special_tokens=True).ids
        cases.append({"text": text, "plain": plain, "special": special})
    return cases


def one_line_each(cases):
    return "[\n" + ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases) + "\n]\n"


def main():
    HERE.mkdir(exist_ok=True)
    for make in (gpt2, smollm, prefixed, llama3):
        tokenizer = make()
        tokenizer.save(str(HERE / f"{make.__name__}.json"), pretty=False)
        (HERE / f"{make.__name__}.cases.json").write_text(one_line_each(cases_of(tokenizer)))


if __name__ == "__main__":
    main()
