"""What a stream may be called: anything that can be read, nothing that forges or hides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.stream_names import refusal, valid_stream_name


@pytest.mark.parametrize(
    "name",
    ["s", "pump-1", "Halle 3, Pumpe 1", "a:b/c@d+e", "Überdruck", "泵 1", "насос", "🏭", "a'b\"c\\d", "<b>&amp;",
     "{x}=1", "$HOME", "x" * 256, "é" * 128],
)  # fmt: skip
def test_printable_characters_and_spaces_make_a_name(name: str) -> None:
    assert valid_stream_name(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        (" ", "blank"),
        (" a", "a space before it"),
        ("a ", "a space after it"),
        ("x" * 257, "257 bytes"),
        ("é" * 129, "258 bytes"),
        ("a\nb", "a line break"),
        ("a\rb", "a carriage return"),
        ("a\tb", "a tab"),
        ("a\x00b", "a control character"),
        ("a\x1b[31mb", "an escape sequence of the terminal"),
        ("a\x7fb", "delete"),
        ("a\x85b", "the line break NEL"),
        ("a\u2028b", "a line separator"),
        ("a\u2029b", "a paragraph separator"),
        ("a\u202eb", "text turned round"),
        ("a\u2066b", "text isolated"),
        ("a\u200bb", "a space of no width"),
        ("\ufeffa", "a byte-order mark"),
        ("a\u00a0b", "a space that looks like the ordinary one"),
        ("a\ud800b", "half a surrogate pair"),
        ("a\ue000b", "a private character"),
    ],
)
def test_what_could_forge_or_hide_a_part_of_a_line_is_no_name(name: str, why: str) -> None:
    assert not valid_stream_name(name), why


@given(st.text(st.characters(categories=["C", "Z", "L"]), max_size=300))
def test_a_valid_name_is_one_line_of_at_most_256_bytes(name: str) -> None:
    if valid_stream_name(name):
        assert name.splitlines() == [name]
        assert len(name.encode()) <= 256
        assert name == name.strip()


@given(st.text(max_size=300))
def test_a_refusal_can_be_printed_anywhere(name: str) -> None:
    said = refusal(name)

    assert said.isascii()
    assert said.isprintable()
    assert len(said) < 1200
