"""What responses look like, without their values: which keys each kind of object has, and the JSON types in them."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from daemon.demo.wire import Json

_STRING_FORMS = (
    ("uuid", re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")),
    ("time with Z", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")),
    ("time with offset", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d")),
)
Problem = Literal["missing", "sometimes missing", "extra", "type"]


@dataclass(frozen=True, order=True)
class Difference:
    """One way in which the sandbox's answers differ from the recorded ones."""

    path: str
    problem: Problem
    detail: str

    def __str__(self) -> str:
        return f"{self.problem:<18}{self.path}: {self.detail}"


@dataclass
class _Seen:
    """An object form: how often it came, and of each key the types of its values."""

    count: int = 0
    keys: dict[str, Counter[str]] = field(default_factory=dict)


class Shape:
    """The forms of all the responses that were added.

    A form is named by its path, with the value of `type` in angle brackets wherever an object has one, so
    that only alike is compared with alike: `page.properties.*<relation>`, `block<paragraph>.paragraph`.
    Objects that name themselves (`"object": "page"`), rich text and the parents of blocks are the same form
    wherever they are found.
    """

    def __init__(self) -> None:
        self._forms: dict[str, _Seen] = {}

    def add(self, kind: str, body: Json) -> None:
        """One response; `kind` names what was asked for (`query`, `page`, `error` ...)."""
        request_id = {k: body[k] for k in ("request_id",) if k in body}
        self._object(request_id, f"answer to {kind}")
        self._value({k: v for k, v in body.items() if k not in request_id}, kind)

    @property
    def forms(self) -> set[str]:
        """The names of the forms that were seen."""
        return set(self._forms)

    def _value(self, value: Any, path: str) -> None:
        if isinstance(value, dict):
            self._object(value, _form(value, path))
        elif isinstance(value, list):
            for item in value:
                self._note(f"{path}[]", "", item)
                self._value(item, f"{path}[]")

    def _object(self, value: Json, form: str) -> None:
        seen = self._forms.setdefault(form, _Seen())
        seen.count += 1
        for key, inner in value.items():
            seen.keys.setdefault(key, Counter())[_type(inner)] += 1
            if key == "properties" and isinstance(inner, dict):
                for named in inner.values():
                    self._value(named, f"{form}.properties.*")
            else:
                self._value(inner, f"{form}.{key}")

    def _note(self, form: str, key: str, value: Any) -> None:
        seen = self._forms.setdefault(form, _Seen())
        seen.keys.setdefault(key, Counter())[_type(value)] += 1

    def differences(self, real: "Shape") -> Iterator[Difference]:
        """Where this shape departs from the real one, in the forms that both have."""
        for form in sorted(self.forms & real.forms):
            yield from _compare(form, self._forms[form], real._forms[form])


def _form(value: Json, path: str) -> str:
    kind, code = value.get("type"), value.get("code")
    named = value.get("object")
    if isinstance(named, str) and named != "list":
        path = named
        kind = code if named == "error" else kind
    elif "plain_text" in value and "annotations" in value:
        path = "rich_text"
    elif path.startswith("block<") and path.endswith(">.parent"):
        path = "block.parent"
    return f"{path}<{kind}>" if isinstance(kind, str) else path


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return next((name for name, form in _STRING_FORMS if form.fullmatch(value)), "string")
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "list" if isinstance(value, list) else "object"


def _compare(form: str, ours: _Seen, real: _Seen) -> Iterator[Difference]:
    for key in sorted(real.keys.keys() | ours.keys.keys()):
        path = f"{form}.{key}" if key else form
        if key not in ours.keys:
            yield Difference(path, "missing", f"recorded as {_words(real.keys[key])}")
        elif key not in real.keys:
            yield Difference(path, "extra", f"never recorded; here {_words(ours.keys[key])}")
        else:
            yield from _compare_key(path, key, ours, real)


def _compare_key(path: str, key: str, ours: _Seen, real: _Seen) -> Iterator[Difference]:
    here, there = ours.keys[key], real.keys[key]
    if key and there.total() == real.count and here.total() < ours.count:
        times = f"{ours.count - here.total()} of {ours.count} times"
        yield Difference(path, "sometimes missing", f"always recorded, absent here {times}")
    # What was only ever recorded empty says nothing of how it looks when it is filled.
    unknown = set() if set(there) == {"null"} else set(here) - set(there)
    if unknown:
        yield Difference(
            path, "type", f"recorded as {_words(there)}; here also {' or '.join(sorted(unknown))}"
        )


def _words(types: Counter[str]) -> str:
    return " or ".join(sorted(types))
