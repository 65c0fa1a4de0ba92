#!/usr/bin/python3
"""Checks that includes only point down the floors of the house.

The floors are the cairn_folder(...) lines of cairn/CMakeLists.txt, from the ground up. An include
"cairn/FOLDER/..." in cairn/X may name X itself or a floor before it. The applications stand side by
side and may not include each other. What a folder links (LIBS) must be floors before it too.

    include_graph.py [ROOT]       check; prints each wrong arrow; exit 1 when there is one
    include_graph.py --self-test  check the checker
"""

import pathlib
import re
import sys
import tempfile

APPLICATIONS = {"circuits", "knowledge", "agent", "vision"}
FOLDER = re.compile(r"^\s*cairn_folder\(\s*(\w+)([^)]*)\)", re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]cairn/(\w+)/', re.MULTILINE)
ANY_QUOTED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def floors_of(root):
    """The floors in order, and what each links: [(name, [linked names])]."""
    text = (root / "cairn" / "CMakeLists.txt").read_text()
    text = re.sub(r"#.*", "", text)
    return [(name, re.findall(r"cairn_(\w+)", rest)) for name, rest in FOLDER.findall(text)]


def wrong_arrow(height, source, target):
    """Why `source` may not name `target`, or None."""
    if target not in height:
        return f"{target} is not a floor of cairn/CMakeLists.txt"
    if source == target:
        return None
    if source in APPLICATIONS and target in APPLICATIONS:
        return "applications do not include each other"
    if height[target] > height[source]:
        return f"{target} stands above {source}"
    return None


def problems_of(root):
    floors = floors_of(root)
    if not floors:
        return ["cairn/CMakeLists.txt: no cairn_folder(...) line found"]
    height = {name: i for i, (name, _) in enumerate(floors)}
    problems = []
    for name, linked in floors:
        for target in linked:
            why = wrong_arrow(height, name, target)
            if why:
                problems.append(f"cairn/CMakeLists.txt: {name} links {target}: {why}")
    for path in sorted((root / "cairn").rglob("*")):
        if path.suffix not in {".h", ".cpp", ".inc"}:
            continue
        where = path.relative_to(root)
        source = where.parts[1]
        if source not in height:
            problems.append(f"{where}: {source} is not a floor of cairn/CMakeLists.txt")
            continue
        text = path.read_text(errors="replace")
        for match in ANY_QUOTED.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if match.group(1).startswith((".", "/")):
                problems.append(f"{where}:{line}: include from the root, not {match.group(1)}")
        for match in INCLUDE.finditer(text):
            why = wrong_arrow(height, source, match.group(1))
            if why:
                line = text.count("\n", 0, match.start(1)) + 1
                problems.append(f"{where}:{line}: {source} includes {match.group(1)}: {why}")
    return problems


def self_test():
    """Builds small houses with one known fault each and expects exactly that fault."""
    cmake = """# cairn_folder(ghost)
cairn_folder(base LIBS fmt::fmt)
cairn_folder(tensor LIBS cairn_base)
cairn_folder(agent LIBS cairn_tensor)
cairn_folder(vision LIBS cairn_tensor)
"""
    cases = [
        ("cairn/tensor/a.h", '#include "cairn/base/x.h"\n#include <vector>\n', None),
        ("cairn/tensor/rooms/a.cpp", '#include "cairn/tensor/x.h"\n', None),
        ("cairn/base/a.cpp", '\n#include "cairn/tensor/x.h"\n', "tensor stands above base"),
        ("cairn/base/a.h", "#  include <cairn/agent/x.h>\n", "agent stands above base"),
        ("cairn/vision/a.h", '#include "cairn/agent/x.h"\n', "applications do not include"),
        ("cairn/base/a.h", '#include "cairn/ghost/x.h"\n', "ghost is not a floor"),
        ("cairn/ghost/a.h", "", "ghost is not a floor"),
        ("cairn/base/a.h", '#include "../tensor/x.h"\n', "include from the root"),
        ("cairn/CMakeLists.txt", cmake + "cairn_folder(top LIBS cairn_roof)\n", "top links roof"),
        ("cairn/CMakeLists.txt", "", "no cairn_folder"),
    ]
    for name, text, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, content in (("cairn/CMakeLists.txt", cmake), (name, text)):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(content)
            found = problems_of(root)
            right = not found if expected is None else len(found) == 1 and expected in found[0]
            if not right:
                sys.exit(f"self-test: {name} {text!r}\n  expected {expected}\n  found {found}")
    print(f"include_graph self-test: {len(cases)} cases as expected")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems = problems_of(root)
    for problem in problems:
        print(problem)
    if problems:
        sys.exit(1)
    print(f"include graph: {len(floors_of(root))} floors, every arrow points down")


if __name__ == "__main__":
    main()
