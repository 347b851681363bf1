"""PHP-serialized data are read exactly or not at all, and an error never quotes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.moodle.formatting import phpserialize
from emailoffload.moodle.formatting.phpserialize import PhpObject, PhpSerializeError, loads
from tests import golden
from tests.iomad.php import write

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = texts.filter(lambda text: "\0" not in text)
keys = st.integers(-(2**63), 2**63 - 1) | texts.filter(lambda text: not text.lstrip("-").isdecimal())
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.dictionaries(keys, inner, max_size=4) | st.dictionaries(names, inner, max_size=4).map(PhpObject)
    ),
    max_leaves=12,
).filter(lambda value: depth(value) <= phpserialize.MAX_DEPTH)


def depth(value: Any) -> int:
    if isinstance(value, PhpObject):
        value = value.properties
    return 1 + max((depth(each) for each in value.values()), default=0) if isinstance(value, dict) else 1


def refusal(text: str) -> PhpSerializeError | None:
    """The reader's error, if it refuses; any other exception passes."""
    try:
        loads(text)
    except PhpSerializeError as error:
        return error
    return None


@given(values)
def test_what_php_writes_is_read_back(value: Any) -> None:
    found = loads(write(value))
    assert found == value
    assert type(found) is type(value)


@given(values, st.data())
def test_what_is_cut_off_is_an_error_that_says_where(value: Any, data: st.DataObject) -> None:
    text = write(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(PhpSerializeError) as caught:
        loads(cut)
    assert 0 <= caught.value.offset <= len(cut.encode())


@given(values, st.data())
def test_what_is_changed_is_read_or_is_that_error_and_no_other(value: Any, data: st.DataObject) -> None:
    text = write(value)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
    error = refusal(changed)
    assert error is None or str(error) == f"{error.what} at byte {error.offset}"


@given(st.text(max_size=60))
def test_any_text_is_read_or_is_that_error(text: str) -> None:
    error = refusal(text)
    assert error is None or 0 <= error.offset <= len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no value"),
        ("x", "no value"),
        ("N;N;", "something after the value"),
        ("i:1;\n", "something after the value"),
        ("i:01;", "something else than ;"),
        ("i:+1;", "something else than an integer"),
        ("i:-0;", "something else than an integer"),
        ("i:9223372036854775808;", "an integer that PHP cannot hold"),
        ("b:2;", "something else than a truth value"),
        ("d:x;", "something else than a number"),
        ('s:2:"a";', "something else than \""),
        ('s:1:"ab";', "something else than \""),
        ('s:1:"é";', "a string that ends within a character"),
        ('s:9:"a";', "a string longer than the text"),
        ('s:01:"a";', "something else than :\""),
        ('s:-1:"a";', "something else than a length"),
        ("a:1:{i:0;i:1;", "something else than }"),
        ("a:2:{i:0;i:1;}", "something else than a key"),
        ("a:0:{i:0;i:1;}", "something else than }"),
        ("a:2:{i:0;i:1;i:0;i:2;}", "a key for the second time"),
        ('a:1:{s:1:"5";i:1;}', "a key that PHP would have made a number"),
        ("a:1:{d:0.5;i:1;}", "something else than a key"),
        ("a:1:{b:1;i:1;}", "something else than a key"),
        ("a:99999:{}", "more than 2000 values"),
        ("a:2:{i:0;i:1;i:1;R:2;}", "a reference"),
        ("a:2:{i:0;i:1;i:1;r:2;}", "a reference"),
        ('C:8:"stdClass":0:{}', "an object with a format of its own"),
        ('E:3:"A:B";', "an object with a format of its own"),
        ('O:9:"Exception":0:{}', "an object of a class of its own"),
        ('O:8:"stdclass":0:{}', "an object of a class of its own"),
        ('O:8:"stdClass":1:{i:0;i:1;}', "a property whose name is a number"),
        ('O:8:"stdClass":1:{s:3:"\0*\0";i:1;}', "a property that is not public"),
        ('O:8:"stdClass":2:{s:1:"a";N;s:1:"a";N;}', "a property for the second time"),
        ("\ud800", "text that is no Unicode"),
    ],
)  # fmt: skip
def test_what_php_does_not_write_or_could_do_harm_is_refused(text: str, what: str) -> None:
    with pytest.raises(PhpSerializeError) as caught:
        loads(text)
    assert caught.value.what == what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a:1:{i:0;" * 8 + "N;" + "}" * 8, "nesting deeper than 8"),
        ("a:1000:{" + "".join(f"i:{n};a:1:{{i:0;N;}}" for n in range(1000)) + "}", "more than 2000 values"),
        (write("x" * phpserialize.MAX_BYTES), f"more than {phpserialize.MAX_BYTES} bytes"),
    ],
    ids=["depth", "items", "bytes"],
)
def test_size_depth_and_count_are_bounded(text: str, what: str) -> None:
    with pytest.raises(PhpSerializeError) as caught:
        loads(text)
    assert caught.value.what == what


def test_lengths_are_bytes_not_characters() -> None:
    assert loads('s:5:"é→";') == "é→"


def test_an_error_quotes_nothing_of_the_text() -> None:
    with pytest.raises(PhpSerializeError) as caught:
        loads('a:1:{s:8:"password";s:6:"hunter2";}')
    assert "hunter2" not in str(caught.value)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("name", ["iomad-user_create-1", "iomad-user_added_to_course-2"])
def test_the_headers_of_a_real_row_are_read_and_written_back(name: str) -> None:
    headers = json.loads((golden.FOLDER / f"{name}.json").read_text())["email"]["headers"]
    found = loads(headers)
    assert isinstance(found, dict)
    assert isinstance(found["template"], PhpObject)
    assert write(found) == headers
