"""Target: the headers Content-Type and Accept."""

from __future__ import annotations

from fuzz_checks import check_client_fault, outcome
from fuzz_input import Choices

from mms_handler import codecs, media
from mms_handler.codecs.content_types import _writable
from mms_handler.media import CSV, JSON, NPZ


def accept(data: bytes) -> None:
    """A type is chosen that Accept allows and no other preferred, or none."""
    choices = Choices(data)
    default = choices.pick([JSON, CSV, NPZ])
    header = choices.repeated(2**11).decode("latin-1")
    ranges = outcome(media.ranges, header)
    assert ranges
    assert all(0 <= q <= 1 and name == name.lower().strip() and name for name, q in ranges)
    chosen = outcome(codecs.negotiate, header, default)
    preferences = {name: media.preference(name, ranges) for name in _writable()}
    if check_client_fault(chosen):
        assert max(preferences.values())[0] == 0
        return
    assert preferences[chosen] == max(preferences.values())
    assert preferences[chosen][0] > 0
    if preferences[default] == preferences[chosen]:
        assert chosen == default
    names = [part.partition(";")[0].strip() for part in header.split(",")]
    if '"' not in header and any(names):  # a type that nothing writes changes nothing
        assert codecs.negotiate(f"a/b;q=1,{header}", default) == chosen
        assert codecs.negotiate(f"{header},a/b;q=1", default) == chosen


def content_type(data: bytes) -> None:
    """Parameters and letter case do not change which codec reads a type."""
    header = Choices(data).repeated(2**11).decode("latin-1")
    main = outcome(media.main_type, header)
    charset = outcome(media.charset, header)
    assert main == media.main_type(main)
    assert '"' not in (charset[:1], charset[-1:])
    assert codecs.reads(header) == codecs.reads(main)
    assert codecs.known(header) == codecs.known(main)
    assert media.is_text(header) == (main in (JSON, CSV))
    if codecs.reads(header) and main == JSON:
        arrays = outcome(codecs.decode, b"[1]", header)
        assert check_client_fault(arrays) or arrays.tolist() in ([1], [[1]])


TARGETS = {
    "accept": (
        accept,
        lambda: [
            bytes(3) + header
            for header in (
                b"application/json",
                b"text/csv;q=0.5, */*;q=0.1",
                b'text/*;a="b,c";q=1, application/json;q=0',
                b"*;q=nan,text/csv;q=1e400",
            )
        ],
    ),
    "content_type": (
        content_type,
        lambda: [
            bytes(2) + header
            for header in (b"text/csv; charset=utf-8", b'Application/JSON;charset="latin-1"', b";=")
        ],
    ),
}
