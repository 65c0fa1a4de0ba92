#!/usr/bin/python3
"""Sequences of the synthetic tasks by an independent reference: what data/tasks is held to.

    make_task_golden.py REFERENCE_FOLDER tests/golden/tasks/tasks.json

REFERENCE_FOLDER holds path_tasks.py: Python generators of flip-flop, word problems and MQRAR-N over
SplitMix64, one generator running on through all sequences of a case.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])
import path_tasks as reference  # noqa: E402
from path_attention import SplitMix64  # noqa: E402


def word(group, elements, rng, generators):
    permutations, product = reference.group(group)
    chosen = reference.generators(permutations) if generators else None
    return reference.word(product, elements, rng, chosen)


def main():
    cases = []

    def add(task, options, seed, make, count=2):
        rng = SplitMix64(seed)
        sequences = [make(rng) for _ in range(count)]
        cases.append({"task": task, "options": options, "seed": seed,
                      "tokens": [tokens for tokens, _ in sequences],
                      "targets": [targets for _, targets in sequences]})

    for seed, ignore in enumerate((0.8, 0.98, 0.1), 1):
        add("flip_flop", {"length": 64, "ignore": ignore}, seed,
            lambda rng, p=ignore: reference.fflm(64, p, rng))
    for group in ("A5", "S5"):
        add("word_problem", {"elements": 20, "group": group, "begin": False}, 7,
            lambda rng, g=group: word(g, 20, rng, False))
    add("word_problem", {"elements": 20, "words": "generators", "begin": False}, 8,
        lambda rng: word("A5", 20, rng, True))
    for back in (1, 2, 3, 4):
        add("mqrar_n", {"length": 96, "keys": 6, "values": 10, "back": back}, 20 + back,
            lambda rng, b=back: reference.mqrar(96, 6, 10, b, rng))
    with open(sys.argv[2], "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


main()
