#!/usr/bin/python3
"""Everything that continuous integration checks, stage by stage; `./dev test` installs what it needs
and calls it.

    stages.py [STAGE...]    the stages named, or all; --list: their names

Prints the minutes of each stage and, last, "N passed, N failed" over all single tests (each
GoogleTest case, each pytest case, each fuzz target, each check counts one). The output of every
command goes to build/logs/; a failed one is shown. Exit 0 only when nothing failed.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
RELEASE = ROOT / "build" / "release"
SHOWN_LINES = 60
# Folders whose threads ThreadSanitizer watches.
TSAN_FOLDERS = ["base", "data", "infer"]
FUZZ_SECONDS = 4
TIDY_SECONDS = 240


class Tally:
    """Counts single tests of one stage and keeps what went wrong."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.complaints = []

    def add(self, name, good, log=None, shown=SHOWN_LINES):
        if good:
            self.passed += 1
            return
        self.failed += 1
        self.complaints.append(name)
        print(f"FAILED: {name}")
        if log is not None:
            lines = log.read_text(errors="replace").splitlines()
            for line in lines[max(0, len(lines) - shown):]:
                print("    " + line)


def run(tally, name, command, timeout=1800, count=True, shown=SHOWN_LINES, **options):
    """Runs a command with its output in a log; a failure is counted, a success if `count`."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / (re.sub(r"[^\w.-]+", "-", name) + ".log")
    with open(log, "wb") as output:
        try:
            options.setdefault("cwd", ROOT)
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                timeout=timeout, **options).returncode
        except subprocess.TimeoutExpired:
            output.write(f"\nstopped after {timeout} s\n".encode())
            code = -1
        except FileNotFoundError as error:
            output.write(str(error).encode())
            code = -1
    if code != 0 or count:
        tally.add(name, code == 0, log, shown)
    return code == 0, log


def build(tally, preset, targets=(), options=()):
    folder = ROOT / "build" / preset
    environment = dict(os.environ, CCACHE_BASEDIR=str(ROOT), CCACHE_NOHASHDIR="1")
    good, _ = run(tally, f"configure {preset}", ["cmake", "--preset", preset, *options],
                  env=environment, count=False)
    if good:
        good, _ = run(tally, f"build {preset}", ["ninja", "-C", str(folder), *targets],
                      env=environment, timeout=3600)
    return good


def run_gtest(tally, found, label, environment=None):
    """Runs GoogleTest programs, each cut into a piece a processor, and counts their cases."""
    shards = os.cpu_count() or 1

    def run_piece(piece):
        program, shard = piece
        name = f"{label} {program.name} {shard + 1} of {shards}"
        report = LOGS / (name.replace(" ", "-") + ".json")
        report.unlink(missing_ok=True)
        own = Tally()
        cut = {"GTEST_TOTAL_SHARDS": str(shards), "GTEST_SHARD_INDEX": str(shard)}
        good, log = run(own, name, [str(program), f"--gtest_output=json:{report}"],
                        env={**os.environ, **(environment or {}), **cut}, count=False,
                        timeout=1200)
        return name, report, good, log, own

    LOGS.mkdir(parents=True, exist_ok=True)
    pieces = [(program, shard) for program in found for shard in range(shards)]
    with concurrent.futures.ThreadPoolExecutor(shards) as pool:
        for name, report, good, log, own in pool.map(run_piece, pieces):
            count_cases(own, name, report, good, log)
            tally.passed += own.passed
            tally.failed += own.failed
            tally.complaints += own.complaints


def count_cases(tally, name, report, good, log):
    if not report.exists():
        if good:  # ended well without a report: not a test program
            tally.add(f"{name}: no report", False, log)
        return
    cases = json.loads(report.read_text())
    tally.passed += cases["tests"] - cases["failures"] - cases.get("disabled", 0)
    # run() has counted one failure for the program already.
    tally.failed += max(0, cases["failures"] - (0 if good else 1))


def programs(preset, pattern):
    return sorted(p for p in (ROOT / "build" / preset / "tests").rglob(pattern)
                  if p.is_file() and os.access(p, os.X_OK) and "." not in p.name)


def sources(*suffixes):
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                            stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    return [f for f in listed if f.endswith(suffixes) and (ROOT / f).exists()]


def stage_graph(tally):
    run(tally, "include graph self-test", [".ci/include_graph.py", "--self-test"])
    run(tally, "include graph", [".ci/include_graph.py"])


def stage_format(tally):
    good, log = run(tally, "format", ["clang-format-14", "--dry-run", "-Werror",
                                      *sources(".cpp", ".h")], shown=0)
    if not good:
        files = re.findall(r"^([^:\n]+):\d+:\d+: (?:error|warning)", log.read_text(), re.MULTILINE)
        print("    clang-format-14 -i " + " ".join(sorted(set(files))))


def stage_shell(tally):
    scripts = ["dev", ".ci/run", *sources(".sh")]
    for script in scripts:
        run(tally, f"shellcheck {script}", ["shellcheck", script])


def stage_release(tally):
    build(tally, "release", options=["-DCAIRN_TESTS=ON"])


def stage_unit(tally):
    run_gtest(tally, programs("release", "test_*"), "unit")
    if tally.passed == 0:
        tally.add("unit: no tests", False)


def stage_asan(tally):
    if not build(tally, "asan"):
        return
    environment = {
        # SIGBUS is the program's own affair: MappedFile answers it.
        "ASAN_OPTIONS": "detect_stack_use_after_return=1:allocator_may_return_null=1:"
                        "handle_sigbus=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    run_gtest(tally, programs("asan", "test_*"), "asan", environment)
    _, log = run(tally, "fuzz", [".ci/fuzz.py", "--seconds", str(FUZZ_SECONDS)], count=False)
    faults = len(re.findall(r"^FAILED: fuzz_", log.read_text(errors="replace"), re.MULTILINE))
    tally.passed += len(programs("asan", "fuzz_*")) - faults
    tally.failed += max(0, faults - 1)  # run() has counted one


def stage_tsan(tally):
    names = [f"test_{f}" for f in TSAN_FOLDERS if (ROOT / "tests" / f).is_dir()]
    if not build(tally, "tsan", names):
        return
    run_gtest(tally, programs("tsan", "test_*"), "tsan", {"TSAN_OPTIONS": "halt_on_error=0:handle_sigbus=0"})


def changed_sources():
    """Sources under cairn/ that differ from where this branch left the main line."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.strip()

    head = git("rev-parse", "HEAD")
    base = ""
    for line in ("origin/main", "origin/master", "main", "master"):
        base = git("merge-base", "HEAD", line)
        if base:
            break
    if not base or base == head:
        base = git("rev-parse", "HEAD~1")
    names = git("diff", "--name-only", "--diff-filter=d", base or "HEAD").splitlines()
    return [n for n in names if n.startswith("cairn/") and n.endswith(".cpp")]


