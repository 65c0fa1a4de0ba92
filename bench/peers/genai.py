#!/usr/bin/env python3
"""Generation by Cairn and by OpenVINO GenAI in turns on the same GGUF file.

    ./dev peers genai [--model FILE | --formats q4_0 ...] [--blocks 12]

Both use all threads and generate 64 tokens greedily behind a prompt of about 128. Prints one JSON line a
file: {format, threads, depth, tokens_per_second, peer_tokens_per_second, ratio, ratio_low, ratio_high}.
OpenVINO does not open every mixture of types: of SmolLM2-135M not q4_k_m.
"""

import pathlib

import openvino_genai

from llama import library, turns

TOKENS = 64
PROMPT = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
DEPTH = 128


class OpenVino:
    """Answers requests to decode as the programs of `turns` do."""

    def __init__(self, model, threads):
        self.pipeline = openvino_genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads)
        self.settings = openvino_genai.GenerationConfig(max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                                                        do_sample=False, ignore_eos=True)
        ids = self.pipeline.get_tokenizer().encode(PROMPT).input_ids.data[0][:DEPTH]
        self.prompt = self.pipeline.get_tokenizer().decode(ids.tolist())

    def block(self, _request):
        metrics = self.pipeline.generate([self.prompt], self.settings).perf_metrics
        return [metrics.get_tpot().mean / 1e3]

    def close(self):
        self.pipeline = None


def rival(model, _context, _request):
    return OpenVino(model, library.THREADS), library.THREADS


def main():
    parser = turns.arguments(__doc__.splitlines()[0])
    parser.set_defaults(formats=["q4_0", "q4_1", "q8_0", "f16"])
    options = parser.parse_args()
    for kind, model in turns.models(options):
        result = turns.take_turns(model, f"decode {DEPTH} {TOKENS}", DEPTH + TOKENS, options.blocks,
                                  rival)
        turns.report("peers genai", kind, 1, result, depth=DEPTH)


if __name__ == "__main__":
    main()
