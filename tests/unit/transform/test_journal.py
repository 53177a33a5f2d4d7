"""A part is in the output as a whole with its checksum, or it is done again."""

from __future__ import annotations

import pytest

from mms_handler.transform.cutting import Position
from mms_handler.transform.journal import Counts, Journal
from mms_handler.transform.part import Part, RecordError, done

ERROR = RecordError(2, 4, 400, "bad")


def part(number):
    """Part of two records of two bytes each."""
    return Part("in", number, 2 * number + 1, 4 * number, b"x\ny\n", "", "", 4 * number + 4,
                2 * number + 3)  # fmt: skip


def answer(number):
    return done(part(number), 2, b"<%d>" % number, (ERROR,) if number == 1 else ())


@pytest.fixture
def journal(tmp_path):
    """Parts 0 and 1 in the output, and 3 waiting."""
    made = Journal(tmp_path)
    for number in (0, 3, 1):
        made.add(answer(number))
    yield made
    made.close()


def output(folder):
    return (folder / "output").read_bytes()


def test_parts_come_in_their_order(journal, tmp_path):
    assert output(tmp_path) == b"<0><1>"
    assert journal.written == 2
    journal.add(answer(2))
    assert output(tmp_path) == b"<0><1><2><3>"
    assert journal.counts == Counts(4, 8, 1)
    assert journal.position == Position(4, 9, 16)
    assert list((tmp_path / "parts").iterdir()) == []


def again(journal, folder):
    journal.close()
    return Journal(folder)


def test_what_is_done_is_taken_up(journal, tmp_path):
    later = again(journal, tmp_path)
    assert later.position == Position(2, 5, 8)
    assert later.counts == Counts(3, 6, 1)
    assert [later.has(part(number)) for number in (2, 3)] == [False, True]
    later.add(answer(2))
    assert output(tmp_path) == b"<0><1><2><3>"
    later.close()


def test_a_waiting_part_that_does_not_follow_is_done_again(journal, tmp_path):
    """The part before it was cut otherwise."""
    journal.add(answer(2)._replace(end=13))
    assert output(tmp_path) == b"<0><1><2>"
    assert journal.counts == Counts(3, 6, 1)
    assert not journal.has(part(3))
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_part_that_was_cut_otherwise_is_done_again(journal):
    assert not journal.has(part(3)._replace(end=17))
    assert journal.counts == Counts(2, 4, 1)


@pytest.mark.parametrize("cut_off", [1, 20])
def test_a_line_that_was_not_written_to_its_end_counts_for_nothing(journal, tmp_path, cut_off):
    journal.close()
    lines = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(lines[:-cut_off])
    later = Journal(tmp_path)
    assert (later.written, output(tmp_path)) == (1, b"<0>")
    later.add(answer(1))
    assert output(tmp_path) == b"<0><1>"
    assert (tmp_path / "journal").read_bytes() == lines
    later.close()


@pytest.mark.parametrize("content", [b"<0><1", b"<0><9>", b"<0>"])
def test_an_output_unlike_its_checksum_is_done_again(journal, tmp_path, content):
    journal.close()
    (tmp_path / "output").write_bytes(content)
    later = Journal(tmp_path)
    assert (later.written, output(tmp_path)) == (1, b"<0>")
    later.close()


def test_bytes_behind_the_last_whole_part_are_removed(journal, tmp_path):
    journal.close()
    with (tmp_path / "output").open("ab") as file:
        file.write(b"<2")
    later = Journal(tmp_path)
    assert output(tmp_path) == b"<0><1>"
    later.close()


@pytest.mark.parametrize("content", [b"", b"{}\n", b"not JSON\n<3>"])
def test_a_waiting_part_that_is_not_whole_is_done_again(journal, tmp_path, content):
    journal.close()
    (tmp_path / "parts" / "3").write_bytes(content)
    later = Journal(tmp_path)
    assert not later.has(part(3))
    assert later.counts == Counts(2, 4, 1)
    later.close()


def test_a_waiting_part_is_compared_with_its_checksum(journal, tmp_path):
    journal.close()
    file = tmp_path / "parts" / "3"
    file.write_bytes(file.read_bytes().replace(b"<3>", b"<4>"))
    later = Journal(tmp_path)
    assert not later.has(part(3))
    later.close()


def test_a_waiting_part_that_was_not_renamed_is_done_again(journal, tmp_path):
    journal.close()
    (tmp_path / "parts" / "3").rename(tmp_path / "parts" / "3.new")
    later = Journal(tmp_path)
    assert not later.has(part(3))
    assert list((tmp_path / "parts").iterdir()) == []
    later.close()


def test_errors_are_listed(journal, tmp_path):
    journal.finish()
    assert (tmp_path / "errors").read_text() == (
        '{"record": 2, "offset": 4, "status": 400, "message": "bad"}\n'
    )
