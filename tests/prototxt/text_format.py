"""Protobuf's text format, read in a few lines: enough for nets and solvers, without the code under test."""

import re
from typing import Any

TOKEN = re.compile(r'\s*("[^"]*"|[{}:]|[^\s{}:]+)')


def parse(text: str) -> dict[str, list[Any]]:
    """A message as {field: [values]}; a value is a string without its quotes, or a message."""
    tokens = TOKEN.findall(text)
    message, rest = _message(tokens, 0)
    assert rest == len(tokens), "unbalanced braces"
    return message


def _message(tokens: list[str], at: int) -> tuple[dict[str, list[Any]], int]:
    fields: dict[str, list[Any]] = {}
    while at < len(tokens) and tokens[at] != "}":
        name = tokens[at]
        if tokens[at + 1] == "{":
            value, at = _message(tokens, at + 2)
            assert tokens[at] == "}", name
            at += 1
        else:
            assert tokens[at + 1] == ":", name
            value, at = tokens[at + 2].strip('"'), at + 3
        fields.setdefault(name, []).append(value)
    return fields, at


def one(message: dict[str, list[Any]], *path: str) -> Any:
    """The only value at a path of fields."""
    for name in path:
        (value,) = message[name]
        message = value
    return message
