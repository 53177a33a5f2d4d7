"""layouts: the files that Triton, KServe and SageMaker's Triton containers read."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format

from mms_handler.errors import ArchiveError
from mms_handler.export.layouts import triton_config, write


def tensor(name, *shape, type="float32"):
    return {"name": name, "shape": list(shape), "type": type}


REPORT = {
    "inputs": [tensor("picture", "N", 3, 8, 8), tensor("length", "N", type="int32")],
    "outputs": [tensor("softmax_output", "N", 10)],
    "rows": True,
}


@pytest.fixture(scope="module")
def config_proto():
    """Triton's ModelConfig, from the client's package, whose gRPC is not installed."""
    tritonclient = pytest.importorskip("tritonclient", reason="it needs Python 3.10 or newer")
    path = Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(config_proto, report, max_batch_size=32, name="iris"):
    return text_format.Parse(
        triton_config(name, report, max_batch_size), config_proto.ModelConfig()
    )


def test_triton_gets_names_types_and_dimensions_without_the_rows(config_proto):
    config = parsed(config_proto, REPORT)
    assert (config.name, config.backend, config.max_batch_size) == ("iris", "onnxruntime", 32)
    types = config_proto.TYPE_FP32, config_proto.TYPE_INT32
    assert [(each.name, each.data_type) for each in config.input] == [
        ("picture", types[0]),
        ("length", types[1]),
    ]
    assert list(config.input[0].dims) == [3, 8, 8]
    assert [(each.name, list(each.dims)) for each in config.output] == [("softmax_output", [10])]
    assert config.HasField("dynamic_batching")


def test_an_array_with_rows_alone_has_one_more_dimension_for_clients(config_proto):
    length = parsed(config_proto, REPORT).input[1]
    assert list(length.dims) == [1]
    assert length.HasField("reshape")
    assert list(length.reshape.shape) == []


def test_without_rows_in_front_of_everything_triton_puts_nothing_together(config_proto):
    report = {
        "inputs": [tensor("x", 5, "N"), tensor("y", 2, 4)],
        "outputs": [tensor("z", "2*N")],
        "rows": False,
    }
    config = parsed(config_proto, report)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [list(each.dims) for each in config.input] == [[5, -1], [2, 4]]
    assert list(config.output[0].dims) == [-1]


def test_a_batch_size_of_zero_keeps_the_rows(config_proto):
    config = parsed(config_proto, REPORT, 0)
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, 3, 8, 8]


def test_a_name_with_quotes_is_one_string(config_proto):
    report = {**REPORT, "inputs": [tensor('a"b\\', "N", 2)]}
    assert parsed(config_proto, report).input[0].name == 'a"b\\'


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        *(("bool", "BOOL"), ("float16", "FP16"), ("float32", "FP32"), ("float64", "FP64")),
        *(("uint8", "UINT8"), ("int8", "INT8"), ("int32", "INT32"), ("int64", "INT64")),
    ],
)
def test_types_have_tritons_names(config_proto, type, expected):
    report = {**REPORT, "outputs": [tensor("y", "N", 2, type=type)]}
    data_type = parsed(config_proto, report).output[0].data_type
    assert config_proto.DataType.Name(data_type) == f"TYPE_{expected}"


def test_a_batch_size_of_one_is_a_batch(config_proto):
    config = parsed(config_proto, REPORT, 1)
    assert config.max_batch_size == 1
    assert list(config.input[0].dims) == [3, 8, 8]


def test_a_type_that_triton_lacks_is_refused():
    report = {**REPORT, "outputs": [tensor("y", "N", type="complex64")]}
    with pytest.raises(ArchiveError, match="Triton has no type for y, which is complex64"):
        triton_config("iris", report, 32)


def test_a_repository_has_the_model_as_version_1(tmp_path):
    written = write("triton", "iris", b"model", REPORT, tmp_path / "repository", max_batch_size=4)
    folder = tmp_path / "repository" / "iris"
    assert written == [folder / "config.pbtxt", folder / "1" / "model.onnx"]
    assert (folder / "1" / "model.onnx").read_bytes() == b"model"
    assert "max_batch_size: 4\n" in (folder / "config.pbtxt").read_text()


def test_a_second_model_goes_beside_the_first_and_replaces_it_by_force_alone(tmp_path):
    write("triton", "iris", b"model", REPORT, tmp_path)
    write("triton", "wine", b"other", REPORT, tmp_path)
    with pytest.raises(ArchiveError, match="already exists; --force replaces it"):
        write("triton", "iris", b"new", REPORT, tmp_path)
    assert (tmp_path / "iris" / "1" / "model.onnx").read_bytes() == b"model"
    write("triton", "iris", b"new", REPORT, tmp_path, force=True)
    assert (tmp_path / "iris" / "1" / "model.onnx").read_bytes() == b"new"
    assert (tmp_path / "wine" / "1" / "model.onnx").read_bytes() == b"other"


def test_kserve_gets_a_repository_and_a_service(tmp_path):
    write("kserve", "My_Iris.2", b"model", REPORT, tmp_path)
    assert (tmp_path / "models" / "My_Iris.2" / "1" / "model.onnx").read_bytes() == b"model"
    service = yaml.safe_load((tmp_path / "My_Iris.2.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert service["metadata"]["name"] == "my-iris-2"
    model = service["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "onnx"}
    assert (model["protocolVersion"], model["runtime"]) == ("v2", "kserve-tritonserver")


@pytest.mark.parametrize(
    ("name", "service_name"),
    [
        ("2_irises", "model-2-irises"),
        ("_irises_", "irises"),
        ("a" * 63, "a" * 63),
        ("a" * 64, "a" * 63),
        ("a" * 62 + "-b", "a" * 62),
    ],
)
def test_a_service_begins_with_a_letter_and_is_short(tmp_path, name, service_name):
    """Kubernetes takes 63 letters, the last of which is no hyphen."""
    write("kserve", name, b"model", REPORT, tmp_path)
    service = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
    assert service["metadata"]["name"] == service_name


def test_sagemaker_gets_a_tar_whose_only_folder_is_the_model(tmp_path):
    first, second = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"
    for target in (first, second):
        write("sagemaker", "iris", b"model", REPORT, target)
    with tarfile.open(first) as tar:
        assert tar.getnames() == ["iris/config.pbtxt", "iris/1/model.onnx"]
        assert [entry.mode for entry in tar] == [0o644, 0o644]
        assert tar.extractfile("iris/1/model.onnx").read() == b"model"
    assert first.read_bytes() == second.read_bytes()
