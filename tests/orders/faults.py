"""Faults of the plug-in that some order of events shows, with the seed of such an order."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A change of a Java file that makes it wrong.

    Fields:
        name: what is wrong; a folder in the jar has its name.
        events: whose orders show it: ``queue`` or ``connection``.
        source: the file in java/mms_handler, without its ending.
        right, wrong: the text that is there, once, and what it is replaced by.
        seed: of the first order that shows it.
        words: what that order complains of.
        was_real: it was in the plug-in, and these orders have found it.
    """

    name: str
    events: str
    source: str
    right: str
    wrong: str
    seed: int
    words: str
    was_real: bool = False


FAULTS = (
    Fault(
        "a worker that dies while it collects a batch loses the batch",
        "queue",
        "RequestQueue",
        "first ? pollFirstOfBatch() : pollNextOfBatch(timeout, unit)",
        "first ? pollFirstOfBatch() : super.poll(timeout, unit)",
        2,
        "request 3 has the answers []",
        was_real=True,
    ),
    Fault(
        "a worker that has retired stays in the place of one that died",
        "queue",
        "Retire",
        "return retired ? 2 : alive ? 0 : 1;",
        "return retired || !alive ? 1 : 0;",
        116,
        "request 0 has the answers []",
        was_real=True,
    ),
    Fault(
        "a worker that was woken and dies wakes no other one",
        "queue",
        "RequestQueue",
        "} else if (!idle.remove(turn)) {\n                wake();",
        "} else if (!idle.remove(turn)) {",
        1,
        "1 requests wait while 1 workers are idle",
    ),
    Fault(
        "a worker that was woken and is recycled wakes no other one",
        "queue",
        "RequestQueue",
        "served.set(false);\n        passOn();",
        "served.set(false);",
        537,
        "1 requests wait while 1 workers are idle",
    ),
    Fault(
        "a worker that was woken stays among the idle ones",
        "queue",
        "RequestQueue",
        "Turn turn = idle.poll();",
        "Turn turn = idle.peek();",
        1,
        "1 requests wait while 2 workers are idle",
    ),
    Fault(
        "the end of a retired worker is not counted",
        "queue",
        "RequestQueue",
        "retiring--;",
        "",
        3,
        "request 2 has the answers []",
    ),
    Fault(
        "workers that shall retire are still asked to after the scaling",
        "queue",
        "RequestQueue",
        "            retiring = retired.size();\n",
        "",
        2,
        "request 3 has the answers []",
    ),
    Fault(
        "requests in MMS's own queue are forgotten",
        "queue",
        "RequestQueue",
        "((RequestQueue) queue).catchUp();",
        "",
        3,
        "request 6 has the answers []",
    ),
    Fault(
        "requests that wait for an unregistered model are not refused",
        "queue",
        "RequestQueue",
        'job.sendError(HttpResponseStatus.SERVICE_UNAVAILABLE, "The model is unregistered.");',
        "",
        1,
        "request 1 has the answers []",
    ),
    Fault(
        "two requests with one id share a batch",
        "queue",
        "RequestQueue",
        "!batchIds.add(limited.getJobId())",
        "limited.getModelName().isEmpty()",
        2,
        "request 4 has the answers []",
    ),
    Fault(
        "a request that was refused is answered, too",
        "connection",
        "Connection",
        "if (!unanswered || replying) {",
        "if (false) {",
        36,
        "an answer after the last one",
        was_real=True,
    ),
    Fault(
        "a request is carried out although it was cut",
        "connection",
        "Connection",
        "closing = true;\n        refused = true;",
        "closing = true;",
        4,
        "request 0 is carried out although it was refused",
        was_real=True,
    ),
    Fault(
        "the next request on a connection is forgotten",
        "connection",
        "Connection",
        "context.executor().execute(this::resume);",
        "waiting.size();",
        2,
        "it is in phase HEAD",
    ),
    Fault(
        "two requests of a connection are in flight",
        "connection",
        "Connection",
        "return inFlight() ? message instanceof HttpRequest : closing;",
        "return !inFlight() && closing;",
        1,
        "two requests at once",
    ),
    Fault(
        "a request whose client hangs up stays in flight",
        "connection",
        "Connection",
        "unanswered = false;\n            IN_FLIGHT.decrementAndGet();",
        "unanswered = false;",
        3,
        "1 requests in flight",
    ),
    Fault(
        "the drain does not refuse what was not answered in time",
        "connection",
        "Connection",
        "if (event == TOO_LATE && unanswered) {",
        "if (event == TOO_LATE && !unanswered) {",
        21,
        "it still owes an answer in phase ANSWER",
    ),
    Fault(
        "a client that ends its side first gets no answer",
        "connection",
        "Connection",
        "if (inFlight() && !unread) {\n            inputEnded = true;",
        "if (!inFlight() && !unread) {\n            inputEnded = true;",
        1,
        "0 answers to 2 requests, and no last one",
    ),
    Fault(
        "a connection stays open after its last answer",
        "connection",
        "Connection",
        "if (closing || inputEnded && waiting.isEmpty()) {",
        "if (inputEnded && waiting.isEmpty()) {",
        2,
        "3 answers to 5 requests",
    ),
)
