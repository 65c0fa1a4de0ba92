#!/usr/bin/env python3
"""Reading a prompt, up to the logits behind it, by Cairn and by llama.cpp in turns on the same GGUF file.

    ./dev peers prefill [--model FILE | --formats q4_0 ... [--shapes 15m 25m 1b]] [--tokens 512] [--blocks 12]

Prints one JSON line a file: {format, threads, tokens, tokens_per_second, peer_tokens_per_second,
ratio, ratio_low, ratio_high}, as ./dev peers decode does.
"""

from llama import turns


def main():
    parser = turns.arguments(__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()
    for kind, model in turns.models(options):
        result = turns.take_turns(model, f"prefill {options.tokens}", options.tokens + 64,
                                  options.blocks)
        turns.report("peers prefill", kind, options.tokens, result, tokens=options.tokens)


if __name__ == "__main__":
    main()
