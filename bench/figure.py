"""What is printed: one measured value beside its target."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value. `met` is None where there is no target, only a comparison."""

    name: str
    value: str
    target: str = ""
    met: bool | None = None
