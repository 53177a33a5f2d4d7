"""Report to the other hosts of a job what fails on this one before it joins them.

They may wait already, and would do so until the time for joining is over.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Callable, Iterator

from mms_handler.errors import HandlerError, TrainingError
from mms_handler.training import cluster

if TYPE_CHECKING:
    from mms_handler.training.job import Job

log = logging.getLogger(__name__)

#: Seconds for which the other hosts' names are looked up.
RESOLVE_S = 5


@contextlib.contextmanager
def reported(job: Job, local_port: int | None = None) -> Iterator[None]:
    """Report an error of the ``with`` block to the job's other hosts, which then fail too.

    Args:
        job: this host's part.  Of its hosts and hyperparameters nothing has been checked.
        local_port: the first port in a trial in which every host is 127.0.0.1.
    """
    try:
        yield
    except (HandlerError, OSError) as exc:
        if len(job.hosts) > 1 and job.current_host in job.hosts:
            try:
                addresses = cluster.addresses(job.hosts, resolver(local_port), RESOLVE_S)
                cluster.report(exc, job.current_host, addresses, first_port(job, local_port))
            except cluster.EndedBefore:
                raise
            except (TrainingError, OSError) as trouble:
                log.warning("the other hosts do not know of the failure: %s", trouble)
        raise


def resolver(local_port: int | None) -> Callable[[str], str]:
    """Finds a host's address; in a trial, all hosts are this machine."""
    return (lambda host: "127.0.0.1") if local_port else socket.gethostbyname


def first_port(job: Job, local_port: int | None = None) -> int:
    """The first of the successive ports that hosts use for each other."""
    return local_port or job.whole_number("_ps_port", 8000)
