"""images: a JPEG or PNG becomes an array, and nothing else does."""

from __future__ import annotations

import contextlib
import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks.hostile import jpeg_of_scans, png, png_chunk
from mms_handler import models
from mms_handler.codecs.image_headers import read_image
from mms_handler.errors import TooLarge

LIMIT = 2**26


def image(kind, size=(3, 2), mode="RGB", colour=(200, 100, 50), **options):
    """An image of one colour: red 200, green 100, blue 50, unless there is another."""
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, kind, **options)
    return out.getvalue()


def gradient(kind, **options):
    """Sixteen by eight pixels, which do not compress well."""
    out = io.BytesIO()
    noise = np.random.RandomState(0).randint(0, 256, (8, 16, 3), np.uint8)
    Image.fromarray(noise).save(out, kind, **options)
    return out.getvalue()


def turned(jfif):
    """A JPEG that is to be shown turned by a quarter; a phone saves it without JFIF's segment."""
    exif = Image.Exif()
    exif[0x0112] = 6
    body = image("JPEG", (16, 8), exif=exif)
    return body if jfif else body[:2] + body[4 + int.from_bytes(body[4:6], "big") :]


def with_chunks(body, chunk, count=1):
    """A PNG with ``chunk`` behind its header."""
    return body[:33] + chunk * count + body[33:]


def header(width=3, height=2, bits=8, colour=2, *methods):
    """A PNG's header, as a chunk."""
    methods = methods or (0, 0, 0)
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, *methods))


def animated():
    """Two frames: the first one counts."""
    out = io.BytesIO()
    frames = [Image.new("RGB", (3, 2), colour) for colour in ((200, 100, 50), (0, 0, 0))]
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    return out.getvalue()


def test_a_png_is_planes_of_red_green_and_blue():
    """One image is one row: (1, 3, height, width), float32 from 0 to 255."""
    array = models.decode_image(image("PNG"), LIMIT)
    assert (array.shape, array.dtype) == ((1, 3, 2, 3), np.float32)
    assert [plane.ravel().tolist() for plane in array[0]] == [[200.0] * 6, [100.0] * 6, [50.0] * 6]
    assert array.flags.c_contiguous


def test_a_jpeg_is_too():
    """As far as JPEG keeps colours."""
    array = models.decode_image(image("JPEG", (16, 8)), LIMIT)
    assert array.shape == (1, 3, 8, 16)
    assert array[0].mean(axis=(1, 2)).tolist() == pytest.approx([200, 100, 50], abs=3)


@pytest.mark.parametrize(
    ("body", "size", "shape", "colour"),
    [
        pytest.param(image("PNG", mode="L", colour=70), (3, 2), (2, 3), [70] * 3, id="grey"),
        pytest.param(
            image("PNG", mode="I;16", colour=51_400), (3, 2), (2, 3), [200] * 3, id="16 bits"
        ),
        pytest.param(image("PNG", mode="1", colour=1), (3, 2), (2, 3), [255] * 3, id="1 bit"),
        pytest.param(
            image("PNG", mode="RGBA", colour=(200, 100, 50, 9)),
            (3, 2),
            (2, 3),
            [200, 100, 50],
            id="transparent",
        ),
        pytest.param(animated(), (3, 2), (2, 3), [200, 100, 50], id="animated"),
        pytest.param(
            image("JPEG", (16, 8), progressive=True),
            (16, 8),
            (8, 16),
            [200, 100, 50],
            id="progressive",
        ),
        pytest.param(
            image("JPEG", (16, 8), "CMYK", (55, 155, 205, 0)),
            (16, 8),
            (8, 16),
            [200, 100, 50],
            id="CMYK",
        ),
        pytest.param(
            turned(True),
            (16, 8),
            (8, 16),
            [200, 100, 50],
            id="EXIF, which OpenCV ignores after JFIF",
        ),
        pytest.param(
            with_chunks(image("PNG"), png_chunk(b"tEXt", b"a\0b")[:-1] + b"x", 9_000),
            (3, 2),
            (2, 3),
            [200, 100, 50],
            id="texts with wrong checksums",
        ),
        pytest.param(turned(False), (16, 8), (16, 8), [200, 100, 50], id="turned by EXIF"),
        pytest.param(
            image("JPEG", (16, 8)) + b"what a camera adds",
            (16, 8),
            (8, 16),
            [200, 100, 50],
            id="more behind it",
        ),
        pytest.param(
            b"\xff\xd8\xff\xff\xff" + image("JPEG", (16, 8))[3:],
            (16, 8),
            (8, 16),
            [200, 100, 50],
            id="filled up before a marker",
        ),
    ],
)
def test_odd_images(body, size, shape, colour):
    """Its size is known before it is decoded, and it is what OpenCV decodes."""
    assert read_image(body)[1:] == size
    array = models.decode_image(body, LIMIT)
    assert array.shape == (1, 3, *shape)
    assert array[0].mean(axis=(1, 2)).tolist() == pytest.approx(colour, abs=4)


