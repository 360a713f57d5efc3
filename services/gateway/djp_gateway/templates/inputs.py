"""Checks what is given for a template's inputs, all at once, and makes of it the values that the template sees."""

from __future__ import annotations

from datetime import date
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import re2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from djp_gateway.templates.model import Input, Template

MOST_CHARS = 200_000
"""Of one input: a task has 262,144 bytes at most."""


class _Bad(Exception):  # noqa: N818
    """Why a value cannot be taken."""


def checked(template: Template, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The values by input, and of every bad, missing or unknown one its id and what is wrong.

    An input that is not given and has no default has no value.
    """
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    known = {one.id: one for one in template.inputs}
    for name in given:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            problems.append((name[:100], f"is no input of {template.name!r}; {has}"))
    for one in template.inputs:
        value = given.get(one.id)
        if _empty(value):
            value = one.default
        if _empty(value):
            if one.required:
                problems.append((one.id, f"is missing; {_wanted(one)}"))
            continue
        try:
            values[one.id] = value_of(one, value)
        except _Bad as bad:
            problems.append((one.id, str(bad)))
    return values, problems


def problem_of(one: Input) -> str:
    """What is wrong with an input's own validators or default; empty if nothing is."""
    least, most = one.validators.get("min"), one.validators.get("max")
    if one.type not in ("string", "text", "int", "float") and (least is not None or most is not None):
        return f"min and max have no meaning for the type {one.type}; leave them out"
    if least is not None and most is not None and least > most:
        return f"min {least} is more than max {most}"
    if "choices" in one.validators and one.type not in ("enum", "multiselect"):
        return f"choices have no meaning for the type {one.type}; use enum or multiselect"
    if "regex" in one.validators:
        if one.type not in ("string", "text"):
            return f"a regex has no meaning for the type {one.type}; leave it out"
        try:
            _pattern(one.validators["regex"])
        except re2.error as error:
            return f"regex: RE2 refuses it ({error}); it has neither look-around nor back-references"
    if not _empty(one.default):
        try:
            value_of(one, one.default)
        except _Bad as bad:
            return f"default: {bad}"
    return ""


def example(template: Template) -> dict[str, Any]:
    """Inputs to try a template with: its defaults, and where there is none, what its empty fields show."""
    given: dict[str, Any] = {}
    for one in template.inputs:
        value = one.placeholder if _empty(one.default) else one.default
        if not _empty(value):
            given[one.id] = value
    return given


def value_of(one: Input, value: Any) -> Any:
    """The value that the template sees. Raises _Bad."""
    made = _TYPES[one.type](one, value)
    least, most = one.validators.get("min"), one.validators.get("max")
    size = len(made) if isinstance(made, str) else made
    unit = " characters" if isinstance(made, str) else ""
    if least is not None and size < least:
        raise _Bad(f"has {size}{unit}, and the least is {least}" if unit else f"is {size}, and the least is {least}")
    if most is not None and size > most:
        raise _Bad(f"has {size}{unit}, and the most is {most}" if unit else f"is {size}, and the most is {most}")
    return made


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == []


def _string(one: Input, value: Any) -> str:
    text = _text(one, value)
    if "\n" in text or "\r" in text:
        raise _Bad("has a line break; this input is a single line")
    return text


def _text(one: Input, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(int(value) if float(value).is_integer() else value)
    if not isinstance(value, str):
        raise _Bad(f"is {_kind(value)}; give a text")
    if len(value) > MOST_CHARS:
        raise _Bad(f"has {len(value)} characters, and the most is {MOST_CHARS}")
    if "\0" in value:
        raise _Bad("has a NUL character in it; take it out")
    regex = one.validators.get("regex")
    if regex and not _pattern(regex).fullmatch(value):
        raise _Bad(f"does not match {regex}")
    return value


def _int(one: Input, value: Any) -> int:
    made = _number(one, value, "a whole number")
    if not float(made).is_integer():
        raise _Bad(f"is {made}; give a whole number")
    return int(made)


def _float(one: Input, value: Any) -> float:
    return float(_number(one, value, "a number"))


def _number(_one: Input, value: Any, wanted: str) -> int | float:
    from pydantic import FiniteFloat, ValidationError

    if isinstance(value, bool):
        raise _Bad(f"is {_kind(value)}; give {wanted}")
    for kind in (int, FiniteFloat):
        try:
            number: int | float = _adapter(kind).validate_python(value)
            return number
        except (ValidationError, OverflowError):
            continue
    raise _Bad(f"{_quoted(value)} is no number; give {wanted}")


def _bool(_one: Input, value: Any) -> bool:
    from pydantic import ValidationError

    try:
        return bool(_adapter(bool).validate_python(value))
    except ValidationError:
        raise _Bad(f"{_quoted(value)} is neither true nor false") from None


def _enum(one: Input, value: Any) -> Any:
    for choice in one.validators["choices"]:
        if not isinstance(value, bool) and (value == choice or str(value) == str(choice)):
            return choice
    raise _Bad(f"{_quoted(value)} is no choice; there are {', '.join(map(str, one.validators['choices']))}")


def _multiselect(one: Input, value: Any) -> list[Any]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise _Bad(f"is {_kind(value)}; give a list of choices")
    return list(dict.fromkeys(_enum(one, part) for part in value[:10_000]))


def _date(_one: Input, value: Any) -> str:
    try:
        return date.fromisoformat(str(value).strip()).isoformat()
    except ValueError as error:
        raise _Bad(f"{_quoted(value)} is no date ({error}); give one such as 2025-10-01") from None


def _email(_one: Input, value: Any) -> str:
    from email_validator import EmailNotValidError, validate_email

    try:
        return validate_email(str(value).strip(), check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise _Bad(f"{_quoted(value)} is no email address: {str(error)[:200]}") from None


def _url(_one: Input, value: Any) -> str:
    from pydantic import HttpUrl, ValidationError

    text = str(value).strip()
    try:
        _adapter(HttpUrl).validate_python(text)
    except ValidationError:
        raise _Bad(f"{_quoted(value)} is no web address; give one that begins with http:// or https://") from None
    if any(character.isspace() for character in text):
        raise _Bad(f"{_quoted(value)} has a blank in it; write it as %20")
    return text


_TYPES: Mapping[str, Callable[[Input, Any], Any]] = {
    "string": _string,
    "text": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "enum": _enum,
    "date": _date,
    "email": _email,
    "url": _url,
    "multiselect": _multiselect,
}


def _wanted(one: Input) -> str:
    what = {
        "string": "give a text",
        "text": "give a text",
        "int": "give a whole number",
        "float": "give a number",
        "bool": "give true or false",
        "date": "give a date such as 2025-10-01",
        "email": "give an email address",
        "url": "give an address that begins with http:// or https://",
    }.get(one.type) or f"choose from {', '.join(map(str, one.validators['choices']))}"
    return f"{what}: {one.help or one.label}"


def _kind(value: Any) -> str:
    names: Sequence[tuple[type, str]] = ((bool, "true or false"), (dict, "an object"), (list, "a list"))
    return next((name for kind, name in names if isinstance(value, kind)), "a number")


def _quoted(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # numbers come as floats over the wire
    text = " ".join(str(value)[:200].split())
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


@lru_cache(maxsize=256)
def _pattern(regex: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(regex, options)


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