def stage_tidy(tally):
    """clang-tidy on changed sources, as many as fit into TIDY_SECONDS; says how many did not."""
    database = ROOT / "build" / "asan"
    if not (database / "compile_commands.json").exists():
        run(tally, "configure asan", ["cmake", "--preset", "asan"], count=False)
    left = changed_sources()
    end = time.monotonic() + TIDY_SECONDS
    jobs = os.cpu_count() or 1
    while left and time.monotonic() < end:
        now, left = left[:jobs], left[jobs:]
        started = []
        for file in now:
            log = LOGS / ("tidy-" + file.replace("/", "-") + ".log")
            LOGS.mkdir(parents=True, exist_ok=True)
            output = open(log, "wb")
            started.append((file, log, output, subprocess.Popen(
                ["clang-tidy-14", "--quiet", "-p", str(database), file], cwd=ROOT,
                stdout=output, stderr=subprocess.DEVNULL)))
        for file, log, output, process in started:
            good = process.wait() == 0
            output.close()
            tally.add(f"tidy {file}", good, log)
    if left:
        print(f"    {len(left)} changed files not looked at within {TIDY_SECONDS} s")


def stage_python(tally):
    requirements = ROOT / "python" / "requirements-test.txt"
    if not requirements.exists():
        return
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        run(tally, "make .venv", ["/usr/bin/python3", "-m", "venv", "--system-site-packages",
                                  str(ROOT / ".venv")], count=False)
    good, _ = run(tally, "pip install",
                  [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                   "-r", str(requirements)], count=False)
    if not good or not build(tally, "release", ["cairn_python"],
                             ["-DCAIRN_PYTHON=ON", f"-DPython_EXECUTABLE={python}"]):
        return
    environment = dict(os.environ, CAIRN=str(RELEASE / "cairn"),
                       PYTHONPATH=str(RELEASE / "python"))
    if (ROOT / "python" / "CMakeLists.txt").exists() and not build(
            tally, "release", options=["-DCAIRN_PYTHON=ON", f"-DPython_EXECUTABLE={python}"]):
        return
    report = LOGS / "pytest.xml"
    report.unlink(missing_ok=True)
    good, _ = run(tally, "pytest", [str(python), "-m", "pytest", "-q", f"--junitxml={report}",
                                    "tests/python"], count=False, env=environment)
    if not report.exists():
        return
    for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
        count = {k: int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped")}
        bad = count["failures"] + count["errors"]
        tally.passed += count["tests"] - bad - count["skipped"]
        tally.failed += max(0, bad - (0 if good else 1))


def stage_old_cpu(tally):
    """The program on a processor without AVX: emulated, so only its smallest jobs."""
    qemu = ["qemu-x86_64", "-cpu", "Nehalem"]
    run(tally, "old-cpu version", [*qemu, str(RELEASE / "cairn"), "--version"])
    run(tally, "old-cpu train and run",
        ["sh", "tests/cli/old_cpu.sh", *qemu, str(RELEASE / "cairn")], timeout=600)


def stage_demo(tally):
    folder = ROOT / "build" / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    run(tally, "demo --quick", ["sh", "examples/demo.sh", "--quick", "--out", str(folder)],
        timeout=1200)


def stage_docs(tally):
    good, log = run(tally, "documents", [".ci/doc_commands.py"], count=False)
    tally.passed += len(re.findall(r"^ran ", log.read_text(errors="replace"), re.MULTILINE))


STAGES = {
    "graph": stage_graph,
    "format": stage_format,
    "shell": stage_shell,
    "release": stage_release,
    "unit": stage_unit,
    "old-cpu": stage_old_cpu,
    "python": stage_python,
    "demo": stage_demo,
    "docs": stage_docs,
    "asan": stage_asan,
    "tsan": stage_tsan,
    "tidy": stage_tidy,
}


def main():
    wanted = sys.argv[1:]
    if wanted == ["--list"]:
        print("\n".join(STAGES))
        return
    unknown = [w for w in wanted if w not in STAGES]
    if unknown:
        sys.exit(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    table = []
    for name in wanted or STAGES:
        print(f"== {name}", flush=True)
        tally = Tally()
        start = time.monotonic()
        STAGES[name](tally)
        minutes = (time.monotonic() - start) / 60
        table.append((name, minutes, tally))
        print(f"   {minutes:.1f} min, {tally.passed} passed, {tally.failed} failed", flush=True)
    print()
    for name, minutes, tally in table:
        print(f"{name:10} {minutes:6.1f} min {tally.passed:6} passed {tally.failed:4} failed")
        for complaint in tally.complaints:
            print(f"           {complaint}")
    print(f"{'all':10} {sum(m for _, m, _ in table):6.1f} min")
    passed = sum(t.passed for _, _, t in table)
    failed = sum(t.failed for _, _, t in table)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
