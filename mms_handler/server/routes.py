"""The gate's table: which version of a model answers a request (java/mms_handler/Routes.java)."""

from __future__ import annotations

from typing import Iterable, NamedTuple

#: What a version can do for a client: answer; answer again once it is loaded; answer for the first
#: time once it is loaded; answer once it has workers.
READY, LOADING, NEW, IDLE = "READY", "LOADING", "NEW", "IDLE"


class Route(NamedTuple):
    """A line of the table.

    Fields:
        name: the model's.
        version: of the model.
        mms_name: MMS's name of this version.
        state: READY, LOADING, NEW or IDLE.
        percent: of the model's requests, that name no version.
    """

    name: str
    version: str
    mms_name: str
    state: str
    percent: int


def table(invocations: str, routes: Iterable[Route]) -> list[str]:
    """The lines of the table as the gate reads them.

    Args:
        invocations: the model that /invocations means; "" if a request must name one.
        routes: of all versions.
    """
    return [invocations, *(" ".join(map(str, route)) for route in routes)]
