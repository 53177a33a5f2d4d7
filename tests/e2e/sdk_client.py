"""Send requests with the SageMaker Python SDK and print the answers; for test_sagemaker_client.py.

python sdk_client.py CLIENT PORT, where CLIENT is

* ``local``: the SDK's local runtime client, as in local mode.  It reads PORT from the user's
  configuration, and raises no error for a status of 400 or more;
* ``boto3``: the client of a real endpoint.  SageMaker receives ``/endpoints/NAME/invocations`` and
  sends ``/invocations`` to the container.  Here the address is changed before it is signed.

The last line is a JSON object of all answers.  This file imports nothing of mms_handler.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
import numpy as np
import sagemaker
from sagemaker import deserializers, serializers
from sagemaker.local import LocalSession
from sagemaker.mxnet import MXNetPredictor

ROWS = [[1, 2], [3, 4]]


def local(boto_session: Any, port: int) -> Any:
    """The session of local mode."""
    session = LocalSession(boto_session=boto_session)
    assert session.sagemaker_runtime_client.serving_port == port
    return session


def remote(boto_session: Any, port: int) -> Any:
    """The session of a real endpoint at ``port``."""
    client = boto_session.client("sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{port}")

    def to_container(request: Any, **more: Any) -> None:
        request.url = f"http://127.0.0.1:{port}/invocations"

    client.meta.events.register("before-sign.sagemaker-runtime.InvokeEndpoint", to_container)
    return sagemaker.Session(boto_session, sagemaker_runtime_client=client)


def answers(session: Any) -> dict[str, Any]:
    def ask(data: Any, written: str, read: str | None = None, **more: Any) -> Any:
        predictor = MXNetPredictor(
            "model",
            session,
            getattr(serializers, f"{written}Serializer")(),
            getattr(deserializers, f"{read or written}Deserializer")(),
        )
        return predictor.predict(data, **more)

    array = ask(ROWS, "Numpy")
    return {
        "defaults": MXNetPredictor("model", session).predict(np.array(ROWS)),
        "JSON": ask(ROWS, "JSON"),
        "JSON by name": ask({"data": ROWS}, "JSON"),
        "CSV": ask(ROWS, "CSV"),
        "JSON Lines": ask(ROWS, "JSONLines"),
        "NPY": array.tolist(),
        "type of NPY": str(array.dtype),
        "CSV in, JSON out": ask("1,2\n3,4", "CSV", "JSON"),
        "JSON in, NPY out": ask(ROWS, "JSON", "Numpy").tolist(),
        "SageMaker's headers": ask(
            ROWS, "JSON", custom_attributes="trace=7", inference_id="8", target_variant="blue"
        ),
        "too wide": refused(ask, [[1, 2, 3]], "JSON"),
        "unreadable": refused(ask, "1,two", "CSV", "JSON"),
    }


def refused(ask: Any, *arguments: Any) -> Any:
    """What the client gives its user for a request that is refused."""
    try:
        return ask(*arguments)
    except Exception as exc:  # the test checks which
        return f"{type(exc).__name__}: {exc}"


def main(client: str, port: int) -> None:
    boto_session = boto3.Session("key", "secret", region_name="us-east-1")
    session = {"local": local, "boto3": remote}[client](boto_session, port)
    json.dump(answers(session), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
