"""codecs, NPZ: arrays by name in and out, and hostile ZIPs."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from mms_handler import codecs, media
from mms_handler.codecs import npy as npy_codec
from mms_handler.errors import BadInput, NotAcceptable, TooLarge

NPZ = "application/x-npz"
F = np.float32


def npy(array, allow_pickle=False):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def zipped(members, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def with_directory(members, extra):
    """A ZIP of ``members``, each with ``extra`` in the directory."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.extra = extra
            archive.writestr(info, data)
    return out.getvalue()


ONE = npy(np.array([1, 2], F))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read(save):
    """Arrays are read by name as float32, even one alone."""
    out = io.BytesIO()
    save(out, np.array([[1, 2]]), a=np.array(0.5), **{"b.c": np.asfortranarray([[1, 2], [3, 4]])})
    arrays = codecs.decode(out.getvalue(), NPZ)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "arr_0": [[1, 2]],
        "a": 0.5,
        "b.c": [[1, 2], [3, 4]],
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(F)}
    assert list(codecs.decode(zipped([("x.npy", ONE)]), NPZ)) == ["x"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([[1, 2]], F), {"arr_0": [[1, 2]]}),
        ([[1, 2], [3, 4]], {"arr_0": [[1, 2], [3, 4]]}),
        ([np.array([1], F), np.array([[2, 3]], F)], {"arr_0": [1], "arr_1": [[2, 3]]}),
        ({"p": np.array([1], F), "q": np.array([2, 3], F)}, {"p": [1], "q": [2, 3]}),
        (np.array([np.nan, np.inf], F), {"arr_0": [np.nan, np.inf]}),
    ],
)
def test_numpy_reads_what_is_written(value, expected):
    """Names are those of numpy.savez, or the prediction's own."""
    body, content_type = codecs.encode(value, NPZ, media.JSON)
    assert content_type == NPZ
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        assert list(arrays) == list(expected)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name])


def test_exact_bytes():
    """The ZIP is dated 1980 and stores the NPY file as is: equal predictions give equal bytes."""
    body, _ = codecs.encode(np.array([1, 2], F), NPZ, media.JSON)
    assert body == zipped([(zipfile.ZipInfo("arr_0.npy"), ONE)])
    assert body[10:14] == b"\x00\x00!\x00"
    assert ONE in body


@pytest.mark.parametrize("value", ["text", {"a": 1}, [np.zeros(1), "x"], {}])
def test_what_npz_cannot_hold(value):
    """Another type may hold it."""
    with pytest.raises(NotAcceptable, match="x-npz: it is not an array of numbers; try Accept: "):
        codecs.encode(value, NPZ, media.JSON)


def with_method(body, method):
    """``body`` with another compression method in both of its headers."""
    local, central = body.find(b"PK\x03\x04"), body.find(b"PK\x01\x02")
    out = bytearray(body)
    struct.pack_into("<H", out, local + 8, method)
    struct.pack_into("<H", out, central + 10, method)
    return bytes(out)


def with_size(body, size):
    """``body`` with another uncompressed size in both of its headers."""
    local, central = body.find(b"PK\x03\x04"), body.find(b"PK\x01\x02")
    out = bytearray(body)
    struct.pack_into("<I", out, local + 22, size)
    struct.pack_into("<I", out, central + 24, size)
    return bytes(out)


def encrypted(body):
    out = bytearray(body)
    out[body.find(b"PK\x03\x04") + 6] |= 1
    out[body.find(b"PK\x01\x02") + 8] |= 1
    return bytes(out)


PLAIN = zipped([("a.npy", ONE)])
DEFLATED = zipped([("a.npy", ONE)], zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            b"x", "the ZIP cannot be read: it does not end with its directory", id="no ZIP"
        ),
        pytest.param(ONE, "the ZIP cannot be read: it does not end with its directory", id="NPY"),
        pytest.param(
            PLAIN[:-1], "the ZIP cannot be read: it does not end with its directory", id="cut"
        ),
        pytest.param(zipped([]), "no values in the application/x-npz body", id="no member"),
        pytest.param(
            zipped([("a.npy", npy(np.zeros((0, 2))))]),
            "no values in 'a' of the application/x-npz body (shape (0, 2))",
            id="no values",
        ),
        pytest.param(
            zipped([("a.txt", ONE)]), "'a.txt' is not an array's name followed by .npy", id="a text"
        ),
        pytest.param(
            zipped([("../a.npy", ONE)]),
            "'../a.npy' is not an array's name followed by .npy",
            id="a path",
        ),
        pytest.param(
            zipped([("a\\b.npy", ONE)]),
            "'a\\\\b.npy' is not an array's name followed by .npy",
            id="a path in Windows",
        ),
        pytest.param(
            zipped([(".npy", ONE)]), "'.npy' is not an array's name followed by .npy", id="no name"
        ),
        pytest.param(
            zipped([("a.npy", b"abc")]),
            "'a': EOF: reading magic string, expected 8 bytes got 3",
            id="a member that is not NPY",
        ),
        pytest.param(
            zipped([("a.npy", ONE)], zipfile.ZIP_LZMA),
            "'a.npy' uses a compression other than deflate",
            id="LZMA",
        ),
        pytest.param(
            with_method(PLAIN, 99), "'a.npy' uses a compression other than deflate", id="AES"
        ),
        pytest.param(
            zipped((f"{i}.npy", b"") for i in range(257)),
            "the ZIP has 257 files; the limit is 256",
            id="very many",
        ),
    ],
)
def test_the_message_describes_the_problem(body, message):
    with pytest.raises(BadInput) as caught:
        codecs.decode(body, NPZ)
    assert str(caught.value).replace("not valid application/x-npz: ", "") == message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(encrypted(PLAIN), "the ZIP cannot be read: .* is encrypted", id="encrypted"),
        pytest.param(with_method(PLAIN, zipfile.ZIP_DEFLATED), "Bad CRC-32", id="not deflated"),
        pytest.param(with_size(DEFLATED, 4), "Bad CRC-32", id="smaller than it is, deflated"),
        pytest.param(PLAIN.replace(ONE[-8:], b"12345678"), "Bad CRC-32", id="another checksum"),
        pytest.param(PLAIN[4:], "", id="without its first bytes"),
        pytest.param(
            PLAIN.replace(b"PK\x03\x04", b"PK\x03\x05"),
            "the ZIP cannot be read: ",
            id="no local header",
        ),
        pytest.param(zipped([("a.npy", DEFLATED)]), "'a': the magic string", id="a ZIP in a ZIP"),
    ],
)
def test_broken_zips(body, reason):
    """Such a body raises BadInput: 400, not 500."""
    with pytest.raises(BadInput, match=f"^not valid application/x-npz: .*{reason}"):
        codecs.decode(body, NPZ)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice():
    """It is refused: which of the two was meant is unknown."""
    with pytest.raises(BadInput, match=r"'a\.npy' occurs twice"):
        codecs.decode(zipped([("a.npy", ONE), ("a.npy", ONE)]), NPZ)


