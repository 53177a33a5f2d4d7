"""Which versions of a model answer its requests, and how that changes."""

from __future__ import annotations

from typing import Mapping, NamedTuple

from mms_handler.errors import BadInput, Conflict


class Traffic(NamedTuple):
    """The versions of a model that get its requests, or got them before.

    Fields:
        served: gets the requests that no other version gets.
        previous: was served before, and is kept for a rollback; None if there is none.
        shares: the percentage of the requests that other versions get, where it is above 0.
    """

    served: str
    previous: str | None = None
    shares: Mapping[str, int] = {}

    def serving(self, version: str) -> Traffic:
        """All requests go to ``version``; the one that was served is kept."""
        if version == self.served:
            return self._replace(shares={})
        return Traffic(version, self.served)

    def sharing(self, version: str, percent: int) -> Traffic:
        """``version`` gets this percentage of the requests.

        Raises:
            Conflict: it is the served version, which gets what the others leave.
            BadInput: the shares would add up to more than 100 percent.
        """
        if version == self.served:
            raise Conflict("the served version gets what others leave: set the share of another")
        shares = {**self.shares, version: percent}
        if sum(shares.values()) > 100:
            raise BadInput(f"share: {percent} is too much; others have {sum(self.shares.values())}")
        return self._replace(shares={each: share for each, share in shares.items() if share})

    def without(self, version: str) -> Traffic:
        """``version``, which is not served, is there no more."""
        shares = {each: share for each, share in self.shares.items() if each != version}
        return Traffic(self.served, None if version == self.previous else self.previous, shares)

    def is_needed(self, version: str) -> bool:
        """Whether ``version`` is kept when another one is loaded or served."""
        return version in {self.served, self.previous, *self.shares}

    def state(self, version: str) -> str:
        """The name of what ``version`` is: served, shared or kept."""
        if version == self.served:
            return "served"
        return "shared" if version in self.shares else "kept"
