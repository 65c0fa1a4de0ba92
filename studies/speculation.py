#!/usr/bin/python3
"""Generates greedily with and without proposals and compares the tokens: speculation must not change
a text, whatever was proposed and accepted. Every prompt is a piece of the source of this project.

    studies/speculation.py MODEL [--draft MODEL] [--prompts 50] [--tokens 256] [--threads 1]
                           [--program PATH]

Prints a JSON line a kind of proposal (lookup, and draft where a model is given) with the prompts
whose tokens are identical, and exits with 1 when one differs or nothing was accepted.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT_BYTES = 800


def prompts(count):
    """Pieces of files, spread over all of them, each from the beginning of a line."""
    files = sorted((ROOT / "cairn").rglob("*.h")) + sorted((ROOT / "docs").glob("*.md"))
    texts = [text for text in map(pathlib.Path.read_text, files) if len(text) > 2 * PROMPT_BYTES]
    for i in range(count):
        text = texts[i * len(texts) // count]
        begin = text.index("\n", len(text) * (i % 4) // 8) + 1
        yield text[begin:begin + PROMPT_BYTES]


def generate(options, prompt, how):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(prompt)
        file.flush()
        done = subprocess.run(
            [options.program, "run", options.model, "-f", file.name, "-n", str(options.tokens),
             "--threads", str(options.threads), "--temp", "0", "--ignore-eos", "--json", *how],
            capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"cairn run fails: {done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description="Texts with and without speculation.")
    parser.add_argument("model")
    parser.add_argument("--draft")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--program", default=ROOT / "build" / "release" / "cairn")
    options = parser.parse_args()
    texts = list(prompts(options.prompts))
    expected = [generate(options, text, []) for text in texts]
    kinds = {"lookup": ["--lookup"]}
    if options.draft:
        kinds["draft"] = ["--draft", options.draft]
    good = True
    for name, how in kinds.items():
        found = [generate(options, text, how) for text in texts]
        same = sum(a["tokens"] == b["tokens"] for a, b in zip(expected, found))
        accepted = sum(run["accepted"] for run in found)
        print(json.dumps({"study": "speculation", "kind": name, "prompts": len(texts),
                          "tokens": sum(len(run["tokens"]) for run in found), "identical": same,
                          "proposed": sum(run["proposed"] for run in found),
                          "accepted": accepted,
                          "passes": sum(run["passes"] for run in found)}), flush=True)
        # Without accepted proposals nothing would have been tested.
        good &= same == len(texts) and accepted > 0
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
