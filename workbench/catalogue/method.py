"""What a row of the catalogue says about a system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "recipe", "evidence", "objective", "schedule", "transform", "search", "probe", "environment", "tutorial", "taxonomy"
]
KINDS: tuple[Kind, ...] = (
    "recipe",
    "evidence",
    "objective",
    "schedule",
    "transform",
    "search",
    "probe",
    "environment",
    "tutorial",
    "taxonomy",
)
Status = Literal["runs", "recipe only", "evidence only", "planned"]
STATUSES: tuple[Status, ...] = ("runs", "recipe only", "evidence only", "planned")


@dataclass(frozen=True)
class Card:
    """What is known about the publication.

    Args:
        title: of the paper.
        year: of its first version.
        arxiv: arXiv id; None if none was found.
        summary: the idea in one line.
        source: what this project's account of it rests on.
        reconstruction: what of it is our reading, because no source settles it; "" if nothing is.
        code: the released file that was read, as "owner/repository[@commit] path" on GitHub; "" if there is none.
    """

    title: str
    year: int
    arxiv: str | None
    summary: str
    source: str
    reconstruction: str = ""
    code: str = ""

    @property
    def link(self) -> str:
        """Address of the paper; "" if no arXiv id was found."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    @property
    def code_link(self) -> str:
        """Address of the released file, at its commit where that is known; "" if none was read.

        Example:
            >>> Card("t", 2026, None, "s", "x", code="a/b@123 c/d.py").code_link
            'https://github.com/a/b/blob/123/c/d.py'
        """
        if not self.code:
            return ""
        repository, _, path = self.code.partition(" ")
        name, _, commit = repository.partition("@")
        return f"https://github.com/{name}/blob/{commit or 'HEAD'}/{path}"


@dataclass(frozen=True)
class Method:
    """One system, and what of it is here.

    Args:
        number: 1 .. 63 for the systems of the catalogue, "B1" ... for the baselines.
        name: short name.
        kind: what it is here; several, where it has several parts.
        status: "runs" (its recipe gives credit on rollouts of a policy here), "recipe only" (its recipe is here, what
            makes the columns it reads is not), "evidence only" (its columns can be made, its recipe is not here) or
            "planned" (nothing to call yet).
        card: the publication.
        recipes: names of functions in `workbench.recipes`.
        parity: "METHOD/function" of a worked example -> "module:function" of the adapter in tests/parity/adapters.
        axioms: names of the invariants in `workbench.axioms` that its recipes declare beyond the common ones.
        notebook: path of its notebook; None if there is none yet.
        missing: what of the system is not here yet, where a part is; "" if nothing is known to be.
        asks: its question in the index of methods, where its columns do not say it (`workbench.teach.method_index`).
    """

    number: int | str
    name: str
    kind: tuple[Kind, ...]
    status: Status
    card: Card
    recipes: tuple[str, ...] = ()
    parity: Mapping[str, str] = field(default_factory=dict)
    axioms: tuple[str, ...] = ()
    notebook: str | None = None
    missing: str = ""
    asks: str = ""

    @property
    def says(self) -> str:
        """The status in the words of a list: "working", "not yet", or which half is there."""
        return {"runs": "working", "planned": "not yet"}.get(self.status, self.status)

    @property
    def links(self) -> tuple[str, ...]:
        """Where to read on: its notebook, and the paper."""
        return tuple(link for link in (self.notebook, self.card.link) if link)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parity", dict(self.parity))
        if not self.kind or set(self.kind) - set(KINDS):
            raise ValueError(f"{self.name}: expected kinds of {KINDS}, got {self.kind}")
        if self.status not in STATUSES:
            raise ValueError(f"{self.name}: expected a status of {STATUSES}, got {self.status!r}")
        if (self.status in ("runs", "recipe only")) != bool(self.recipes):
            raise ValueError(f"{self.name}: a method that runs names its recipes, another has none; got {self.recipes}")
        if self.status == "recipe only" and not self.missing:
            raise ValueError(f"{self.name}: a recipe without evidence says in `missing` what its evidence waits for")
