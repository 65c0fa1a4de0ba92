#!/usr/bin/python3
"""Builds the fuzz targets (preset asan) and runs each for a while.

    fuzz.py [--minutes N | --seconds N] [TARGET...]

Starts from tests/fuzz/seeds/TARGET/ where there is one. What a run finds is kept in
build/fuzz/TARGET/, so later runs go deeper; an input that crashes is named and kept there too.
Exit 1 when a target failed.
"""

import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEMORY_MIB = 2048  # more than this for a small hostile input is a fault
INPUT_SECONDS = 10  # and so is more time than this, even with sanitizers on a busy machine


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    seconds = max(1, round(options.seconds or options.minutes * 60))

    known = sorted(p.stem for p in (ROOT / "tests" / "fuzz").glob("fuzz_*.cpp"))
    wanted = [t if t.startswith("fuzz_") else f"fuzz_{t}" for t in options.targets] or known
    for target in wanted:
        if target not in known:
            sys.exit(f"no fuzz target {target}; there are {', '.join(known)}")
    if not wanted:
        return

    subprocess.run(["cmake", "--preset", "asan"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", "build/asan", *wanted], cwd=ROOT, check=True)
    failed = []
    for target in wanted:
        corpus = ROOT / "build" / "fuzz" / target
        corpus.mkdir(parents=True, exist_ok=True)
        folders = [corpus]
        seeds = ROOT / "tests" / "fuzz" / "seeds" / target
        if seeds.is_dir():
            folders.append(seeds)
        print(f"== {target}, {seconds} s", flush=True)
        code = subprocess.run(
            [ROOT / "build" / "asan" / "tests" / "fuzz" / target, f"-max_total_time={seconds}",
             f"-rss_limit_mb={MEMORY_MIB}", f"-timeout={INPUT_SECONDS}", "-print_final_stats=0",
             f"-artifact_prefix={corpus}/", "-verbosity=0", *map(str, folders)],
            cwd=corpus).returncode
        if code != 0:
            failed.append(target)
    for target in failed:
        print(f"FAILED: {target}; the input is in build/fuzz/{target}/")
    if failed:
        sys.exit(1)
    print(f"{len(wanted)} fuzz targets, no fault")


if __name__ == "__main__":
    main()
