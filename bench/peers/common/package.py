"""The Python package of the build tree, for the peers that compare numbers and not only speed."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
CAIRN = ROOT / "build" / "release" / "cairn"


def import_cairn():
    """The package of the build tree, built for this interpreter first."""
    options = ["-DCAIRN_PYTHON=ON", f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (
        ["cmake", "--preset", "release", *options],
        ["ninja", "-C", "build/release", "cairn_python"],
    ):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            sys.exit(done.stdout.decode(errors="replace"))
    sys.path.insert(0, str(ROOT / "build" / "release" / "python"))
    import cairn

    return cairn
