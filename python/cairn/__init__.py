"""Cairn from Python: open a model folder or a GGUF file, tokenise, look at logits, generate text.

    import cairn

    model = cairn.Model("demo/model")
    print(model.generate("int main(", max_tokens=64, temperature=0.7).text)
    both = model.generate(["int main(", "int main(void)"])  # what all begin with is read once
    for piece in model.generate("int main(", stream=True):
        print(piece, end="", flush=True)
    logits = model.logits(model.tokenizer.encode("int main("))  # numpy, [tokens, vocab_size]

cairn.attention has attention by itself, on arrays.

The names are those of the C++ library (cairn/infer, cairn/text). What it throws arrives as
cairn.Error with the same text: cairn.UsageError (also a ValueError) for wrong arguments,
cairn.DataError for files that are not what they should be.
"""

from ._cairn import (
    DataError,
    Error,
    Generation,
    Model,
    Session,
    TextStream,
    Tokenizer,
    UsageError,
    __version__,
    convert,
)

__all__ = [
    "DataError",
    "Error",
    "Generation",
    "Model",
    "Session",
    "TextStream",
    "Tokenizer",
    "UsageError",
    "__version__",
    "convert",
]