def test_an_image_is_as_large_as_the_limit_allows():
    """Three channels of four bytes for each pixel, by the header alone."""
    body = image("PNG", (100, 100))
    assert models.decode_image(body, 120_000).nbytes == 120_000
    with pytest.raises(TooLarge) as caught:
        models.decode_image(body, 119_999)
    assert str(caught.value) == (
        "the image has 100 x 100 pixels, which take 120000 bytes as float32; the limit is 119999"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "not a JPEG or PNG", id="nothing"),
        pytest.param(b"GIF89a", "not a JPEG or PNG", id="another format"),
        pytest.param(png(0, 5), "the image has 0 x 5 pixels", id="no pixels"),
        pytest.param(
            image("PNG")[:8] + png_chunk(b"tEXt", b"a\0b") + image("PNG")[8:],
            "the PNG does not begin with its header",
            id="a PNG that begins with a text",
        ),
        pytest.param(
            image("PNG")[:8] + header(bits=3) + image("PNG")[33:],
            "the PNG's header is not valid",
            id="a PNG of three bits",
        ),
        pytest.param(
            image("PNG")[:8] + header(3, 2, 8, 2, 0, 0, 2) + image("PNG")[33:],
            "the PNG's header is not valid",
            id="a PNG interlaced in no known way",
        ),
        pytest.param(
            image("PNG")[:8] + header(1_000_001, 1) + image("PNG")[33:],
            "the PNG's header is not valid",
            id="a PNG wider than libpng reads",
        ),
        pytest.param(
            image("PNG")[:8] + header(colour=3) + image("PNG")[33:],
            "the PNG's palette is not valid",
            id="a PNG without its palette",
        ),
        pytest.param(
            image("PNG")[:29] + b"abcd" + image("PNG")[33:],
            "the checksum of the PNG's IHDR is wrong",
            id="a PNG's header with a wrong checksum",
        ),
        pytest.param(
            with_chunks(image("PNG"), header()),
            "the PNG has an unknown or misplaced chunk: b'IHDR'",
            id="two headers",
        ),
        pytest.param(
            with_chunks(image("PNG"), png_chunk(b"ABCD")),
            "the PNG has an unknown or misplaced chunk: b'ABCD'",
            id="a chunk that is important and unknown",
        ),
        pytest.param(
            image("PNG")[:33] + png_chunk(b"IEND"),
            "the PNG has no pixels",
            id="a PNG without pixels",
        ),
        pytest.param(
            image("PNG")[:33] + png_chunk(b"IDAT", b"abcdefgh") + png_chunk(b"IEND"),
            "MXNet's OpenCV cannot decode the image",
            id="pixels that are not packed",
        ),
        pytest.param(
            image("JPEG").replace(b"\xff\xdb\x00\x43\x00", b"\xff\xdb\x00\x43\x07"),
            "MXNet's OpenCV cannot decode the image",
            id="a JPEG with an unknown table",
        ),
        pytest.param(
            jpeg_of_scans(16, 16, 101), "the JPEG has more than 100 scans", id="a JPEG of scans"
        ),
    ],
)
@pytest.mark.usefixtures("capfd")  # for what libpng and libjpeg write
def test_bodies_that_are_no_images(body, message):
    """Refused by the header if that is enough; never answered with what was in the memory."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        models.decode_image(body, LIMIT)


@pytest.mark.parametrize(
    "body",
    [gradient("PNG"), gradient("JPEG"), gradient("JPEG", progressive=True)],
    ids=["PNG", "JPEG", "progressive JPEG"],
)
@pytest.mark.usefixtures("capfd")
def test_an_image_that_is_cut_off(body):
    """It is refused wherever it is cut: OpenCV would make up the rest, or fail."""
    for end in range(len(body) - 1):
        with pytest.raises(ValueError, match=r"cut off|not a JPEG or PNG"):
            models.decode_image(body[:end], LIMIT)


@pytest.mark.usefixtures("capfd")
def test_any_byte_may_be_wrong():
    """A body with one changed byte is decoded or refused; nothing else is raised."""
    for body in (gradient("PNG"), gradient("JPEG"), turned(False)):
        for at in range(0, len(body), 3):
            broken = bytearray(body)
            broken[at] ^= 0x81
            with contextlib.suppress(ValueError, TooLarge):
                models.decode_image(bytes(broken), 2**20)


def test_a_bomb_is_refused_by_its_header():
    """A PNG of 18 kB with 12,000 x 12,000 pixels, which are 432 MB of RGB."""
    out = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    with pytest.raises(TooLarge, match="the image has 12000 x 12000 pixels"):
        models.decode_image(out.getvalue(), 52_428_000)


def test_a_jpeg_of_scans_takes_no_longer_than_its_pixels_need():
    """Each scan of a few bytes costs a pass over all pixels; the limit bounds them."""
    body = jpeg_of_scans(512, 512, 100)
    assert len(body) < 4_000
    start = time.thread_time()
    models.decode_image(body, LIMIT)
    many_s = time.thread_time() - start
    photo = np.random.RandomState(0).randint(0, 256, (512, 512, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "JPEG", progressive=True)
    start = time.thread_time()
    models.decode_image(out.getvalue(), LIMIT)
    assert many_s < 30 * (time.thread_time() - start)
