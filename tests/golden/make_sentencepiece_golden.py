"""Makes tests/golden/sentencepiece/: small models of the SentencePiece library and its encodings.

    apt-get install python3-sentencepiece    (0.1.97)
    python tests/golden/make_sentencepiece_golden.py

Each NAME.model is a file as the library's trainer writes it; NAME.cases.json lists texts with
  ids      of the library, nothing added
  decoded  its text of them
"""

import io
import json
import pathlib

import sentencepiece
from make_tokenizer_texts import CORPUS, TEXTS

HERE = pathlib.Path(__file__).parent / "sentencepiece"
MORE = [
    "user<sep>defined <sep> <sep><sep>  <sep>  pieces<sep>",
    "  <sep>blanks\u2581marks\u2581 \u2581",
    "\u2581",
    "<sep>first",
    "<sep>",
    "mapped: ß ﬁ Ａ １２３ half… \u00a0nbsp\u3000ideographic",
    "new\nlines\n\n\tand tabs",
]

# A few rules as a map of its own: a whole nmt_nfkc map has 240 KB.
RULES = "FB01\t66 69\nFF21\t41\nA0\t20\n3000\t20\n2026\t2E 2E 2E\n09\t20\nA\t20\n65 301\tE9\n200B\t\n"

MODELS = {
    "unigram": {"model_type": "unigram", "vocab_size": 300, "normalization_rule_tsv": "rules",
                "user_defined_symbols": ["<sep>"], "pad_id": 0, "eos_id": 1, "unk_id": 2,
                "bos_id": -1},
    "unigram-bytes": {"model_type": "unigram", "vocab_size": 500, "byte_fallback": True,
                      "normalization_rule_name": "identity", "add_dummy_prefix": False,
                      "user_defined_symbols": ["<sep>", "\u2581\u2581"]},
    "bpe": {"model_type": "bpe", "vocab_size": 500, "byte_fallback": True,
            "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
            "user_defined_symbols": ["<sep>", "\u2581\u2581", "\n"]},
    "bpe-rules": {"model_type": "bpe", "vocab_size": 300, "normalization_rule_tsv": "rules"},
}


def train(options):
    rules = HERE / "rules.tsv"
    rules.write_text(RULES)
    model = io.BytesIO()
    if "normalization_rule_tsv" in options:
        options = {**options, "normalization_rule_tsv": str(rules)}
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(CORPUS), model_writer=model, hard_vocab_limit=False,
        character_coverage=0.9995, num_threads=1, minloglevel=2, **options)
    rules.unlink()
    return model.getvalue()


def main():
    HERE.mkdir(exist_ok=True)
    for name, options in MODELS.items():
        model = train(options)
        (HERE / f"{name}.model").write_bytes(model)
        library = sentencepiece.SentencePieceProcessor(model_proto=model)
        cases = []
        for text in TEXTS + MORE:
            ids = library.EncodeAsIds(text)
            cases.append({"text": text, "ids": ids, "decoded": library.DecodeIds(ids)})
        special = {"bos": library.bos_id(), "eos": library.eos_id(), "pad": library.pad_id(),
                   "unk": library.unk_id(), "size": library.GetPieceSize()}
        (HERE / f"{name}.cases.json").write_text(
            json.dumps({"special": special, "cases": cases}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
