"""What the sandbox writes into `headers` is what PHP would write."""

from __future__ import annotations

import json

import pytest

from emailoffload.moodle.formatting import phpserialize
from emailoffload.sandbox.php_serialize import PlainObject, serialize, unserialize
from tests.golden import FOLDER


@pytest.mark.parametrize("name", ["iomad-user_create-1", "iomad-user_added_to_course-2"])
def test_what_a_real_site_stored_is_written_again_byte_by_byte(name: str) -> None:
    real = json.loads((FOLDER / f"{name}.json").read_text())["email"]["headers"]
    assert serialize(unserialize(real)) == real


def test_lengths_are_those_of_bytes_and_every_kind_comes_back() -> None:
    value = {0: "Cc:zoë@learn.example", "template": PlainObject({"a": None, "b": True, "c": -4, "d": '"};'})}
    text = serialize(value)
    assert text == (
        'a:2:{i:0;s:21:"Cc:zoë@learn.example";s:8:"template";O:8:"stdClass":4:'
        '{s:1:"a";N;s:1:"b";b:1;s:1:"c";i:-4;s:1:"d";s:3:""};";}}'
    )
    assert unserialize(text) == value
    assert serialize(["x", False]) == 'a:2:{i:0;s:1:"x";i:1;b:0;}'


def test_the_strict_reader_of_the_product_agrees() -> None:
    text = serialize({0: "Cc:zoë@learn.example", "template": PlainObject({"a": None, "b": True})})
    read = phpserialize.loads(text)
    assert isinstance(read, dict) and read[0] == "Cc:zoë@learn.example"


def test_what_php_could_not_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        serialize(1.5)


@pytest.mark.parametrize(
    "text", ["", "x", "i:1", 's:3:"ab";', "i:1;i:2;", 'O:4:"Evil":0:{}', "a:1:{i:0;", "q:1;", "i:x;"]
)
def test_anything_else_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):
        unserialize(text)
