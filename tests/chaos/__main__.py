"""Cause each fault under good load, and print what became of the good requests.

python -m tests.chaos [WORD...]

The exit code is 1 if a line misses the goal: no wrong answer, none lost unless the fault is the
server's own death, good answers again within 10 s, and nothing left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

import psutil

from mms_handler.errors import ServerError
from tests.chaos.faults import FAULTS, Fault, Scene, command
from tests.chaos.load import Load
from tests.chaos.serving import Server, State, write_models

#: Seconds within which good answers must come again.
GOAL_S = 10

#: Seconds beyond a request's time limit after which a server that has not recovered is given up.
MORE_S = 15

#: Seconds of good answers after which it has recovered.
STEADY_S = 1.5

_HEAD = (
    "| fault | good | lost | wrong | 5xx | longest wait, s | recovered after, s "
    "| left behind | goal |"
)
_RULE = "|---|---|---|---|---|---|---|---|---|"


class Line(NamedTuple):
    """What became of the requests during one fault."""

    fault: Fault
    kinds: Counter[str]
    longest_s: float
    recovery_s: float
    left: State
    remarks: Sequence[str]

    def meets_goal(self) -> bool:
        lost = 0 if self.fault.ends_server else self.kinds["lost"]
        counts = lost, self.kinds["wrong"], *self.left, len(self.remarks)
        return self.recovery_s < GOAL_S and not any(counts)

    def text(self) -> str:
        recovery = f"{self.recovery_s:.1f}" if self.recovery_s < float("inf") else "never"
        counts = {
            "processes": self.left.processes,
            "paths": len(self.left.paths),
            "sockets": self.left.sockets,
        }
        left = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        cells = (
            self.fault.name,
            *(self.kinds[kind] for kind in ("good", "lost", "wrong", "5xx")),
            f"{self.longest_s:.1f}",
            recovery,
            left or "nothing",
            "met" if self.meets_goal() else "missed",
        )
        return f"| {' | '.join(map(str, cells))} |"


class Stage:
    """One server after another on the same ports, under load all the time."""

    def __init__(self, folder: Path, timeout_s: int) -> None:
        self._folder, self._store = folder, folder / "store"
        self._timeout_s, self._limit_s = timeout_s, timeout_s + MORE_S
        self._numbers = itertools.count()
        write_models(self._store)
        self.server: Server | None = None
        self.load: Load | None = None
        self._before = State()
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Start a server and its load; the earlier ones end."""
        self.end()
        for tries_left in (2, 1, 0):  # on a busy machine a worker may not load within its limit
            try:
                self._start_server()
                break
            except ServerError:
                if not tries_left:
                    raise
                self.end()
        assert self.server
        self.load = self._stack.enter_context(Load(self.server.ports[0], self._timeout_s + 5))
        self.load.wait_until_steady(time.monotonic(), STEADY_S, self._limit_s)
        self._settle()

    def _start_server(self) -> None:
        ports = self.server.ports if self.server else None
        folder = self._folder / f"server-{next(self._numbers)}"
        self.server = Server(folder, self._store, self._timeout_s, ports)
        self.server.start()

    def _settle(self) -> None:
        """Take the server's state as the one that it must return to."""
        assert self.server
        assert self.load
        with self.load.pause():
            self._before = self.server.state()
        self.load.wait_until_steady(time.monotonic(), 0.5, self._limit_s)

    def end(self) -> None:
        self._stack.close()
        if self.server:
            self.server.end()

    def cause(self, fault: Fault) -> Line:
        """Cause a fault, wait until the server has recovered, and count."""
        assert self.server
        assert self.load
        remarks: list[str] = []
        if fault.uses_hostile:
            fields = {"model_name": "hostile", "url": "hostile", "initial_workers": 1}
            status = self.server.manage("POST", "/models", fields)
            if status != 200:
                remarks.append(f"registering the hostile model: {status}")
        self.load.take()
        with contextlib.ExitStack() as held:
            time.sleep(0.5)
            complaint = _complaint(fault, Scene(self.server, held))
            remarks += [complaint] if complaint else []
            ended_s = time.monotonic()
            left = State()
            if fault.ends_server:
                left = self._left_by_dead()
                self._start_server()
            recovery_s = self.load.wait_until_steady(ended_s, STEADY_S, self._limit_s)
            recovery_s = max(recovery_s, self._complete(ended_s))
            if fault.uses_hostile and "removed" not in fault.name:
                answered_s = self._hostile_answers(ended_s)
                recovery_s = max(recovery_s, answered_s)
        if fault.uses_hostile:
            self.server.manage("DELETE", "/models/hostile")
        if not fault.ends_server and self.server.process.poll() is not None:
            remarks.append(f"serve ended with exit code {self.server.process.poll()}")
        elif fault.ends_server:
            self._settle()
        else:
            left = self._left()
        if left.paths:
            remarks.append(f"left behind: {', '.join(sorted(left.paths)[:5])}")
        result = self.load.take()
        kinds = result.kinds
        remarks += [
            f"{count} x {detail}" for detail, count in result.failures.most_common(3)
        ] * bool(kinds["wrong"] or (kinds["lost"] and not fault.ends_server))
        return Line(fault, kinds, result.wait_s(1), recovery_s, left, remarks)

    def _complete(self, after_s: float) -> float:
        """Seconds until every worker is back; 0 if all are there."""
        assert self.server
        if self.server.is_complete():
            return 0.0
        while not self.server.is_complete():
            if time.monotonic() > after_s + self._limit_s or self.server.process.poll() is not None:
                return float("inf")
            time.sleep(0.1)
        return time.monotonic() - after_s

    def _hostile_answers(self, after_s: float) -> float:
        """Seconds until the hostile model answers again; 0 if it does at once."""
        assert self.server
        tries = 0
        while time.monotonic() < after_s + self._limit_s:
            if command(Scene(self.server, contextlib.ExitStack()), "nothing", self._limit_s) == 200:
                return time.monotonic() - after_s if tries else 0.0
            tries += 1
            time.sleep(0.2)
        return float("inf")

    def _left(self) -> State:
        """What the server has beyond what it had before.

        What goes within the time that a model may take to load does not count.
        """
        assert self.server
        assert self.load
        deadline_s = time.monotonic() + self._timeout_s
        with self.load.pause():
            while any(left := self.server.state().beyond(self._before)):
                if time.monotonic() > deadline_s:
                    break
                time.sleep(0.2)
        self.load.wait_until_steady(time.monotonic(), 0.3, 5)
        return left

    def _left_by_dead(self) -> State:
        """The processes and paths that are there 3 s after the server's end."""
        assert self.server
        _, alive = psutil.wait_procs(self.server.alive(), 3)
        folders = list((self.server.folder / "tmp").glob("mms-handler-*"))
        return State(len(alive), frozenset(map(str, folders)))


