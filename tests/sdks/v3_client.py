"""Ask an endpoint with version 3 of SageMaker's Python SDK; for test_generations.py.

The last line is a JSON object of all answers, by name.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import sagemaker.core.deserializers as deserializers
import sagemaker.core.serializers as serializers
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

ROWS = [[1, 2], [3, 4]]
container = ContainerDefinition(
    image="123456789012.dkr.ecr.us-east-1.amazonaws.com/mms-handler:0.1.0",
    model_data_url="s3://bucket/models/linear.tar.gz",
)
role = "arn:aws:iam::123456789012:role/SageMakerExecution"
Model.create(model_name="linear", execution_role_arn=role, primary_container=container)
variant = ProductionVariant(
    variant_name="all",
    model_name="linear",
    instance_type="ml.c5.xlarge",
    initial_instance_count=1,
)
EndpointConfig.create(endpoint_config_name="linear", production_variants=[variant])
endpoint = Endpoint.create(endpoint_name="linear", endpoint_config_name="linear")


def ask(data: Any, written: str, read: str | None = None) -> Any:
    """The answer to ``data``, by the serializer and the deserializer of these names."""
    endpoint.serializer = getattr(serializers, f"{written}Serializer")()
    endpoint.deserializer = getattr(deserializers, f"{read or written}Deserializer")()
    answer = endpoint.invoke(
        data, endpoint.serializer.CONTENT_TYPE, accept=endpoint.deserializer.ACCEPT[0]
    )
    return answer.body


def refused(*arguments: Any) -> str:
    """What the client raises for a request that is refused."""
    try:
        return f"answered {ask(*arguments)}"
    except Exception as exc:
        return f"{type(exc).__name__}: {exc.response['OriginalMessage']}"


answers = {
    "JSON": ask(ROWS, "JSON"),
    "CSV": ask(ROWS, "CSV"),
    "JSON Lines": ask(ROWS, "JSONLines"),
    "NPY": ask(ROWS, "Numpy").tolist(),
    "JSON in, NPY out": ask(ROWS, "JSON", "Numpy").tolist(),
    "too wide": refused([[1, 2, 3]], "JSON"),
}
json.dump(answers, sys.stdout)
