"""A recipe: a chain of credit, further chains the objective uses, and the objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from workbench import show
from workbench.batch import Batch, Level
from workbench.credit import Credit, Node, TraceStep, Work, average, column, drop, spread
from workbench.credit.core import Chain, _Arrived
from workbench.credit.rules import ANY
from workbench.objective import Objective
from workbench.recipes.candidates import Candidates


@dataclass(frozen=True)
class Recipe:
    """A method as a value: credit + objective. Frozen, picklable, comparable, readable.

    Args:
        name: of the function that made it.
        chain: the credit; begins with a signal and ends on tokens.
        objective: how credit becomes a loss.
        streams: further chains that end on tokens and that the objective names.
        refill: should a loop sample again (a bounded number of times) where whole groups were dropped?
        candidates: has a loop try several actions in every state; None plays whole episodes. Credit does not look at
            it: rollouts from anywhere will do.

    Raises:
        ValueError: a chain does not begin with a signal, does not end on tokens, or the objective names a stream
            that is not there.
    """

    name: str
    chain: Node
    objective: Objective
    streams: Mapping[str, Node] = field(default_factory=dict)
    refill: bool = False
    candidates: Candidates | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", MappingProxyType(dict(self.streams)))
        for name, node in (("credit", self.chain), *self.streams.items()):
            if not node.is_signal:
                raise ValueError(f"{self.name}: {name} must begin with a signal such as read(...); it is {node!r}")
            level = node.level_out(None)
            if level not in ("token", ANY):
                raise ValueError(f"{self.name}: {name} ends on {level!r}; a recipe ends on tokens, add spread('token')")
        missing = [name for name in self.objective.streams if name not in self.streams]
        if missing:
            raise ValueError(f"{self.name}: the objective names streams {missing}; there are {list(self.streams)}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "streams": dict(self.streams)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "streams": MappingProxyType(state["streams"])})

    def __hash__(self) -> int:
        return hash((self.name, self.chain, tuple(self.streams.items()), self.objective, self.candidates))

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads, beside the log-probs of the policy itself."""
        chains = [self.chain, *self.streams.values()]
        return tuple(dict.fromkeys([name for node in chains for name in node.needs] + list(self.objective.needs)))

    def check(self, batch: Batch, needs: tuple[str, ...] | None = None) -> None:
        """Raise one error that names all columns the batch lacks and the call that makes them, or one's wrong shape."""
        names = self.needs if needs is None else needs
        missing = [name for name in names if name not in batch.columns]
        if missing:
            raise ValueError(
                f"{self.name} needs columns {missing}; the batch has {sorted(batch.columns)}. Add them with "
                f"evidence.collect(rollouts, evidence.for_recipe(recipe, ...)) or with_column(name, level, values)"
            )
        for name in names:
            if batch[name].values.ndim != 1:
                shape = tuple(batch[name].values.shape)
                raise ValueError(f"{self.name}: credit is one number a unit, column {name!r} has shape {shape}")

    def credit(self, batch: Batch, to: Level | None = None, work: Work | None = None) -> Credit:
        """Compute the credit of every token, or of a level above.

        Args:
            batch: with the columns it needs.
            work: on this batch, whose results are taken and added to; None starts from nothing.
            to: "token" (default where the batch has tokens), "turn" (default where it has none) or another level. A
                chain that ends in spread("token") stops before it; any other is averaged up.

        Raises:
            ValueError: missing columns (all named at once), or tokens asked of a batch without any.
            ValueError: a credit is NaN or infinite; names the first stage and unit where it is.
        """
        self.check(batch, self.chain.needs)
        return self._at(self.chain, work or Work(batch), to)

    def credits(self, batch: Batch) -> dict[str, Credit]:
        """Compute "credit" and every stream on tokens; equal chains are computed once."""
        self.check(batch, tuple(n for node in (self.chain, *self.streams.values()) for n in node.needs))
        work = Work(batch)
        return {name: self._at(node, work, "token") for name, node in (("credit", self.chain), *self.streams.items())}

    def trace(self, batch: Batch) -> tuple[TraceStep, ...]:
        """Return every stage's credit, in order; without tokens, up to the last stage above them.

        Where turns must not be trained, a last step shows what dropping them leaves.
        """
        self.check(batch, self.chain.needs)
        node = self.chain if batch.has_tokens else _above_tokens(self.chain)
        steps = node.trace(batch)
        end = _without_untrainable(steps[-1].credit, batch)
        return steps if end is steps[-1].credit else (*steps, TraceStep(0, repr(ONLY_TRAINABLE), ONLY_TRAINABLE, end))

    def _at(self, node: Node, work: Work, to: Level | None) -> Credit:
        batch = work.batch
        to = to or ("token" if batch.has_tokens else "turn")
        if to == "token" and not batch.has_tokens:
            raise ValueError(f"{self.name}: token credit needs token ids, and the batch has none; ask for to='turn'")
        node = node if to == "token" else _above_tokens(node)
        out = node.run(_Arrived(None, ()), work, 0).credit
        assert out is not None
        if not _is_finite(out):
            raise ValueError(self._told(node, batch))
        return _without_untrainable(_to_level(out, batch, to), batch)

    def _told(self, node: Node, batch: Batch) -> str:
        """Say at which stage and unit a credit first is no number."""
        step = next(step for step in node.trace(batch) if not _is_finite(step.credit))
        credit, level = step.credit, step.credit.level
        unit = int(torch.nonzero(credit.known & ~torch.isfinite(credit.values))[0])
        place = f"{level} {unit}"
        if level not in ("group", "batch"):
            owner = int(batch.up(level, "trajectory")[unit])
            place = f"trajectory {batch.trajectories[owner]!r}" + ("" if level == "trajectory" else f", {place}")
        return (
            f"{self.name}: the credit of {place} is {float(credit.values[unit])} after {step.label}; "
            "look at the numbers this stage was given, and at the columns it reads"
        )

    def __repr__(self) -> str:
        streams = "".join(f"\n  {name}: {node!r}" for name, node in self.streams.items())
        rounds = f"\n  rounds: {self.candidates!r}" if self.candidates else ""
        return f"{self.name}\n  credit: {self.chain!r}{streams}\n  objective: {self.objective!r}{rounds}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


ONLY_TRAINABLE = drop(~column("trainable"), "not trainable")
"""What every recipe ends with where a batch has turns that must not be trained."""


def _is_finite(credit: Credit) -> bool:
    """True if every known value is a number; one sum says so in the usual case."""
    return math.isfinite(float(credit.values.sum())) or bool(torch.isfinite(credit.values[credit.known]).all())


def _above_tokens(node: Node) -> Node:
    """The chain without a final spread("token")."""
    if isinstance(node, Chain) and len(node.stages) > 1 and node.stages[-1] == spread("token"):
        return Chain(node.stages[:-1])
    return node


def _to_level(credit: Credit, batch: Batch, to: Level) -> Credit:
    """Copy down or average up to a level."""
    if credit.level == to:
        return credit
    return (average(to) if batch.holds(to, credit.level) else spread(to))(credit, batch)


def _without_untrainable(credit: Credit, batch: Batch) -> Credit:
    """Take turns that must not be trained out of the loss."""
    if "trainable" not in batch.columns or credit.level not in ("token", "turn"):
        return credit
    flag = batch["trainable"]
    if bool(torch.all(flag.known & (flag.values != 0))):
        return credit
    return ONLY_TRAINABLE(credit, batch)
