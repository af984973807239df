"""As much of JSON Schema as docs/compare.schema.json uses; a keyword that is not known here is an error."""

from typing import Any

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
SAYING = {"$schema", "$defs", "title", "description"}


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "$") -> list[str]:
    """Where and how a value breaks a schema; [] where it does not."""
    found = of_type(value, schema["type"], schema, root, where) if "type" in schema else []
    if found:
        return found
    for keyword, asked in schema.items():
        if keyword not in SAYING and keyword != "type":
            found += CHECKS[keyword](value, asked, schema, root, where)
    return found


def of_type(value: Any, asked: Any, schema: Any, root: Any, where: str) -> list[str]:
    names = [asked] if isinstance(asked, str) else asked
    fits = any(
        isinstance(value, TYPES[name]) and (isinstance(value, bool) is (name == "boolean") or name not in NUMERIC)
        for name in names
    )
    return [] if fits else [f"{where} is {value!r}, not {asked}"]


NUMERIC = ("number", "integer", "boolean")


def properties(value: Any, asked: Any, schema: Any, root: Any, where: str) -> list[str]:
    return [p for key in asked.keys() & keys(value) for p in problems(value[key], asked[key], root, f"{where}.{key}")]


def additional(value: Any, asked: Any, schema: Any, root: Any, where: str) -> list[str]:
    more = sorted(keys(value) - schema.get("properties", {}).keys())
    if asked is False:
        return [f"{where}.{key} is not foreseen" for key in more]
    return [p for key in more for p in problems(value[key], asked, root, f"{where}.{key}")]


def one_of(value: Any, asked: Any, schema: Any, root: Any, where: str) -> list[str]:
    tried = [problems(value, choice, root, where) for choice in asked]
    return [] if sum(not found for found in tried) == 1 else [f"{where} is {value!r}", *(p for t in tried for p in t)]


def reference(value: Any, asked: Any, schema: Any, root: Any, where: str) -> list[str]:
    return problems(value, root["$defs"][asked.removeprefix("#/$defs/")], root, where)


def keys(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def must(fits: bool, where: str, what: str) -> list[str]:
    return [] if fits else [f"{where} {what}"]


CHECKS = {
    "properties": properties,
    "additionalProperties": additional,
    "oneOf": one_of,
    "$ref": reference,
    "required": lambda v, asked, s, r, w: [f"{w}.{key} is missing" for key in asked if key not in keys(v)],
    "propertyNames": lambda v, asked, s, r, w: [p for key in keys(v) for p in problems(key, asked, r, f"{w}.{key}")],
    "items": lambda v, asked, s, r, w: [p for i, item in enumerate(v) for p in problems(item, asked, r, f"{w}[{i}]")],
    "enum": lambda v, asked, s, r, w: must(v in asked, w, f"is {v!r}, none of {asked}"),
    "const": lambda v, asked, s, r, w: must(v == asked, w, f"is {v!r}, not {asked!r}"),
    "minimum": lambda v, asked, s, r, w: must(v >= asked, w, f"is {v}, below {asked}"),
    "exclusiveMinimum": lambda v, asked, s, r, w: must(v > asked, w, f"is {v}, not above {asked}"),
    "minItems": lambda v, asked, s, r, w: must(len(v) >= asked, w, f"has {len(v)} items"),
    "maxItems": lambda v, asked, s, r, w: must(len(v) <= asked, w, f"has {len(v)} items"),
}
