"""A widget for each type of a template's inputs. What is right is for the gateway to say."""

from __future__ import annotations

import math
from datetime import date
from typing import TYPE_CHECKING, Any

import streamlit as st
from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djp.v1 import catalogue_pb2

_EXACT = 2**53 - 1
"""Beyond it a browser's numbers are not exact."""


def ask(one: catalogue_pb2.TemplateInput, key: str) -> Any:
    """What somebody has given for an input, as the gateway takes it; None for nothing."""
    st.text("\n".join(filter(None, (f"{one.label} *" if one.required else one.label, one.help))))
    default = MessageToDict(one.default) if one.HasField("default") else None
    widget = _WIDGETS.get(one.type, _line)
    return widget(one, default, {"label": one.id, "label_visibility": "collapsed", "key": f"{key} {one.id}"})


def _line(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    return st.text_input(value=_text(default), placeholder=one.placeholder, **common) or None


def _area(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    return st.text_area(value=_text(default), placeholder=one.placeholder, height=160, **common) or None


def _int(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    least, most = _bound(one, "min", math.ceil), _bound(one, "max", math.floor)
    value = _number(default)
    whole = None if value is None else int(value)
    return st.number_input(value=whole, min_value=least, max_value=most, step=1, placeholder=one.placeholder, **common)


def _float(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    least, most = _bound(one, "min", float), _bound(one, "max", float)
    value = _number(default)
    return st.number_input(
        value=value, min_value=least, max_value=most, step=0.01, format="%f", placeholder=one.placeholder, **common
    )


def _bool(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    return st.checkbox(value=_text(default).lower() in ("true", "yes", "1"), **common)


def _enum(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    choices = _choices(one)
    index = choices.index(_text(default)) if _text(default) in choices else None
    return st.selectbox(options=choices, index=index, placeholder=one.placeholder or "Choose one", **common)


def _several(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    choices = _choices(one)
    given = default if isinstance(default, list) else _text(default).split(",")
    chosen = [text for text in (_text(each).strip() for each in given) if text in choices]
    return st.multiselect(options=choices, default=chosen, placeholder=one.placeholder or "Choose", **common) or None


def _date(one: catalogue_pb2.TemplateInput, default: Any, common: Mapping[str, Any]) -> Any:
    try:
        value = date.fromisoformat(_text(default))
    except ValueError:
        value = None
    chosen = st.date_input(value=value, min_value=date.min, max_value=date.max, format="YYYY-MM-DD", **common)
    return chosen.isoformat() if isinstance(chosen, date) else None


_WIDGETS: Mapping[str, Callable[[catalogue_pb2.TemplateInput, Any, Mapping[str, Any]], Any]] = {
    "text": _area,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "enum": _enum,
    "multiselect": _several,
    "date": _date,
}
"""All others are a line: string, email and url."""


def _bound(one: catalogue_pb2.TemplateInput, name: str, kind: Callable[[float], Any]) -> Any:
    """The validator of that name, where the browser can hold it."""
    value = _number(MessageToDict(one.validators).get(name))
    return None if value is None or abs(value) > _EXACT else kind(value)


def _choices(one: catalogue_pb2.TemplateInput) -> list[str]:
    return [_text(each) for each in MessageToDict(one.validators).get("choices", [])]


def _number(value: Any) -> float | None:
    """The number that a value is, also one written as a text; None for anything else that a browser could not hold."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) <= _EXACT else None


def _text(value: Any) -> str:
    """A value as it would be written; numbers come from the contract as floats."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
