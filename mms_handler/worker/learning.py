"""Learn from a request that succeeded what a packed sample would have shown.

    worker ──first request that succeeds──▶ a fork of the worker: tries faster graphs, and batches
    workers ◀──learned-SHAPES, in the store──┘

A worker forks, and takes over what was learned, between two requests.  Workers that start later
take it over before their first request.  The file has shapes, and nothing that a client sent.

The fork tries in a new thread.  A process that was forked lacks the threads of the OpenMP library,
and would wait for them for ever in the thread that used them; a new thread gets new ones.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np

from mms_handler import models, worker_files
from mms_handler.errors import Failed, attempt
from mms_handler.processes import die_with_parent
from mms_handler.worker import sample
from mms_handler.worker.functions import Run, run_step
from mms_handler.worker.pipeline import Steps
from mms_handler.worker.whole import Whole

log = logging.getLogger(__name__)

#: Requests, of different shapes, from which is learned until a faster graph is found.
LESSONS = 3

#: Seconds that the trying may take.
LIMIT_S = 60

#: How many times as long as at a load a run may take in it: nobody waits, and the machine is busy.
PATIENCE = 5


class Lesson(NamedTuple):
    """A request that succeeded, and the first call of each Block in it."""

    request: Any
    calls: Sequence[sample.Call]

    @property
    def shapes(self) -> str:
        """Stands for the shapes of the calls, as a part of a file's name."""
        shapes = [(array.shape, array.dtype) for _, arrays in self.calls for array in arrays]
        return hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]


