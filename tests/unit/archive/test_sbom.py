"""archive.sbom: what an archive is made of, and what it needs, as CycloneDX lists it."""

from __future__ import annotations

import hashlib
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from mms_handler import __version__, archive, manifest
from mms_handler.archive import sbom
from mms_handler.errors import ArchiveError, SettingsError

PACKAGES = {"mxnet": "1.9.1", "numpy": "1.23.5", "python": "3.11.7"}


def check_valid(text):
    """Check a list against CycloneDX's own schema, in which nothing else is allowed."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode()) is None
    return json.loads(text)


def required(*lines):
    """The packages that these lines of requirements.txt add."""
    bill = check_valid(sbom.encode("m", None, {}, PACKAGES, lines))
    refs = [component["bom-ref"] for component in bill["components"]]
    assert bill["dependencies"] == [{"ref": "model", "dependsOn": refs}]
    known = {f"pkg:pypi/mms-handler@{__version__}", "pkg:pypi/mxnet@1.9.1"}
    known |= {"pkg:pypi/numpy@1.23.5", "pkg:generic/python@3.11.7"}
    assert known <= set(refs)
    return [component for component in bill["components"] if component["bom-ref"] not in known]


def test_the_whole_list():
    digest = "a" * 64
    bill = sbom.encode("iris", "1.2", {"net.params": digest}, {"python": "3.11.7"}, ["scipy==1.9"])
    assert check_valid(bill) == {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [
                    {"type": "application", "name": "mms_handler", "version": __version__}
                ]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": "iris",
                "version": "1.2",
                "components": [
                    {
                        "type": "file",
                        "bom-ref": "file:net.params",
                        "name": "net.params",
                        "hashes": [{"alg": "SHA-256", "content": digest}],
                    }
                ],
            },
        },
        "components": [
            {
                "type": "platform",
                "bom-ref": "pkg:generic/python@3.11.7",
                "name": "python",
                "version": "3.11.7",
                "purl": "pkg:generic/python@3.11.7",
            },
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/mms-handler@{__version__}",
                "name": "mms_handler",
                "version": __version__,
                "purl": f"pkg:pypi/mms-handler@{__version__}",
            },
            {
                "type": "library",
                "bom-ref": "pkg:pypi/scipy@1.9",
                "name": "scipy",
                "version": "1.9",
                "purl": "pkg:pypi/scipy@1.9",
            },
        ],
        "dependencies": [
            {
                "ref": "model",
                "dependsOn": [
                    "pkg:generic/python@3.11.7",
                    f"pkg:pypi/mms-handler@{__version__}",
                    "pkg:pypi/scipy@1.9",
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("line", "purl", "wanted"),
    [
        ("scipy==1.9.3", "pkg:pypi/scipy@1.9.3", None),
        ("  SciPy == 1.9.3  # for the score", "pkg:pypi/scipy@1.9.3", None),
        ("Some_Name.here===2020.1rc1", "pkg:pypi/some-name-here@2020.1rc1", None),
        ("torch==2.1+cpu", "pkg:pypi/torch@2.1%2Bcpu", None),
        ("tz==1!2.0", "pkg:pypi/tz@1%212.0", None),
        ("requests[socks,security]==2.31.0", "pkg:pypi/requests@2.31.0", None),
        ("scipy==1.9.3; python_version < '3.12'", "pkg:pypi/scipy@1.9.3", None),
        ("scipy==1.9.3 --hash=sha256:00 --hash=sha256:01", "pkg:pypi/scipy@1.9.3", None),
        ("scipy", "pkg:pypi/scipy", None),
        ("scipy; python_version < '3.12'", "pkg:pypi/scipy", None),
        ("scipy>=1.7,<2", "pkg:pypi/scipy", ">=1.7,<2"),
        ("scipy==1.9.*", "pkg:pypi/scipy", "==1.9.*"),
        ("scipy~=1.9", "pkg:pypi/scipy", "~=1.9"),
        ("scipy (>=1.7)", "pkg:pypi/scipy", "(>=1.7)"),
        ("mine @ https://ann:secret@example.com/mine.whl", "pkg:pypi/mine", None),
    ],
)
def test_a_requirement(line, purl, wanted):
    (component,) = required(line)
    assert (component["purl"], component["bom-ref"]) == (purl, purl)
    version = purl.partition("@")[2].replace("%2B", "+").replace("%21", "!")
    assert component.get("version", "") == version
    properties = [{"name": "mms_handler:requirement", "value": wanted}] if wanted else None
    assert component.get("properties") == properties
    assert "secret" not in json.dumps(component)


@pytest.mark.parametrize(
    "line",
    [
        *("", "# a comment", "-c limits.txt", "--index-url https://ann:secret@example.com/simple"),
        *("./wheels/mine.whl", "https://example.com/mine.whl", "git+https://example.com/mine"),
        *("/opt/ml/model/code/mine.whl", "mine.whl/", "NumPy==1.22.0", "mxnet", "\u00e9t\u00e9"),
    ],
)
def test_a_line_that_adds_no_package(line):
    """Files are among the model's, and numpy and mxnet are held at the server's versions."""
    assert required(line) == []


def test_several_requirements():
    """A line may go on, and the first of a package counts."""
    components = required("scipy==1.9.3 \\", "    --hash=sha256:00", "b==1", "a==1", "B==2")
    purls = [component["purl"] for component in components]
    assert purls == ["pkg:pypi/a@1", "pkg:pypi/b@1", "pkg:pypi/scipy@1.9.3"]


def test_the_time_is_that_of_the_source(monkeypatch):
    """Without one there is none, so that the same archive has the same bytes."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert "timestamp" not in check_valid(sbom.encode("m", None, {}, {}))["metadata"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    bill = check_valid(sbom.encode("m", None, {}, {}))
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    for wrong in ("now", "-1", "1" * 12, "1.5"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(SettingsError, match="SOURCE_DATE_EPOCH: .* is not a time in whole"):
            sbom.encode("m", None, {}, {})


@pytest.fixture
def model_dir(tmp_path):
    code = tmp_path / "iris" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text("x = 1\n")
    (code / "requirements.txt").write_text("-r more.txt\nscipy==1.9.3\n")
    (code / "more.txt").write_text("Pillow>=9\n")
    (tmp_path / "iris" / "net.params").write_bytes(b"weights")
    return tmp_path / "iris"


def test_an_archive_has_its_list(tmp_path, model_dir):
    path = archive.pack(model_dir, tmp_path / "store" / "iris.mar", version="2.0")
    text = archive.read_parts(path)
    bill = check_valid(text)
    model = bill["metadata"]["component"]
    assert (model["name"], model["version"]) == ("iris", "2.0")
    files = {part["name"]: part["hashes"][0]["content"] for part in model["components"]}
    names = ["code/inference.py", "code/more.txt", "code/requirements.txt", "net.params"]
    assert list(files) == names
    assert files["net.params"] == hashlib.sha256(b"weights").hexdigest()
    purls = {component["purl"] for component in bill["components"]}
    assert {"pkg:pypi/pillow", "pkg:pypi/scipy@1.9.3", "pkg:pypi/mxnet@1.9.1"} <= purls
    packed = archive.verify(path)
    assert packed.parts == "MAR-INF/bom.json"
    assert packed.hashes["MAR-INF/bom.json"] == hashlib.sha256(text).hexdigest()
    again = archive.pack(model_dir, tmp_path / "again" / "iris.mar", version="2.0")
    assert again.read_bytes() == path.read_bytes()
    assert str(tmp_path) not in text.decode()


def test_requirements_beside_the_script(tmp_path, model_dir):
    """Those in another folder are not the script's."""
    (model_dir / "requirements.txt").write_text("other==1\n")
    path = archive.pack(model_dir, tmp_path / "iris.mar")
    assert b"pkg:pypi/other" not in archive.read_parts(path)
    (model_dir / "inference.py").write_text("x = 1\n")
    for file in (model_dir / "code").iterdir():
        file.unlink()
    (model_dir / "code").rmdir()
    path = archive.pack(model_dir, tmp_path / "iris.mar", force=True)
    assert b"pkg:pypi/other@1" in archive.read_parts(path)


def test_requirements_that_cannot_be_installed(tmp_path, model_dir):
    """A worker says so; the list has none of them."""
    (model_dir / "code" / "more.txt").unlink()
    bill = check_valid(archive.read_parts(archive.pack(model_dir, tmp_path / "iris.mar")))
    assert not [part for part in bill["components"] if part["name"] == "scipy"]


def test_an_archive_without_a_list(tmp_path, model_dir):
    import zipfile

    path = tmp_path / "old.mar"
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("code/inference.py", "x = 1\n")
        mar.writestr(manifest.MANIFEST, manifest.encode("old", "inference.py"))
    with pytest.raises(ArchiveError) as caught:
        archive.read_parts(path)
    assert str(caught.value) == (
        "old.mar: the archive has no list of its parts; pack the model again to get one"
    )
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("code/inference.py", "x = 1\n")
        mar.writestr(manifest.MANIFEST, manifest.encode("old", "inference.py", parts="bom"))
    with pytest.raises(ArchiveError, match="old.mar: the manifest's list of parts 'bom' is not in"):
        archive.verify(path)
