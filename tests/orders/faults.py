"""Faults of the plug-in that some order of events shows, with the seed of such an order."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A change of a Java file that makes it wrong.

    Fields:
        name: what is wrong; a folder in the jar has its name.
        events: whose orders show it: ``lane``, ``connection`` or ``clients``.
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
        "a client that is refused must wait longer each time",
        "clients",
        "Clients",
        "        if (dueNs - nowNs > burstNs) {\n",
        "        if (dueNs - nowNs > burstNs) {\n            client.dueNs = dueNs;\n",
        1,
        "client 0 is refused",
    ),
    Fault(
        "a client's pause lets it send more than a burst",
        "clients",
        "Clients",
        "Math.max(client.dueNs, nowNs) + intervalNs",
        "client.dueNs + intervalNs",
        1,
        "client 0 waits 92 ms, not 500",
    ),
    Fault(
        "an answer does not make room for the client's next request",
        "clients",
        "Clients",
        "        client.underWay--;\n",
        "",
        1,
        "client 0 asks too often",
    ),
    Fault(
        "clients that wait for an answer fill the table",
        "clients",
        "Clients",
        "byName.size() > most; spared++",
        "byName.size() > most && spared < 1; spared++",
        4,
        "124 clients are remembered",
    ),
    Fault(
        "a worker that gets a batch stays among the idle ones",
        "lane",
        "Lane",
        "idle.pop().send(batch);",
        "idle.peek().send(batch);",
        2,
        "nobody waits for request 3",
    ),
    Fault(
        "the worker that was busy last waits for its turn",
        "lane",
        "Lane",
        "idle.addFirst(worker);",
        "idle.addLast(worker);",
        3,
        "worker 5 gets requests before worker 4",
    ),
    Fault(
        "a worker that died stays among the idle ones",
        "lane",
        "Lane",
        "        idle.remove(worker);\n",
        "",
        2,
        "request 8 has no answer",
    ),
    Fault(
        "a batch has more requests than its worker takes",
        "lane",
        "Lane",
        "Math.min(takes, batchSize)",
        "batchSize",
        2,
        "worker 1 gets 3",
    ),
    Fault(
        "the bytes of requests that have waited are still counted",
        "lane",
        "Lane",
        "WAITING_BYTES.addAndGet(-call.bytes());",
        "",
        1,
        "51 bytes wait",
    ),
    Fault(
        "requests wait although there is no room",
        "lane",
        "Lane",
        "waiting.isEmpty() || waiting.size() < capacity && fits",
        "true",
        5,
        "5 requests wait",
    ),
    Fault(
        "requests that wait for an unregistered model are not refused",
        "lane",
        "Lane",
        "refused.add(poll());",
        "poll();",
        1,
        "request 3 has no answer",
    ),
    Fault(
        "a request for an unregistered model waits",
        "lane",
        "Lane",
        "if (closed) {",
        "if (false) {",
        1,
        "request 6 has no answer",
    ),
    Fault(
        "a worker that is to end gets another batch",
        "lane",
        "Lane",
        "if (worker == leaving) {",
        "if (false) {",
        14,
        "worker 0 gets a batch, and was to end",
    ),
    Fault(
        "a request is carried out whose client has hung up",
        "lane",
        "Lane",
        "            if (call.isWanted()) {\n                batch.add(call);",
        "            if (true) {\n                batch.add(call);",
        1,
        "nobody waits for request 0",
    ),
    Fault(
        "what waits is not handed out when the event loop has read all",
        "lane",
        "Lane",
        "loop.execute(this::handOut);",
        "",
        2,
        "1 requests wait while a worker is idle",
    ),
    Fault(
        "the requests of a worker that died are forgotten",
        "lane",
        "LaneWorker",
        "calls.forEach(\n                call -> call.fail(",
        "calls.subList(0, 0).forEach(\n                call -> call.fail(",
        5,
        "request 8 has no answer",
    ),
    Fault(
        "a worker that has said goodbye is idle",
        "lane",
        "LaneWorker",
        "leaving |= replies.isEmpty();",
        "",
        4,
        "request 6 has no answer",
    ),
    Fault(
        "a reply goes to another request of its batch",
        "lane",
        "LaneWorker",
        "Call call = batch.get(reply.index);",
        "Call call = batch.get(calls.size());",
        1,
        "request 2 has no answer",
    ),
    Fault(
        "a request gets two replies",
        "lane",
        "LaneWorker",
        "call == null || calls.contains(call)",
        "call == null",
        5,
        "worker 1 is still connected",
    ),
    Fault(
        "a worker is idle while it has requests",
        "lane",
        "LaneWorker",
        "} else if (unanswered == 0) {",
        "} else {",
        14,
        "worker 0 gets a batch, and has one",
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