class Learning:
    """What requests teach the workers of a model, as one of them sees it."""

    def __init__(self, pipeline: Whole | Steps, folder: Path, batch_size: int) -> None:
        """Nothing is learned yet.

        Args:
            pipeline: answers the requests.
            folder: the model's, which its workers share, and nobody else writes to.
            batch_size: how many requests may come together.
        """
        self._pipeline, self._folder, self._batch_size = pipeline, folder, batch_size
        self._blocks = models.blocks(pipeline.model)
        self._is_default = isinstance(pipeline, Steps) and pipeline.is_default
        self._is_done = not (self._blocks or self._is_default)
        self._let_passes_try(self._is_done)
        self._lesson: Lesson | None = None
        self._trial: tuple[int, str] | None = None  # the process that tries, and its shapes
        self._changed_ns = -1  # when the files that this worker has read were written
        self._taken: set[str] = set()  # the shapes of what was taken over

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to learn."""
        return self._is_done and not self._trial

    def answer(self, requests: Sequence[Any], run: Run = run_step) -> list[Any]:
        """Answer requests as the pipeline does; keep one that can teach something."""
        if self._is_done or self._trial:
            return self._pipeline.answer(requests, run)
        with models.recorded_calls(models.blocks(self._pipeline.model)) as calls:
            replies = self._pipeline.answer(requests, run)
        arrays = [array for _, arguments in calls for array in arguments]
        if all(map(models.is_array, arrays)) and not any(isinstance(r, Failed) for r in replies):
            self._lesson = Lesson(requests[0], calls)
        return replies

    def _let_passes_try(self, let: bool) -> None:
        """Requests that come together do not wait while a trial may try whether they can share."""
        if self._pipeline.passes:
            self._pipeline.passes.tries = let

    def go_on(self) -> None:
        """Do what is to be done between two requests."""
        self._look_at_trial()
        self._take_over()
        lesson, self._lesson = self._lesson, None
        if lesson and not self._is_done and self._is_to_try(lesson):
            self._start_trial(lesson)

    # --- trying ---

    def _is_to_try(self, lesson: Lesson) -> bool:
        return worker_files.claim_learning(self._folder, lesson.shapes, LESSONS, LIMIT_S)

    def _start_trial(self, lesson: Lesson) -> None:
        log.info("no sample was packed: faster ways are tried with a request that succeeded")
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as exc:
            self._give_up(lesson.shapes, str(exc))
            return
        if pid:
            self._trial = pid, lesson.shapes
            return
        try:
            die_with_parent(parent)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
            gc.disable()  # it would write to pages that this process shares with its parent
            thread = threading.Thread(target=self._try, args=(lesson,))
            thread.start()
            thread.join()
        finally:
            os._exit(0)

    def _try(self, lesson: Lesson) -> None:
        """Try faster ways, and write for all workers which ones there are."""
        outcome = attempt(self._tried, lesson)
        if isinstance(outcome, Failed):
            self._give_up(lesson.shapes, f"{type(outcome.exc).__name__}: {outcome.exc}")
        else:
            worker_files.write_learned(self._folder, lesson.shapes, json.dumps(outcome))

    def _tried(self, lesson: Lesson) -> dict[str, Any]:
        """Which ways are faster; no function of the script that the request ran is called."""
        pipeline: Any = self._pipeline
        data = pipeline.read(lesson.request) if self._is_default else None
        graphs, unfused = sample.try_faster(pipeline, data, lesson.calls, patience=PATIENCE)
        learned: dict[str, Any] = {
            "graphs": [[self._blocks.index(block), *graph] for block, graph in graphs],
            "unfused": unfused,
        }
        if data is not None and self._batch_size > 1 and pipeline.passes.shared is None:
            self._let_passes_try(True)
            learned["rows"] = [array.shape for array in data]
            learned["together"] = pipeline.passes.may_share(data)
        return learned

    def _give_up(self, shapes: str, reason: str) -> None:
        log.warning("nothing is learned from a request: %.200s", reason)
        worker_files.write_learned(self._folder, shapes, json.dumps({}))

    def _look_at_trial(self) -> None:
        """Forget a trial that has ended."""
        if not self._trial:
            return
        pid, shapes = self._trial
        status = _status(pid)
        if status is None:
            return
        self._trial = None
        if not worker_files.read_learned(self._folder).get(shapes):
            how = f"exit code {os.WEXITSTATUS(status)}"
            if os.WIFSIGNALED(status):
                how = signal.Signals(os.WTERMSIG(status)).name
            self._give_up(shapes, f"the process that tried ended before it was done ({how})")

    # --- taking over ---

    def _take_over(self) -> None:
        """Take over what was learned since the last call, by this worker or another one."""
        changed_ns = worker_files.written_ns(self._folder)
        if self._is_done or changed_ns == self._changed_ns:
            return
        self._changed_ns = changed_ns
        texts = worker_files.read_learned(self._folder)
        for shapes, text in texts.items():
            if text and shapes not in self._taken and not self._is_done:
                self._taken.add(shapes)
                failure = attempt(self._use, text)
                if isinstance(failure, Failed):
                    exc = failure.exc
                    log.warning("what was learned has no use: %s: %s", type(exc).__name__, exc)
        self._is_done = self._is_done or len(self._taken) >= LESSONS
        self._let_passes_try(self._is_done)

    def _use(self, text: str) -> None:
        learned = json.loads(text)
        if not learned:
            return
        gains = []
        for place, *fields in learned["graphs"]:
            graph = models.FasterGraph(*fields)
            if models.use_graph(self._blocks[place], graph):
                gains.append(graph.gain)
        pipeline: Any = self._pipeline
        if learned["unfused"]:
            pipeline.predictor.unfuse()
        if "rows" in learned:
            rows = [np.zeros(shape, np.float32) for shape in learned["rows"]]
            pipeline.passes.learn(models.Arrays(rows), learned["together"])
        self._is_done = bool(gains) or not self._blocks
        how = "no faster graph was found"
        if gains:
            how = f"predictions are {max(gains):.1f} times as fast"
        log.info("no sample was packed: learned from a request; %s", how)


def _status(pid: int) -> int | None:
    """The status of a child process that has ended; None if it has not."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # the script has waited for it
        return 0
    return status if ended else None
