"""The settings of a server whose only model was tuned."""

from __future__ import annotations

import dataclasses
import logging
from typing import Sequence

from mms_handler import settings
from mms_handler.server.machine import Machine
from mms_handler.server.sources import Source
from mms_handler.settings import Settings

log = logging.getLogger(__name__)


def settings_for(current: Settings, sources: Sequence[Source], machine: Machine) -> Settings:
    """The settings, with those of the archive where neither an option nor a variable sets them.

    Threads and the core are the whole server's, so an archive decides only where it is the only
    model, and only on a machine with as many cores as it was tuned on.

    Args:
        current: the settings of the options and variables, with defaults.
        sources: the models that the server starts with.
        machine: where it runs.
    """
    tuned = [source for source in sources if source.tuned]
    if not tuned:
        return current
    if len(sources) > 1:
        log.info(
            "%s: tuned settings are left out, because there are several models",
            ", ".join(source.name for source in tuned),
        )
        return current
    (source,) = sources
    assert source.tuned is not None
    if source.tuned.cpus != machine.cpus:
        log.warning(
            "%s was tuned for %g cores, and this machine has %g: the defaults are used; "
            "mms-handler tune finds what is best here",
            source.name,
            source.tuned.cpus,
            machine.cpus,
        )
        return current
    defaults = Settings()
    free = {
        name: value
        for name, value in source.tuned.settings().items()
        if getattr(current, name) == getattr(defaults, name) and not settings.is_set(name)
    }
    if free:
        words = ", ".join(f"{name} {value}" for name, value in free.items()).replace("_", " ")
        log.info("%s is served as it was tuned: %s", source.name, words)
    return dataclasses.replace(current, **free)
