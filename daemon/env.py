"""Reads named values, typed, from the environment and a `.env` file, and collects every problem it meets.

No message repeats a value, unless it turned out to be a number: what is in the wrong place is often a secret.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dotenv.parser import parse_stream

YEAR_SECONDS = 365 * 86_400
"""No interval may be longer: beyond it a typo is likelier than a wish."""

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?", re.ASCII)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE | re.ASCII)
_NOTION_SECRET = re.compile(r"(ntn|secret)_[A-Za-z0-9]+", re.ASCII)


class SecretStr:
    """A text that shows itself to nobody by accident: `repr`, `str` and formats give asterisks."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"SecretStr({str(self)!r})"

    def __str__(self) -> str:
        return "**********" if self._value else ""

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._value == self._value

    def __hash__(self) -> int:
        return hash((SecretStr, self._value))


def read_env_file(path: Path | None) -> tuple[dict[str, str], list[str]]:
    """The names and values of a `.env` file, and one line per problem. A missing file is an empty one.

    `$` in a value stays as it is: secrets contain it.
    """
    if path is None or not path.is_file():
        return {}, []
    try:
        with path.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except UnicodeDecodeError:
        return {}, [f"{path.name}: is not UTF-8 text; save it as UTF-8"]
    except OSError as error:
        return {}, [f"{path.name}: cannot be read ({error.strerror}); make it readable or remove it"]
    problems = [
        f"{path.name}: line {binding.original.line} cannot be read; write NAME=value, with quotes closed"
        for binding in bindings
        if binding.error
    ]
    return {b.key: b.value for b in bindings if b.key and b.value}, problems


def merged(names: Iterable[str], environ: Mapping[str, str], from_file: Mapping[str, str]) -> dict[str, str]:
    """The values of `names`: the environment's, else the file's. Outer blanks go; empty is unset.

    So do quotation marks around one of the environment's: `docker run --env-file` passes them on.
    """
    found: dict[str, str] = {}
    for name in names:
        value = _unquoted(environ.get(name, "").strip()) or from_file.get(name, "").strip()
        if value:
            found[name] = value
    return found


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if is_quoted else text


@dataclass
class Reader:
    """Turns `values` into types. What cannot be read becomes a line in `problems` and a harmless stand-in."""

    values: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, name: str, wrong: str, right: str) -> None:
        """Note what is wrong with `name` and what would be right. Neither may contain the value."""
        self.problems.append(f"{name}: {wrong}; {right}")

    def warn(self, name: str, text: str) -> None:
        """Note something that works but is probably not meant."""
        self.warnings.append(f"{name}: {text}")

    def text(self, name: str, default: str = "") -> str:
        """The value as it stands, or `default`."""
        return self.values.get(name, default)

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        text = self.values.get(name)
        if text is None:
            return default
        if not _WHOLE.fullmatch(text):
            self.problem(name, "is not a whole number", f"write one from {low} to {high}{hint(text)}")
            return default
        number = int(text)
        if not low <= number <= high:
            self.problem(name, f"is {number}", f"must be from {low} to {high}")
            return default
        return number

    def seconds(self, name: str, default: float, *, low: float, why: str = "", zero: bool = False) -> float:
        """A number of seconds of at least `low`; zero only if `zero` allows it. `why` explains the bound."""
        text = self.values.get(name)
        if text is None:
            return default
        if not _DECIMAL.fullmatch(text):
            self.problem(
                name, "is not a plain number of seconds", f"write one such as {default:g}{hint(text)}"
            )
            return default
        number = float(text)
        if number < low or number > YEAR_SECONDS or (number == 0 and not zero):
            at_least = f"at least {low:g}" if low or zero else "more than 0"
            self.problem(name, f"is {number:g}", f"must be {at_least} and at most {YEAR_SECONDS}{why}")
            return default
        return number

    def flag(self, name: str) -> bool:
        """A yes or a no; unset is no."""
        word = self.values.get(name, "0").lower()
        if word not in TRUE_WORDS | FALSE_WORDS:
            right = "write 1, true, yes or on; or 0, false, no or off"
            self.problem(name, "is neither a yes nor a no", right)
        return word in TRUE_WORDS

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of a few words, in any case."""
        word = self.values.get(name, default).lower()
        if word in allowed:
            return word
        self.problem(name, "is not one of the words it can be", f"write one of {', '.join(allowed)}")
        return default

    def secret(self, name: str) -> SecretStr | None:
        """A secret that travels in an HTTP header: printable ASCII."""
        text = self.values.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isprintable()):
            right = "use letters, digits and ASCII punctuation only (it travels in an HTTP header)"
            self.problem(name, "contains characters that a header cannot carry", right)
        return SecretStr(text)

    def token(self, name: str) -> SecretStr | None:
        """A secret that somebody else made: as `secret`, and neither an address nor several words."""
        found = self.secret(name)
        text = self.values.get(name, "")
        if _ADDRESS.match(text):
            self.problem(name, "looks like an address", "put the token itself here (are they swapped?)")
        elif any(character.isspace() for character in text):
            self.problem(name, "contains blanks", "copy the token again, alone and on one line")
        return found

    def url(self, name: str, default: str | None = None, *, plain: bool = True) -> str | None:
        """An `http(s)://` address, without a slash at its end. `plain`: with neither user nor query."""
        text = self.values.get(name)
        if text is None:
            return default
        parts = parsed_url(text, ("http", "https"))
        if parts is not None and plain and ("@" in parts.netloc or parts.query or parts.fragment):
            self.problem(name, "has more than a host and a path", "leave out user, password, ? and #")
        if parts is None:
            self.problem(
                name, "is not an http(s) address", f"write one such as https://example.com{hint(text)}"
            )
            return default
        return text.rstrip("/")


def parsed_url(text: str, schemes: tuple[str, ...]) -> SplitResult | None:
    """The parts of an address of one of `schemes`; None if it has no host, a wrong port or blanks in it."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    blank_free = not any(character.isspace() or not character.isprintable() for character in text)
    return parts if usable and blank_free else None


def bare_url(text: str | None) -> str | None:
    """An address without what may be secret in it: user, password, query and fragment."""
    if not text:
        return None
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def password_in(text: str) -> str:
    """The password inside an address as it stands there; empty when there is none, or no address."""
    try:
        return urlsplit(text).password or ""
    except ValueError:
        return ""


def hint(text: str) -> str:
    """What a value in the wrong place seems to be, as the end of a sentence; nothing of the value itself."""
    if _NOTION_SECRET.match(text):
        return " (this looks like a Notion secret: it belongs in NOTION_TOKEN)"
    if text.startswith(("redis://", "rediss://")):
        return " (this looks like a Redis address: it belongs in KV_URL)"
    return ""
