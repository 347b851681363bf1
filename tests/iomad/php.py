"""What PHP's serialize() writes, for the suite's own rows."""

from __future__ import annotations

import math
from typing import Any

from emailoffload.moodle.formatting.phpserialize import PhpObject


def write(value: Any) -> str:
    """What PHP's serialize() writes."""
    if value is None:
        return "N;"
    if isinstance(value, bool):
        return f"b:{int(value)};"
    if isinstance(value, int):
        return f"i:{value};"
    if isinstance(value, float):
        return f"d:{number(value)};"
    if isinstance(value, str):
        return f"{string(value)};"
    if isinstance(value, PhpObject):
        inner = "".join(write(key) + write(each) for key, each in value.properties.items())
        return f'O:8:"stdClass":{len(value.properties)}:{{{inner}}}'
    inner = "".join(write(key) + write(each) for key, each in value.items())
    return f"a:{len(value)}:{{{inner}}}"


def string(value: str) -> str:
    return f's:{len(value.encode())}:"{value}"'


def number(value: float) -> str:
    if math.isinf(value):
        return "INF" if value > 0 else "-INF"
    return repr(value).replace("e", "E")
