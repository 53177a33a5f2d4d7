"""Which versions there are at one moment, and which of them answers the requests for a model."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, NamedTuple

from mms_handler import names
from mms_handler.errors import NoSuchModel, Unavailable
from mms_handler.server import routes
from mms_handler.server.changes import Change
from mms_handler.server.mms_models import Serving
from mms_handler.server.registry import Model
from mms_handler.server.routes import Route
from mms_handler.server.traffic import Traffic


class State(NamedTuple):
    """The models of a server at one moment.

    Fields:
        models: the versions by MMS's names.
        traffic: by model.
        changes: that are under way, by model.
        expected: the models that are about to be registered.
        leaving: MMS's names of versions that are about to be unloaded.
    """

    models: Mapping[str, Model]
    traffic: Mapping[str, Traffic]
    changes: Mapping[str, Change]
    expected: frozenset[str]
    leaving: frozenset[str]

    def versions(self, name: str) -> dict[str, Model]:
        """The versions of a model by MMS's names, in the order in which they were loaded."""
        return {key: model for key, model in self.models.items() if model.name == name}

    def served(self) -> list[str]:
        """MMS's names of the versions that answer requests without a version."""
        return [traffic.served for _, traffic in sorted(self.traffic.items())]

    def is_being_registered(self, name: str) -> bool:
        """Whether the first version of a model is being loaded."""
        change = self.changes.get(name)
        return name not in self.traffic and change is not None and bool(change.url)

    def find(self, name: str, version: str = "") -> str:
        """MMS's name of a version of a model; without ``version``, of the served one.

        Raises:
            NoSuchModel: there is none.
            Unavailable: the model is being registered.
        """
        traffic = self.traffic.get(name)
        if traffic is None:
            if self.is_being_registered(name):
                raise Unavailable(f"{name} is being registered; try again when it is")
            raise NoSuchModel(f"Model not found: {name}")
        if not version:
            return traffic.served
        for mms_name, model in self.versions(name).items():
            if model.version == version and mms_name not in self.leaving:
                return mms_name
        raise NoSuchModel(f"Model not found: {name}/{version}")

    def title(self, mms_name: str) -> str:
        """What the log calls a version: by its model alone, if there is no other one."""
        model = self.models.get(mms_name)
        if model is None or len(self.versions(model.name)) == 1:
            return names.shown(mms_name)
        return f"{model.name} version {model.version}"

    def serving(self, name: str) -> Serving | None:
        """How a model is served; None if there is no such model."""
        traffic = self.traffic.get(name)
        model = self.models.get(traffic.served) if traffic else None
        return model.serving if model else None

    def listing(self) -> list[dict[str, Any]]:
        """Name, version and url of each model, as it is served."""
        served = [self.models.get(mms_name) for mms_name in self.served()]
        return [
            {"modelName": model.name, "modelUrl": model.url, "modelVersion": model.version}
            for model in served
            if model
        ]

    def describe(self, name: str) -> list[dict[str, Any]]:
        """A line of the management API for each version of a model that is loaded."""
        traffic = self.traffic[name]
        return [
            {
                "modelVersion": model.version,
                "state": traffic.state(mms_name),
                "share": self._percent(traffic, mms_name),
                "modelUrl": model.url,
                "minWorkers": model.serving.workers,
            }
            for mms_name, model in self.versions(name).items()
        ]

    def routes(self) -> Iterator[Route]:
        """The versions as the gate knows them."""
        for mms_name, model in self.models.items():
            traffic = self.traffic.get(model.name)
            if traffic and mms_name not in self.leaving:
                percent = self._percent(traffic, mms_name)
                yield Route(model.name, model.version, mms_name, _readiness(model), percent)
        for name, change in self.changes.items():
            first = name not in self.traffic
            new = change.version and (first or change.mms_name not in self.models)
            if new and name not in self.expected:
                percent = 100 if first else 0
                yield Route(name, change.version, change.mms_name, routes.NEW, percent)
        for name in self.expected.difference(self.traffic):
            yield Route(name, "", name, routes.LOADING, 100)

    def _percent(self, traffic: Traffic, mms_name: str) -> int:
        """Of its model's requests, what a version gets now: none while it is mended."""
        shares = {
            each: share
            for each, share in traffic.shares.items()
            if each in self.models and _readiness(self.models[each]) == routes.READY
        }
        if mms_name == traffic.served:
            return 100 - sum(shares.values())
        return shares.get(mms_name, 0)


def _readiness(model: Model) -> str:
    """What a version can do for a client: READY, LOADING or IDLE of ``routes``."""
    if model.mending:
        return routes.LOADING
    return routes.READY if model.listener else routes.IDLE
