"""Time a worker's Python for each request of a batch, beside MMS's reader with a no-op handler.

    python -m benchmarks.batches [--rounds 5] [--seconds 0.5]

Processor time, in microseconds a request: medians with the minimum and maximum.  Each worker runs
in a process of its own, as under a front end (one_worker.py), and they take turns, round by round.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, Sequence

from benchmarks import one_worker, packing, report
from benchmarks.one_worker import Handler, Worker
from benchmarks.plan import Plan, rotated
from benchmarks.results import Results
from benchmarks.scenarios import CORE_OFF, OURS, PLAIN
from benchmarks.servers import NO_OP, no_op_model

OUR_HANDLER = "mms_handler.service:handle"

#: What ``serve`` sets in its workers' environment.
SERVE_ENV = {"MXNET_ENGINE_TYPE": "NaiveEngine", "MMS_HANDLER_SUPERVISED": "true"}

NOTHING = "MMS's reader, no-op"


class Case(NamedTuple):
    """Requests that come together: their model and bodies, and how many they are."""

    model: str
    rows: int
    kind: str
    requests: int

    def title(self) -> str:
        return f"{self.model}, {self.rows} x 784, {self.kind}, batch of {self.requests}"


CASES = [
    *(Case("mnist", 1, kind, requests) for kind in ("json", "csv", "npy") for requests in (1, 32)),
    *(Case("mnist", 100, "json", requests) for requests in (1, 8)),
    *(Case("mlp", 1, "json", requests) for requests in (1, 32)),
]


def measure(name: str, case: Case, seconds: float, plan: Plan, results: Results) -> None:
    """Add the microseconds of each round to ``results``, as scenario ``name``.

    Raises:
        RuntimeError: an answer is not MXNet's.
    """
    traffic = plan.traffic(case.model, case.rows, case.kind)
    bodies = [traffic.bodies()[number % len(traffic.files)] for number in range(case.requests)]
    with contextlib.ExitStack() as stack:
        workers: dict[str, tuple[Worker, bytes]] = {}
        for handler in _handlers(plan):
            model = _model(case, handler, plan)
            worker = stack.enter_context(one_worker.loaded(handler, model, plan.work, 32))
            batch = one_worker.batch_of(worker, bodies, case.kind)
            replies = worker.answer(batch)
            for number, (_, reply) in enumerate(replies):
                right = traffic.right(number % len(traffic.files), reply, 1e-3)
                if handler.joins and not right:
                    raise RuntimeError(f"{handler.name} answers wrongly: {reply!r}")
            worker.cpu_us(batch, seconds / 2)
            workers[handler.name] = worker, batch
        for number in range(plan.rounds):
            for system, (worker, batch) in rotated(list(workers.items()), number):
                results.add(name, system, {"us": worker.cpu_us(batch, seconds)})


def _handlers(plan: Plan) -> Sequence[Handler]:
    return (
        Handler(OURS, plan.python, OUR_HANDLER, SERVE_ENV, joins=True),
        Handler(PLAIN, plan.python, OUR_HANDLER, {**SERVE_ENV, **CORE_OFF}, joins=True),
        Handler(NOTHING, plan.python, NO_OP, {}),
    )


def _model(case: Case, handler: Handler, plan: Plan) -> Path:
    if handler.joins:
        return packing.unpacked(plan.model(case.model), plan.work)
    return no_op_model(plan.work)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each (default: 0.5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        plan = Plan.standalone(Path(work), arguments.rounds)
        for case in CASES:
            results = Results({}, {})
            measure("case", case, arguments.seconds, plan, results)
            figures = (
                f"{system} {report.spread(results.column('case', system, 'us'))}"
                for system in results.systems("case")
            )
            sys.stdout.write(f"{case.title()}: {'; '.join(figures)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
