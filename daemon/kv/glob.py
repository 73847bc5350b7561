r"""Redis glob patterns: `*`, `?`, `[a-c]`, `[^a]`, and `\` before a character that is taken as it is."""

import re
from collections.abc import Callable


def glob_escaped(text: str) -> str:
    """A pattern that matches `text` and nothing else."""
    return re.sub(r"([*?\[\]^\\])", r"\\\1", text)


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether a text matches. As in Redis, `?` and a class stand for one byte."""
    expression = _expression(_bytes_as_characters(pattern))
    return lambda text: expression.fullmatch(_bytes_as_characters(text)) is not None


def _bytes_as_characters(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _expression(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            if parts[-1:] != [".*"]:  # several in a row only make matching slow
                parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "[":
            part, position = _class_after(pattern, position)
            parts.append(part)
        elif character == "\\" and position < len(pattern):
            parts.append(re.escape(pattern[position]))
            position += 1
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def _class_after(pattern: str, position: int) -> tuple[str, int]:
    """The class whose `[` ends before `position`, as a regular expression, and where the pattern goes on."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    members = ""
    while position < len(pattern) and pattern[position] != "]":
        member, position = _member_at(pattern, position)
        members += member
    if not members:
        return "." if negated else "(?!)", position + 1
    return f"[{'^' if negated else ''}{members}]", position + 1


def _member_at(pattern: str, position: int) -> tuple[str, int]:
    """One character or range of a class, and the position after it."""
    rest = len(pattern) - position
    if pattern[position] == "\\" and rest >= 2:
        return re.escape(pattern[position + 1]), position + 2
    if rest >= 3 and pattern[position + 1] == "-":
        low, high = sorted((pattern[position], pattern[position + 2]))
        return f"{re.escape(low)}-{re.escape(high)}", position + 3
    return re.escape(pattern[position]), position + 1
