"""images: a JPEG or PNG becomes an array, and nothing else does."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mms_handler import models
from mms_handler.errors import TooLarge


def image(kind, size=(3, 2)):
    """An image of one colour: red 200, green 100, blue 50."""
    out = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(out, kind)
    return out.getvalue()


def bomb():
    """A PNG of 18 kB with 12,000 x 12,000 pixels, which are 432 MB of RGB."""
    out = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    return out.getvalue()


def test_a_png_is_planes_of_red_green_and_blue():
    """One image is one row: (1, 3, height, width), float32 from 0 to 255."""
    array = models.decode_image(image("PNG"))
    assert (array.shape, array.dtype) == ((1, 3, 2, 3), np.float32)
    assert [plane.ravel().tolist() for plane in array[0]] == [[200.0] * 6, [100.0] * 6, [50.0] * 6]


def test_a_jpeg_is_too():
    """As far as JPEG keeps colours."""
    array = models.decode_image(image("JPEG", (16, 8)))
    assert array.shape == (1, 3, 8, 16)
    assert array[0].mean(axis=(1, 2)).tolist() == pytest.approx([200, 100, 50], abs=3)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b"", ValueError, id="nothing"),
        pytest.param(b"GIF89a", ValueError, id="another format"),
        pytest.param(image("PNG")[:40], ValueError, id="cut off"),
        pytest.param(bomb(), TooLarge, id="a bomb"),
    ],
)
def test_bodies_that_are_no_images(body, error):
    """Refused by the header if that is enough; OpenCV never crashes."""
    with pytest.raises(error):
        models.decode_image(body)
