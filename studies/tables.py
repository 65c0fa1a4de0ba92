#!/usr/bin/python3
"""Fills docs/attention.md with the tables and pictures of the attention studies.

    studies/tables.py [PROGRAM]      build/release/cairn

For every study of examples/studies with results in studies/results: draws docs/studies/NAME.svg and
.png, and replaces what stands between <!-- study:NAME --> and <!-- /study:NAME --> by its table and
picture. Nothing is trained. Markers without results, and results without markers, are named.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "attention.md"


def table_of(program, study):
    """Table and picture of one study as Markdown."""
    picture = ROOT / "docs" / "studies" / study.stem
    table = subprocess.run(
        [program, "study", "attention", study, "--table", "--results",
         ROOT / "studies" / "results" / f"{study.stem}.jsonl", "--pictures", picture],
        check=True, capture_output=True, text=True).stdout
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return "\n".join(lines) + f"\n\n![{study.stem}](studies/{study.stem}.svg)\n"


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "release" / "cairn"
    text = PAGE.read_text()
    for study in sorted((ROOT / "examples" / "studies").glob("*.toml")):
        name = study.stem
        marked = re.compile(rf"(<!-- study:{name} -->\n).*?(<!-- /study:{name} -->)", re.DOTALL)
        if not (ROOT / "studies" / "results" / f"{name}.jsonl").exists():
            print(f"{name}: no results yet")
            continue
        filled, count = marked.subn(
            lambda m: m.group(1) + table_of(program, study) + m.group(2), text)
        print(f"{name}: {'table and picture' if count else 'no place in ' + PAGE.name}")
        text = filled
    PAGE.write_text(text)


main()
