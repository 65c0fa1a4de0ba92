#!/usr/bin/python3
"""Compares today's speed ratios with the committed ones of this processor family.

    check.py [--update] [--only NAME] [--runs N]

Runs the commands of bench/checks.toml N times (3) and takes the median of each ratio. Prints every
ratio beside the committed one; exit 1 when one fell by more than 5 %. --update writes today's
values into bench/ratios/PROCESSOR.jsonl instead.
"""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tomllib

BENCH = pathlib.Path(__file__).resolve().parent
ROOT = BENCH.parent
TOLERANCE = 0.05


def lines_of(command):
    """The JSON lines that a command prints; ends the program when it fails."""
    words = shlex.split(command)
    if words[0] == "cairn":
        words[0] = str(ROOT / "build" / "release" / "cairn")
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, PYTHONUNBUFFERED="1"))
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}")
    found = []
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def measure(checks, runs):
    """({identity: [values]}, processor) of all checks; an identity is a JSON text."""
    values, processor = {}, None
    for check in checks:
        for _ in range(runs):
            for line in lines_of(check["command"]):
                processor = line.get("processor", processor)
                if not all(key in line for key in check["keys"]):
                    continue
                for ratio in check["ratios"]:
                    if line.get(ratio) is None:
                        continue
                    identity = {"check": check["name"], **{k: line[k] for k in check["keys"]},
                                "ratio": ratio}
                    values.setdefault(json.dumps(identity), []).append(line[ratio])
    if not values:
        sys.exit("no command of bench/checks.toml printed a ratio")
    if processor is None:
        sys.exit("no line names the processor")
    return {identity: statistics.median(v) for identity, v in values.items()}, processor


def read_committed(file):
    committed = {}
    if file.exists():
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            value = entry.pop("value")
            committed[json.dumps(entry)] = value
    return committed


def compare(today, committed):
    """Lines to print, and how many ratios fell."""
    report, fallen = [], 0
    for identity, value in today.items():
        name = " ".join(str(v) for v in json.loads(identity).values())
        before = committed.get(identity)
        if before is None:
            report.append(f"  new   {name:44} {value:.3f}")
            continue
        change = value / before - 1 if before > 0 else 0.0
        bad = change < -TOLERANCE
        fallen += bad
        report.append(f"  {'FELL ' if bad else 'holds'} {name:44} {value:.3f}, was {before:.3f} "
                      f"({100 * change:+.1f} %)")
    return report, fallen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="commit today's values")
    parser.add_argument("--only", help="checks of this name")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    checks = tomllib.loads((BENCH / "checks.toml").read_text())["check"]
    checks = [c for c in checks if options.only in (None, c["name"])]
    if not checks:
        sys.exit(f"no check is named {options.only}")

    today, processor = measure(checks, max(1, options.runs))
    file = BENCH / "ratios" / f"{processor}.jsonl"
    committed = read_committed(file)
    if options.update:
        file.parent.mkdir(exist_ok=True)
        merged = {**committed, **{k: round(v, 4) for k, v in today.items()}}
        file.write_text("".join(json.dumps({**json.loads(identity), "value": value}) + "\n"
                                for identity, value in sorted(merged.items())))
        print(f"{len(today)} ratios of {processor} written to {file.relative_to(ROOT)}")
        return
    report, fallen = compare(today, committed)
    print(f"{processor}, medians of {options.runs} runs")
    print("\n".join(report))
    if not committed:
        print(f"no ratios of {processor} are committed; --update writes them")
    if fallen:
        print(f"{fallen} fell by more than {100 * TOLERANCE:.0f} %")
        sys.exit(1)


if __name__ == "__main__":
    main()
