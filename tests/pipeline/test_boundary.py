"""What reaches the terminal when something went wrong."""

import pytest

from pipeline.boundary import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\rb\tc\x00", "a\\rb\\tc\\x00"),
        ("‮txt.exe", "\\u202etxt.exe"),
        ("two\nlines é <b>", "two\nlines é <b>"),
    ],
)
def test_a_terminal_is_given_nothing_to_obey(text, shown):
    """Escapes, carriage returns and turned text are shown as what they are."""
    assert printable(text) == shown


def test_a_message_with_a_hostile_name_is_harmless(error, config, tmp_path):
    """A column that is not there is named, its escape sequence is not played."""
    table = tmp_path / "pairs.csv"
    table.write_text("heavy,light,anti\x1b[31mgen,pkd\nEVQL,DIQM,MKT,7\n")
    said = error("embed", "--config", config, "--set", f"pairs.path={table}")
    assert "\x1b" not in said
