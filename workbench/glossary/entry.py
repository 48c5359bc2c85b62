"""What a metric means, as a value that reads well."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Entry:
    """The definition of a metric.

    Args:
        name: its key in a row of metrics; one that ends in "*" stands for all that begin so.
        what: what it is.
        range: the values it can have.
        good: what a good value looks like.
        bad: what to do where it is bad.
        equation: as text; "" where the definition is equation enough.
    """

    name: str
    what: str
    range: str
    good: str
    bad: str
    equation: str = ""

    def __repr__(self) -> str:
        equation = [f"    {self.equation}"] if self.equation else []
        rest = [f"  range: {self.range}", f"  good:  {self.good}", f"  bad:   {self.bad}"]
        return "\n".join([f"{self.name}: {self.what}", *equation, *rest])

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """Return the definition as one paragraph of Markdown, the equation on a line of its own."""
        equation = f"\n\n    {self.equation}\n\n" if self.equation else " "
        return f"**`{self.name}`** {self.what}{equation}*Range*: {self.range}. *Good*: {self.good} *Bad*: {self.bad}"
