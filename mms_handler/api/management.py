"""The models of a running server, and their versions, as functions of its management API."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from mms_handler import settings
from mms_handler.errors import (
    ArchiveError,
    BadInput,
    Conflict,
    HandlerError,
    NameTaken,
    NoSuchModel,
    OutOfResources,
    ServerError,
    Unauthorized,
    Unavailable,
    UntrustedArchive,
)

if TYPE_CHECKING:
    from mms_handler.client import Answer

_ERRORS = {
    error.status: error
    for error in (
        *(BadInput, Unauthorized, UntrustedArchive, NoSuchModel),
        *(Conflict, Unavailable, OutOfResources),
    )
}


class Management:
    """The models of a server on this machine.

    Each method raises the HandlerError that has the reply's status if the server refuses, and
    ServerError if no answer comes.
    """

    def __init__(
        self, port: int | None = None, *, token: str | None = None, timeout_s: float = 600
    ) -> None:
        """Use a server's management API.

        Args:
            port: of the management API; None: MMS_HANDLER_MANAGEMENT_PORT, else 8081.
            token: for the management API; None: the one in MMS_HANDLER_TOKEN_FILE, if there is one.
            timeout_s: seconds to wait for each answer.  A load that lasts longer goes on.
        """
        current = settings.current()
        self._url = f"http://127.0.0.1:{port or current.management_port}/models"
        self._timeout_s = timeout_s
        if token is None and current.token_file:
            from mms_handler.server.access import read_tokens

            token = read_tokens(Path(current.token_file)).management
        self._token = token or ""

    def models(self) -> list[dict[str, Any]]:
        """All models: each with modelName, modelVersion and modelUrl."""
        page = self._call("GET", ())
        models: list[dict[str, Any]] = page["models"]
        while token := page.get("nextPageToken"):
            page = self._call("GET", (), next_page_token=token)
            models += page["models"]
        return models

    def describe(self, name: str, version: str = "") -> dict[str, Any]:
        """A model as it is served, with its workers and ``versions``; or one version of it."""
        return self._call("GET", (name, version) if version else (name,))

    def load(
        self,
        place: str | os.PathLike[str],
        *,
        name: str | None = None,
        version: str | None = None,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Load a model; it answers requests when this returns.

        Args:
            place: a path in the server's model store, or an address that the server allows.
            name: the model's; None: its manifest's, or that of its file or folder.
            version: its version; None: its manifest's, or the next number.
            workers: worker processes; None: as many as the server gives each model.

        Returns:
            Its description.
        """
        name = name or own_name(place)
        self._register(place, model_name=name, version=version, initial_workers=workers)
        return self.describe(name)

    def swap(
        self,
        name: str,
        place: str | os.PathLike[str] | None = None,
        *,
        version: str | None = None,
        share: int | None = None,
    ) -> dict[str, Any]:
        """Serve another version of a model; no request fails meanwhile.

        Args:
            name: the model's.
            place: the new version, as for ``load``; None: ``version`` is loaded already.
            version: as for ``load``.
            share: the percentage of the requests that it gets, beside the version that is served;
                None: it gets all, and the one that was served is kept for ``rollback``.

        Returns:
            The model's description.
        """
        if place is not None:
            self._register(place, model_name=name, version=version, share=share, replace=True)
        elif not version:
            raise BadInput("a swap needs the new version's path, or the name of one that is loaded")
        elif share is None:
            self._call("PUT", (name, version, "set-default"))
        else:
            self._call("PUT", (name, version), share=share)
        return self.describe(name)

    def rollback(self, name: str) -> dict[str, Any]:
        """Serve the version again that was served before; returns the model's description."""
        self._call("POST", (name, "rollback"))
        return self.describe(name)

    def scale(self, name: str, workers: int, version: str = "") -> dict[str, Any]:
        """Set the number of workers, of the served version or of another one.

        Returns:
            The model's description.
        """
        words = (name, version) if version else (name,)
        self._call("PUT", words, min_worker=workers, max_worker=workers)
        return self.describe(name)

    def unload(self, name: str, version: str = "") -> None:
        """Unload a model, or one version of it that is not served."""
        self._call("DELETE", (name, version) if version else (name,))

    def _register(self, place: str | os.PathLike[str], **fields: Any) -> None:
        url = os.fspath(place)
        if "://" not in url and os.path.exists(url):
            url = os.path.abspath(url)  # the server has another working directory
        self._call("POST", (), url=url, **fields)

    def _call(self, method: str, words: Sequence[str], **fields: Any) -> dict[str, Any]:
        from mms_handler import client

        answer = client.manage(
            self._url,
            method,
            words,
            {name: value for name, value in fields.items() if value is not None},
            token=self._token,
            timeout_s=self._timeout_s,
        )
        if answer.status >= 400:
            raise _error(answer)(answer.message() or f"the server answered {answer.status}")
        try:
            reply = json.loads(answer.body)
        except ValueError:
            raise ServerError(f"{self._url} is not the management API of a server") from None
        return dict(reply[0] if isinstance(reply, list) else reply)


def _error(answer: Answer) -> type[HandlerError]:
    if answer.error() == NameTaken.__name__:
        return NameTaken
    return _ERRORS.get(answer.status, ServerError)


def own_name(place: str | os.PathLike[str]) -> str:
    """The name that a model gets if no other is given.

    Raises:
        ArchiveError: there is none.
    """
    from mms_handler.server import sources

    path = Path(place)
    if path.exists():
        return sources.own_name(path)
    if name := sources.stem(path.name):
        return name
    raise ArchiveError(f"{place} does not give the model's name: name it")
