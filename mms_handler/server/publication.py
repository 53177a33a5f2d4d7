"""What the gate is told of the models: its table of routes, and the documents for clients."""

from __future__ import annotations

import threading
from typing import Callable, Iterable

from mms_handler.server import documents, routes
from mms_handler.server.api_parts import Described
from mms_handler.server.documents import Documents
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.state import State
from mms_handler.server.store import Store


class Publication:
    """Tells the gate.  Safe to call from any thread."""

    def __init__(
        self, front_end: FrontEnd, store: Store, multi_model: bool, startup: Iterable[str]
    ) -> None:
        """Tell nothing yet.

        Args:
            front_end: has the gate.
            store: has the models' folders.
            multi_model: whether the server is for many models.
            startup: the models with which it starts.  If there are such, /invocations can mean no
                other one.
        """
        self._front_end, self._store = front_end, store
        self._multi_model, self._startup = multi_model, frozenset(startup)
        self._documents = Documents(front_end.folder / "tmp" / "documents")
        self._described: dict[
            tuple[str, bool], Described
        ] = {}  # by MMS's name, and if it is loaded
        self._lock = threading.Lock()

    def publish(self, look: Callable[[], State]) -> None:
        """Tell the gate which versions there are.

        Args:
            look: gives the state as it is now; called when it is this thread's turn, so that no
                older state follows a newer one.

        Raises:
            ServerError: Java does not answer.
        """
        with self._lock:
            state = look()
            invocations = self._invocations(state)
            self._write_documents(state, invocations)
            self._front_end.set_routes(routes.table(invocations, state.routes()))

    def _invocations(self, state: State) -> str:
        there = {*state.traffic, *state.expected}
        meant = there & self._startup if self._startup else there
        return "" if self._multi_model or len(meant) != 1 else next(iter(meant))

    def _write_documents(self, state: State, invocations: str) -> None:
        """Let the gate know what models take and give; what is known of a loaded one stays."""
        known = self._described
        self._described = {
            (mms_name, model.listener is not None): known.get(
                (mms_name, model.listener is not None)
            )
            or documents.describe(model.name, model.version, self._store.folder(mms_name))
            for mms_name, model in state.models.items()
        }
        described = {mms_name: each for (mms_name, _), each in self._described.items()}
        there = [mms_name for mms_name in state.served() if mms_name in described]
        self._documents.write(described, there, invocations, self._multi_model)
