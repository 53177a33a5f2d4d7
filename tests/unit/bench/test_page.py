"""bench.page: the page has all that was measured, and nothing in it is taken for HTML."""

from __future__ import annotations

import html.parser

from mms_handler.bench import page


class Texts(html.parser.HTMLParser):
    """The texts of a page, by the element that has them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tag = tag

    def handle_data(self, data):
        if data.strip() and self.tag != "style":
            self.found.append((self.tag, data.strip()))


def test_a_page(tmp_path):
    path = tmp_path / "new" / "a.html"
    page.write(
        path,
        title="a <b>",
        columns=["LOAD", "P<50>"],
        rows=[["1 & 2", "3"], ["4", "<i>5"]],
        caption="in <ms>",
        picture="<svg><text>6</text></svg>",
        facts=[("<machine>", "7 é")],
        notes=["8 < 9"],
    )
    assert Texts(path.read_text(encoding="utf-8")).found == [
        ("title", "a <b>"),
        ("h1", "a <b>"),
        ("p", "8 < 9"),
        ("th", "LOAD"),
        ("th", "P<50>"),
        ("td", "1 & 2"),
        ("td", "3"),
        ("td", "4"),
        ("td", "<i>5"),
        ("p", "in <ms>"),
        ("text", "6"),
        ("dt", "<machine>"),
        ("dd", "7 é"),
    ]
    page.write(
        path, title="", columns=[], rows=[], caption="", picture="", facts=[], notes=[]
    )  # again, in a folder that is there