def test_any_byte_may_be_wrong():
    """A body with one changed byte is read or refused; nothing else is raised."""
    for body in (PLAIN, DEFLATED):
        for at in range(len(body)):
            for bits in (1, 0x80, 0xFF):
                broken = bytearray(body)
                broken[at] ^= bits
                with contextlib.suppress(BadInput, TooLarge):
                    codecs.decode(bytes(broken), NPZ)


def test_a_bomb_is_not_unpacked():
    """What the headers declare is added up before any array is read."""
    half = npy(np.zeros(2**24, np.int8))  # 64 MiB as float32
    body = zipped([("a.npy", half), ("b.npy", half)], zipfile.ZIP_DEFLATED)
    assert len(body) < 40_000
    tracemalloc.start()
    try:
        with pytest.raises(
            TooLarge, match="^the arrays take 134217728 bytes as float32; the limit is 134217727$"
        ):
            codecs.decode(body, NPZ, 2**27 - 1)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f2", "|i1", "<i8", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_a_window_at_a_time(dtype, order):
    """Longer than a window, and packed a hundred times; only its float32 values take memory."""
    array = np.asarray(np.arange(250_000).reshape(500, 500) % 2, dtype, order=order)
    body = zipped([("a.npy", npy(array))], zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        read = codecs.decode(body, NPZ)["a"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read.dtype == F
    assert read.tolist() == array.tolist()
    assert peak < 4 * 250_000 * (1 if order == "C" else 2) + 1_500_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            with_directory([(f"{i}.npy", ONE) for i in range(5)], b"\x99\x99\0\0" * 16_000),
            "the ZIP's directory has more than 262144 bytes",
            id="fields that zipfile would go through",
        ),
        pytest.param(
            PLAIN[:-2] + b"\4\0more",
            "the ZIP cannot be read: it does not end with its directory",
            id="a comment, which may hold another directory",
        ),
        pytest.param(
            PLAIN[:-22] + b"PK\6\7" + bytes(16) + PLAIN[-22:],
            "the ZIP cannot be read: it does not end with its directory",
            id="the place of a ZIP64's directory",
        ),
    ],
)
def test_directories_that_are_not_numpys(body, message):
    """They are refused before zipfile reads them, which takes seconds and a hundred megabytes."""
    with pytest.raises(BadInput) as caught:
        codecs.decode(body, NPZ)
    assert str(caught.value) == f"not valid {NPZ}: {message}"


def test_a_member_is_read_only_up_to_its_declared_size():
    """A million floats that are declared as one are not unpacked."""
    body = zipped([("a.npy", npy(np.zeros(2**20, F)))], zipfile.ZIP_DEFLATED)
    with pytest.raises(BadInput, match="Bad CRC-32"):
        codecs.decode(with_size(body, 128 + 4), NPZ)


@pytest.mark.parametrize("missing", [1, 4, 7])
def test_a_stream_that_ends_early(missing):
    """Nothing is made up for the values that are missing."""
    file = npy(np.arange(10_000, dtype=F))
    head, rest = file[: npy_codec.HEAD_BYTES], file[npy_codec.HEAD_BYTES : -missing]
    header = npy_codec.read_header(head, len(file))
    with pytest.raises(ValueError, match=r"^999[89] values, but its header says 10000$"):
        npy_codec.decode_stream(head, header, io.BytesIO(rest))


def test_the_limit_is_that_of_the_arrays():
    """Two float32 values take eight bytes, whatever the ZIP takes."""
    assert codecs.decode(PLAIN, NPZ, 8)["a"].tolist() == [1, 2]
    with pytest.raises(TooLarge, match="the arrays take 8 bytes as float32; the limit is 7"):
        codecs.decode(PLAIN, NPZ, 7)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_npz_does_not_run(tmp_path):
    """A member of objects, which NumPy would unpickle, is refused without reading them."""
    path = tmp_path / "touched"
    array = np.array([Touch(path)], object)
    assert pickle.dumps(array)
    body = zipped([("a.npy", npy(array, allow_pickle=True))])
    with pytest.raises(BadInput, match="'a': values of dtype object are not numbers"):
        codecs.decode(body, NPZ)
    assert not path.exists()
