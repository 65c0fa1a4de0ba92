#!/usr/bin/python3
"""Runs the commands that the documents promise, and follows their links inside the house.

A fenced block that opens with ```sh run is run by sh, each file's blocks one after another in one
folder of their own, with the program on the PATH. A block that opens with ```sh is not: it may
need the network or hours. Prints "ran FILE:LINE" for each; exit 1 when one failed.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)]*)?\)")
BLOCK = re.compile(r"^```sh run\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 300


def documents():
    yield ROOT / "README.md"
    yield ROOT / "CONTRIBUTING.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def main():
    failed = 0
    environment = dict(os.environ, PATH=f"{ROOT}/build/release:{os.environ['PATH']}",
                       CAIRN_ROOT=str(ROOT))
    for document in documents():
        text = document.read_text()
        for link in LINK.finditer(text):
            if not (document.parent / link.group(1)).exists():
                line = text.count("\n", 0, link.start()) + 1
                print(f"FAILED {document.relative_to(ROOT)}:{line}: no {link.group(1)}")
                failed += 1
        with tempfile.TemporaryDirectory() as folder:
            for block in BLOCK.finditer(text):
                line = text.count("\n", 0, block.start()) + 1
                where = f"{document.relative_to(ROOT)}:{line}"
                try:
                    done = subprocess.run(["sh", "-eu", "-c", block.group(1)], cwd=folder,
                                          env=environment, stdout=subprocess.PIPE,
                                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                          text=True, errors="replace", timeout=SECONDS)
                    code, output = done.returncode, done.stdout
                except subprocess.TimeoutExpired:
                    code, output = -1, f"not done after {SECONDS} s"
                print(f"{'ran' if code == 0 else 'FAILED'} {where}")
                if code != 0:
                    failed += 1
                    print(output)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
