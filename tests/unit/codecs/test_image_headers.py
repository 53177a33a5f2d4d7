"""image_headers: sizes and what is refused, byte by byte.  Images that are decoded are elsewhere
(models/test_images.py)."""

from __future__ import annotations

import struct

import pytest

from benchmarks.hostile import png_chunk
from mms_handler.codecs.image_headers import MAX_SCANS, read_image

# --- PNG -------------------------------------------------------------------------------------

MAGIC = b"\x89PNG\r\n\x1a\n"
END = png_chunk(b"IEND")
PIXELS = png_chunk(b"IDAT", b"any")


def header(width=3, height=2, bits=8, colour=2, methods=(0, 0, 0)):
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, *methods))


def png(*chunks, **fields):
    return MAGIC + header(**fields) + b"".join(chunks)


def palette(colours):
    return png_chunk(b"PLTE", bytes(3 * colours))


def wrong(chunk):
    """The chunk with a wrong checksum."""
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


BITS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}


def test_bits_and_colours():
    """Those that the specification allows together, and no others."""
    for colour in range(8):
        for bits in range(18):
            body = png(palette(1), PIXELS, END, bits=bits, colour=colour)
            if bits in BITS.get(colour, ()):
                assert read_image(body)[1:] == (3, 2)
            else:
                with pytest.raises(ValueError, match="^the PNG's header is not valid$"):
                    read_image(body)


@pytest.mark.parametrize(
    ("methods", "valid"),
    [
        ((0, 0, 0), True),
        ((0, 0, 1), True),
        ((0, 0, 2), False),
        ((0, 1, 0), False),
        ((1, 0, 0), False),
        ((0, 1, 1), False),
    ],
)
def test_methods(methods, valid):
    """Interlacing is the only choice."""
    body = png(PIXELS, END, methods=methods)
    if valid:
        assert read_image(body).width == 3
    else:
        with pytest.raises(ValueError, match="^the PNG's header is not valid$"):
            read_image(body)


@pytest.mark.parametrize(("width", "height"), [(10**6, 1), (1, 10**6)])
def test_the_longest_sides(width, height):
    assert read_image(png(PIXELS, END, width=width, height=height))[1:] == (width, height)
    larger = {"width": width, "height": height}
    larger = {name: value + (value > 1) for name, value in larger.items()}
    with pytest.raises(ValueError, match="^the PNG's header is not valid$"):
        read_image(png(PIXELS, END, **larger))


@pytest.mark.parametrize(
    ("chunks", "colour", "reason"),
    [
        pytest.param([palette(1), PIXELS], 3, "", id="one colour"),
        pytest.param([palette(256), PIXELS], 3, "", id="256 colours"),
        pytest.param(
            [png_chunk(b"tEXt", b"x" * 1_000), palette(1), PIXELS], 3, "", id="after a long text"
        ),
        pytest.param([palette(0), PIXELS], 3, "palette is not", id="no colour"),
        pytest.param([palette(257), PIXELS], 3, "palette is not", id="257 colours"),
        pytest.param(
            [png_chunk(b"PLTE", b"abcd"), PIXELS], 3, "palette is not", id="1 1/3 colours"
        ),
        pytest.param([PIXELS], 3, "palette is not", id="no palette"),
        pytest.param([palette(1), palette(1), PIXELS], 3, "palette is not", id="two palettes"),
        pytest.param([PIXELS, palette(1)], 3, "palette is not", id="a palette too late"),
        pytest.param([palette(1), PIXELS, PIXELS], 3, "", id="pixels in two parts"),
        pytest.param([palette(1), PIXELS, palette(1), PIXELS], 3, "", id="a palette in between"),
        pytest.param([PIXELS], 2, "", id="colours without a palette"),
        pytest.param([palette(0), palette(300), PIXELS], 2, "", id="palettes that nobody uses"),
        pytest.param([palette(1)], 3, "has no pixels", id="no pixels"),
        pytest.param([PIXELS, header()], 2, "misplaced chunk: b'IHDR'", id="a second header"),
        pytest.param([png_chunk(b"ABCD"), PIXELS], 2, "misplaced chunk: b'ABCD'", id="unknown"),
        pytest.param([png_chunk(b"AbCD"), PIXELS], 2, "misplaced chunk: b'AbCD'", id="private"),
        pytest.param([png_chunk(b"aBCD"), PIXELS], 2, "", id="unknown, but not needed"),
        pytest.param([wrong(palette(1)), PIXELS], 3, "checksum of the PNG's PLTE", id="PLTE"),
        pytest.param(
            [wrong(png_chunk(b"tRNS", b"ab")), PIXELS], 2, "checksum of the PNG's tRNS", id="tRNS"
        ),
        pytest.param([wrong(PIXELS)], 2, "", id="a checksum that OpenCV looks at"),
    ],
)
def test_chunks(chunks, colour, reason):
    body = png(*chunks, END, colour=colour)
    if reason:
        with pytest.raises(ValueError, match=f"^the .*{reason}"):
            read_image(body)
    else:
        assert read_image(body)[1:] == (3, 2)


def test_a_header_with_a_wrong_checksum():
    with pytest.raises(ValueError, match="^the checksum of the PNG's IHDR is wrong$"):
        read_image(MAGIC + wrong(header()) + PIXELS + END)


