"""plain: an archive's own handler is loaded and asked as MMS does it."""

from __future__ import annotations

import contextlib
import logging
import sys

import pytest

from mms_handler.errors import LoadError, ModelError
from mms_handler.worker import plain
from mms_handler.worker.reply import Reply

JSON = "application/json"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a handler from its source; the module and its place in sys.path are forgotten again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "model"
    folder.mkdir()

    def build(source, handler="own_handler:handle"):
        path = folder / f"{handler.partition(':')[0]}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return plain.load(folder, handler)

    yield build
    sys.modules.pop("own_handler", None)


def function(line: str) -> str:
    """A handler whose function does nothing for MMS's call at its start."""
    return f"def handle(data, context):\n    if data is None:\n        return\n    {line}\n"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("return [b'1']", Reply(b"1", "application/octet-stream")),
        ("return [bytearray(b'1')]", Reply(b"1", "application/octet-stream")),
        ("return ['é']", Reply("é".encode(), "text/plain")),
        ("return [{'a': [1]}]", Reply(b'{"a": [1]}', JSON)),
        ("return [5]", Reply(b"5", JSON)),
        ("context.set_response_status(418, idx=0); return [b'']",
         Reply(b"", "application/octet-stream", 418)),
        *(
            (f"context.set_response_content_type(0, 'a/b'); return [{value!r}]",
             Reply(body, "a/b"))
            for value, body in ((b"1", b"1"), ("1", b"1"), (1, b"1"))
        ),
        ("return [type(data).__name__ + str(len(data)) + str(sorted(data[0]))]",
         Reply(b"list1['body']", "text/plain")),
        ("return [str(data[0]['body'])]", Reply(b"{'x': 1}", "text/plain")),
        ("return [context.get_request_header(0, 'Accept')]", Reply(b"a/c", "text/plain")),
        ("return [context.get_request_header(0, 'Content-Type')]",
         Reply(b"application/json; charset=utf-8", "text/plain")),
        ("return [str(context.system_properties['batch_size'])]", Reply(b"1", "text/plain")),
    ],
)  # fmt: skip
def test_what_becomes_the_reply(load, line, reply):
    """The request is JSON, which MMS decodes."""
    assert load(function(line))(b'{"x": 1}', f"{JSON}; charset=utf-8", "a/c") == reply


@pytest.mark.parametrize("value", ["b'1'", "None", "[]", "[1, 2]"])
def test_what_is_no_list_of_one_reply(load, value):
    with pytest.raises(ModelError, match="for a batch of one request; MMS needs a list with one"):
        load(function(f"return {value}"))(b"1", JSON, "*/*")


def test_an_exception_of_the_handler_is_raised(load):
    with pytest.raises(ZeroDivisionError):
        load(function("1 / 0"))(b"1", JSON, "*/*")


def test_a_handler_in_a_folder(load, tmp_path):
    """It may import what lies beside it, and what lies in the model's folder."""
    for name in ("model/beside.py", "model/code/near.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("WORD = __name__\n")
    source = f"import beside, near\n{function('return [beside.WORD + near.WORD]')}"
    assert load(source, "code/own_handler:handle")(b"1", JSON, "*/*").body == b"besidenear"
    for name in ("beside", "near"):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0\n", "handler own_handler:handle: ZeroDivisionError: division by zero"),
        ("import no_such_library\n", "handler own_handler:handle: ModuleNotFoundError: "),
        ("x = 1\n", "handler own_handler:handle: "),
    ],
    ids=["it raises", "a missing library", "no function"],
)
def test_a_handler_that_does_not_load(load, source, reason):
    with pytest.raises(LoadError) as caught:
        load(source)
    assert str(caught.value).startswith(reason)


def test_an_initialize_that_fails(load):
    """MMS would only log it."""
    source = (
        "class Model:\n"
        "    def initialize(self, context):\n"
        "        raise OSError('no weights')\n"
        "    def handle(self, data, context):\n"
        "        return ['x']\n"
    )
    with pytest.raises(LoadError) as caught:
        load(source, "own_handler")
    assert str(caught.value).startswith(
        "handler own_handler: initialize: OSError: no weights (own_handler.py, line 3)"
    )
    assert str(caught.value).endswith("; MMS would only log this, and every request would fail")
    assert "no weights" in caught.value.traceback


@pytest.mark.parametrize("source", [function("return [b'']"), "1 / 0\n"], ids=["good", "bad"])
def test_the_log_is_as_it_was(load, source):
    """Nothing collects its records any more."""
    handlers = list(logging.getLogger().handlers)
    with contextlib.suppress(LoadError):
        load(source)
    assert logging.getLogger().handlers == handlers