def _complaint(fault: Fault, scene: Scene) -> str | None:
    """Cause a fault; returns what it complains of, or why it could not be caused."""
    try:
        return fault.cause(scene)
    except (psutil.Error, StopIteration, OSError) as exc:  # a process is not there
        return f"it could not be caused: {type(exc).__name__}: {exc}"


def _matching(words: Sequence[str]) -> list[Fault]:
    return [
        fault
        for fault in FAULTS
        if not words or any(word in f"{fault.section}: {fault.name}" for word in words)
    ]


def _lines(stage: Stage, faults: Sequence[Fault]) -> Iterator[Line]:
    """Cause each fault; one that missed the goal does not spoil the next."""
    section = ""
    for fault in faults:
        if fault.section != section:
            section = fault.section
            stage.start()
        line = stage.cause(fault)
        if not line.meets_goal():
            section = ""
        yield line


def main(arguments: argparse.Namespace) -> int:
    start_s, missed = time.monotonic(), 0
    print(_HEAD, _RULE, sep="\n")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        stage = Stage(Path(folder), arguments.timeout_s)
        try:
            for line in _lines(stage, _matching(arguments.words)):
                print(line.text(), flush=True)
                for remark in line.remarks:
                    print(f"{line.fault.name}: {remark}", file=sys.stderr, flush=True)
                missed += not line.meets_goal()
        except ServerError as exc:
            print(exc, file=sys.stderr)
            missed += 1
        finally:
            stage.end()
    print(f"\n{missed} missed the goal; {time.monotonic() - start_s:.0f} s", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.chaos")
    help = "of a fault's name or section; without any, all faults"
    parser.add_argument("words", metavar="WORD", nargs="*", help=help)
    help = "for a request and for loading a model; more on a busy machine (default: 7)"
    parser.add_argument("--timeout-s", type=int, default=7, help=help)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the server
    sys.exit(main(parser.parse_args()))