def test_what_is_left_out():
    """All that pixels do not depend on.  Behind the end nothing is looked at."""
    text, transparency = png_chunk(b"tEXt", b"a\0b"), png_chunk(b"tRNS", b"abcdef")
    body = png(text, palette(2), text, transparency, PIXELS, text, PIXELS, END, b"behind")
    assert read_image(body).body == png(transparency, PIXELS, PIXELS, END, b"behind")
    body = png(palette(2), text, transparency, PIXELS, END, colour=3)
    assert read_image(body).body == png(palette(2), transparency, PIXELS, END, colour=3)


def test_a_png_that_is_cut_off():
    """Wherever it is; one byte of the end is enough to miss."""
    body = png(PIXELS, END)
    assert read_image(body).body == body
    for length in range(len(MAGIC), len(body)):
        with pytest.raises(ValueError, match="^the PNG is cut off$"):
            read_image(body[:length])


def test_a_png_that_begins_with_another_chunk():
    body = MAGIC + png_chunk(b"sRGB", bytes(13)) + header() + PIXELS + END
    with pytest.raises(ValueError, match="^the PNG does not begin with its header$"):
        read_image(body)


# --- JPEG ------------------------------------------------------------------------------------


def segment(marker, data=b""):
    return b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(data)) + data


def frame(marker=0xC0, width=5, height=4):
    return segment(marker, struct.pack(">BHH", 8, height, width) + b"\1\1\x11\0")


START = b"\xff\xd8"
JFIF = segment(0xE0, b"JFIF\0")
SCAN = segment(0xDA, b"\1\1\0\0\x3f\0") + b"pixels"
EOI = b"\xff\xd9"


@pytest.mark.parametrize("marker", range(0xC0, 0xD0))
def test_frames(marker):
    """Every kind has the size at the same place; three markers of the range are no frames."""
    body = START + segment(0xDB, b"table") + frame(marker) + SCAN + EOI
    if marker in (0xC4, 0xC8, 0xCC):
        with pytest.raises(ValueError, match="^the image has 0 x 0 pixels$"):
            read_image(body)
    else:
        assert read_image(body) == (body, 5, 4)


def test_jfifs_marker_is_moved():
    """A fill byte before it, which libjpeg skips, keeps MXNet from its own reading."""
    rest = JFIF + frame() + SCAN + EOI
    assert read_image(START + rest) == (START + b"\xff" + rest, 5, 4)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"\xff\xff\xff", id="fill bytes"),
        pytest.param(b"rubbish", id="what is no marker"),
        pytest.param(b"\xff\0", id="a stuffed byte"),
        pytest.param(b"\xff\1", id="a marker without a segment"),
        pytest.param(b"\xff\xd0\xff\xd7", id="restarts"),
        pytest.param(segment(0xFE, b"\xff\xc0" + bytes(20)), id="a frame in a comment"),
        pytest.param(b"\xff\xfe\0\0", id="a comment that is shorter than its length"),
        pytest.param(b"\xff\xfe\0\1", id="and one of one byte"),
        pytest.param(segment(0xD8, b"ab"), id="a marker that has a segment here"),
    ],
)
def test_what_may_be_before_the_frame(more):
    body = START + segment(0xDB, b"table") + more + frame() + SCAN + EOI
    assert read_image(body)[1:] == (5, 4)


def test_the_last_frame_counts():
    body = START + segment(0xDB) + frame(width=9) + frame() + SCAN + frame(width=8) + EOI
    assert read_image(body)[1:] == (5, 4)


def test_a_size_of_two_bytes():
    body = START + segment(0xDB) + frame(width=0x0405, height=0x0203) + SCAN + EOI
    assert read_image(body)[1:] == (1029, 515)


def test_no_pixels():
    for size in ({"width": 0}, {"height": 0}):
        with pytest.raises(ValueError, match=r"^the image has \d x \d pixels$"):
            read_image(START + segment(0xDB) + frame(**size) + SCAN + EOI)


def test_a_jpeg_that_is_cut_off():
    """Wherever it is."""
    body = START + segment(0xDB, b"table") + frame() + SCAN + EOI
    for length in range(3, len(body)):
        with pytest.raises(ValueError, match="^the JPEG is cut off$"):
            read_image(body[:length])
    with pytest.raises(ValueError, match="^the JPEG is cut off$"):
        read_image(START + segment(0xDB, EOI) + frame() + SCAN)


def test_the_frame_may_be_the_last_that_is_there():
    """Its size is read if all of it is there; the scan is missing then."""
    body = START + frame()[:9]
    with pytest.raises(ValueError, match="^the JPEG is cut off$"):
        read_image(body)


def test_scans():
    """As many as the limit, and not one more; those in segments before the first do not count."""
    start = START + segment(0xDB, b"\xff\xda" * 3) + frame(0xC2)
    assert read_image(start + SCAN * MAX_SCANS + EOI)[1:] == (5, 4)
    with pytest.raises(ValueError, match="^the JPEG has more than 100 scans$"):
        read_image(start + SCAN * (MAX_SCANS + 1) + EOI)


@pytest.mark.parametrize("body", [b"", b"\xff\xd8", b"\xff\xd8\xfe", MAGIC[:7], b"GIF89a"])
def test_other_formats(body):
    with pytest.raises(ValueError, match="^not a JPEG or PNG$"):
        read_image(body)
