"""Fuzz every target: ``make fuzz``, or ``python tests/fuzz --help``.

Each target runs in a process of its own, guided by coverage where atheris is installed.  The
result is a table.  An input that fails is shown as a line for tests/fuzz/corpus/TARGET.txt.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import fuzz_engine
import fuzz_targets

#: Bytes of an input that --keep writes into the corpus, and how many it writes for a target.
KEEP_BYTES, KEEP = 200, 40

ROOT = Path(__file__).parents[2]


class Row(NamedTuple):
    """One line of the table."""

    target: str
    inputs: int
    seconds: float
    before: int | None
    after: int | None
    failure: str
    data: bytes | None
    trace: str = ""


def main() -> int:
    """Run what the command line says; 1 if an input failed."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=", ".join(fuzz_targets.names()))
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seconds", type=int, default=0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("--keep", action="store_true", help="add inputs with new coverage")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options)
        return 0
    targets = options.targets or fuzz_targets.names()
    guided = not options.blind and importlib.util.find_spec("atheris") is not None
    shares = {name: _share(name) for name in targets}
    rows = []
    print(f"{'target':<18} {'inputs':>9} {'seconds':>8} {'edges':>7} {'new':>6}  failure")
    for name in targets:
        part = shares[name] / sum(shares.values())
        # A target that is slower than its share ends at its seconds.
        seconds = max(1, round(options.seconds / len(targets))) if options.seconds else 0
        row = _run(name, max(1, round(options.inputs * part)), seconds, guided, options)
        rows.append(row)
        print(_line(row), flush=True)
    failed = [row for row in rows if row.failure]
    print(_line(_total(rows)))
    for row in failed:
        print(f"\n{row.target}: {row.failure}\n{row.data!r}\n{row.trace}")
    return 1 if failed else 0


def _share(name: str) -> int:
    return next(shares[name] for shares in fuzz_targets.SHARES.values() if name in shares)


def _total(rows: list[Row]) -> Row:
    edges = [(row.before or 0, row.after or 0) for row in rows]
    failures = sum(bool(row.failure) for row in rows)
    return Row(
        "all",
        sum(row.inputs for row in rows),
        sum(row.seconds for row in rows),
        sum(before for before, _ in edges),
        sum(after for _, after in edges),
        str(failures) if failures else "",
        None,
    )


def _line(row: Row) -> str:
    new = "" if row.after is None or row.before is None else f"{row.after - row.before:+}"
    edges = "" if row.after is None else str(row.after)
    return (
        f"{row.target:<18} {row.inputs:>9,} {row.seconds:>8.0f} {edges:>7} {new:>6}  "
        f"{row.failure[:90] or '-'}"
    )


def _run(name: str, inputs: int, seconds: int, guided: bool, options: argparse.Namespace) -> Row:
    """Run one target in a process of its own."""
    guided = guided and name not in fuzz_targets.NOT_PYTHON
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        words = [sys.executable, str(Path(__file__).parent), name, "--child", folder]
        words += ["--inputs", str(inputs), "--seconds", str(seconds or 10**6)]
        words += ["--seed", str(options.seed), *([] if guided else ["--blind"])]
        start = time.monotonic()
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": folder}
        if name == "core":
            env.update(_with_sanitizers(Path(folder)))
        ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
        took = time.monotonic() - start
        text = ended.stdout.decode("utf-8", "replace")
        row = _guided_row(name, took, text) if guided else _blind_row(name, took, text)
        artifacts = [
            path for path in Path(folder).iterdir() if re.match("(crash|oom|time)", path.name)
        ]
        if artifacts:
            row = row._replace(data=artifacts[0].read_bytes())
        if (ended.returncode or artifacts) and not row.failure:
            row = row._replace(failure=_reason(text), trace=_trace(text))
        if options.keep and not row.failure:
            _keep(name, Path(folder) / "corpus")
    return row


