"""sending: to which path a captured prediction goes."""

from __future__ import annotations

import pytest

from mms_handler.errors import ArchiveError
from mms_handler.replay import Captured, Target

SERVER = "http://127.0.0.1:8080"


def captured(*, tensors: bool, model: str = "iris") -> Captured:
    return Captured("1", 0.0, model, b"", {}, 200, None, b"", "", tensors)


@pytest.mark.parametrize(
    ("url", "of_a_body", "of_tensors"),
    [
        pytest.param("", "/predictions/iris", "/v2/models/iris/infer", id="server"),
        pytest.param("/", "/predictions/iris", "/v2/models/iris/infer", id="server with a slash"),
        pytest.param(
            "/predictions/new", "/predictions/new", "/v2/models/new/infer", id="another model"
        ),
        pytest.param(
            "/predictions/new/2?a=b",
            "/predictions/new/2?a=b",
            "/v2/models/new/versions/2/infer?a=b",
            id="version",
        ),
        pytest.param("/invocations", "/invocations", None, id="SageMaker's path"),
        pytest.param("/v2/models/new/infer", None, "/v2/models/new/infer", id="tensors alone"),
        pytest.param(
            "/v2/models/new/versions/2/infer",
            None,
            "/v2/models/new/versions/2/infer",
            id="tensors of a version",
        ),
    ],
)
def test_the_path_of_a_prediction(url, of_a_body, of_tensors):
    """The one that the protocol of then has for the model; None: there is none."""
    target = Target(f"{SERVER}{url}")
    for tensors, path in ((False, of_a_body), (True, of_tensors)):
        if path:
            assert target.path(captured(tensors=tensors)) == path
        else:
            kind = "tensors of the Open Inference Protocol" if tensors else "other bodies"
            with pytest.raises(ArchiveError, match=f"^the capture has {kind}, which http"):
                target.path(captured(tensors=tensors))


def test_names_are_quoted():
    assert Target(SERVER).path(captured(tensors=True, model="a b")) == "/v2/models/a%20b/infer"