def _with_sanitizers(folder: Path) -> dict[str, str]:
    """Build the compiled core so that it ends at an error; returns the variables to run it with.

    Without a compiler there are none, and the installed core is fuzzed, if there is one.
    """
    compiler = shutil.which("g++")
    if not compiler:
        return {}
    flags = ["-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-DPy_LIMITED_API=0x03080000"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-w"]
    include = f"-I{sysconfig.get_path('include')}"
    source, library = str(ROOT / "core" / "module.cpp"), str(folder / "_core.abi3.so")
    subprocess.run([compiler, *flags, include, source, "-o", library], check=True)
    asked = [compiler, "-print-file-name=libasan.so"]
    return {
        "FUZZ_CORE": str(folder),
        "LD_PRELOAD": subprocess.run(asked, capture_output=True, text=True).stdout.strip(),
        "PYTHONMALLOC": "malloc",  # or the sanitizer would not see where an object ends
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees not all that it has at its end
    }


def _guided_row(name: str, took: float, text: str) -> Row:
    """Read libFuzzer's statistics."""
    edges = [int(count) for count in re.findall(r"^#\d+\s+\S+\s+cov: (\d+)", text, re.MULTILINE)]
    initial = re.findall(r"^#\d+\s+INITED\s+cov: (\d+)", text, re.MULTILINE)
    units = re.findall(r"number_of_executed_units: (\d+)", text)
    before = int(initial[0]) if initial else None
    return Row(name, int(units[-1]) if units else 0, took, before, max(edges, default=0), "", None)


def _blind_row(name: str, took: float, text: str) -> Row:
    count = re.findall(r"^inputs: (\d+)", text, re.MULTILINE)
    return Row(name, int(count[-1]) if count else 0, took, None, None, "", None)


def _reason(text: str) -> str:
    """The last line of a traceback, or of all that was printed."""
    errors = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exit|Interrupt)\b.*", text, re.MULTILINE)
    errors += re.findall(r"^Fatal Python error: .*", text, re.MULTILINE)  # native code crashed
    errors += re.findall(r"ERROR: AddressSanitizer: .*|runtime error: .*", text)
    errors += re.findall(r"ERROR: libFuzzer: .*", text)
    return errors[0] if errors else (text.strip().splitlines() or ["ended without a word"])[-1]


def _trace(text: str) -> str:
    """The end of the first traceback, or where native code crashed."""
    crash = re.search(r"^Fatal Python error: .*?(?=\n\n(?!Current)|\n==|\Z)", text, re.M | re.S)
    if crash:
        return "\n".join(crash.group().splitlines()[:14])
    trace = re.search(r"^ *Traceback .*?\n *\S*(Error|Exception|Exit)\b[^\n]*", text, re.M | re.S)
    return "\n".join(trace.group().splitlines()[-14:]) if trace else text[-2000:]


def _child(options: argparse.Namespace) -> None:
    (name,) = options.targets
    work = Path(options.child)
    if not options.blind:
        fuzz_engine.run_guided(name, work, options.inputs, options.seconds, options.seed)
    target = fuzz_targets.load(name)
    result = fuzz_engine.run(target, options.inputs, options.seconds, options.seed)
    print(f"inputs: {result.inputs}", file=sys.stderr)
    if result.failure:
        (work / "crash").write_bytes(result.failure.data)
        raise result.failure.exc


def _keep(name: str, corpus: Path) -> None:
    """Add short inputs that reached new code to the kept ones."""
    present = {*fuzz_targets.kept(name), *fuzz_targets.load(name).seeds()}
    new = [path.read_bytes() for path in sorted(corpus.glob("*"))]
    short = [data for data in new if len(data) <= KEEP_BYTES and data not in present]
    path = fuzz_targets.CORPUS / f"{name}.txt"
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{data!r}\n" for data in sorted(short, key=len)[:KEEP])


if __name__ == "__main__":
    sys.exit(main())
