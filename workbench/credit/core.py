"""Credit, and what maps credit to credit: stages, chains, combinations, and their trace.

    Credit = (values, level, known)          stage: (Credit, Batch) -> Credit          order is meaning

A stage is a value: a named pure function with its parameters. Two chains with equal reprs are the same chain, and equal
chains are computed once. Credit is float64 throughout; it is cast once, where it meets a model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench import show
from workbench.batch import Batch, Level
from workbench.credit.rules import ANY, LevelRule


@dataclass(frozen=True)
class Credit:
    """A number per unit that will weigh log-probabilities.

    Args:
        values: float64 [n].
        level: of what there is one value each.
        known: bool [n]; unknown is not zero: it counts in no statistic and in no loss.
        dropped: int8 [n], 0 for "not dropped", i for `reasons[i - 1]`; a dropped unit is unknown for good.
        reasons: why units were dropped.
    """

    values: Tensor
    level: Level
    known: Tensor
    dropped: Tensor | None = None
    reasons: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def tolist(self) -> list[float | None]:
        """Values, with None where unknown."""
        return [v if k else None for v, k in zip(self.values.tolist(), self.known.tolist(), strict=True)]

    def drop(self, where: Tensor, reason: str) -> Credit:
        """Return the credit with units taken out of the loss for a reason; the first reason of a unit stays."""
        if not bool(where.any()):
            return self
        reasons = self.reasons if reason in self.reasons else (*self.reasons, reason)
        number = torch.tensor(reasons.index(reason) + 1, dtype=torch.int8)
        before = torch.zeros(len(self), dtype=torch.int8) if self.dropped is None else self.dropped
        dropped = torch.where(where & (before == 0), number, before)
        return replace(self, known=self.known & ~where, dropped=dropped, reasons=reasons)

    def counts(self) -> dict[str, int]:
        """Count units by what became of them: "known", "zero" (part of known), "unknown", and each drop reason."""
        gone = (
            {} if self.dropped is None else {r: int((self.dropped == i + 1).sum()) for i, r in enumerate(self.reasons)}
        )
        known = int(self.known.sum())
        zero = int((self.known & (self.values == 0)).sum())
        return {"known": known, "zero": zero, "unknown": len(self) - known - sum(gone.values()), **gone}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


class TraceStep(NamedTuple):
    """One stage's result: how deep it is nested, how it reads, what it is, what came out."""

    depth: int
    label: str
    stage: Node
    credit: Credit


# ---------------------------------------------------------------------------------------------------- nodes


class Node:
    """A stage, a chain or a combination: something that maps credit to credit."""

    @property
    def is_signal(self) -> bool:
        """Does it begin from nothing (a column), whatever came before?"""
        raise NotImplementedError

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        raise NotImplementedError

    def level_out(self, level: Level | None) -> Level:
        """Level after it, given the level before it; raises ValueError if that cannot work."""
        raise NotImplementedError

    def run(self, arrived: _Arrived, work: Work, depth: int) -> _Arrived:
        """Compute it (or find it computed)."""
        raise NotImplementedError

    def __call__(self, credit: Credit | None, batch: Batch) -> Credit:
        return self.run(_Arrived(credit, ("given", id(credit))), Work(batch), 0).credit  # type: ignore[return-value]

    def trace(self, batch: Batch) -> tuple[TraceStep, ...]:
        """Return every stage's credit, in order."""
        work = Work(batch)
        self.run(_Arrived(None, ()), work, 0)
        return tuple(work.steps)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return show.mimebundle(self)


class _Arrived(NamedTuple):
    """A credit and the key of the computation that made it."""

    credit: Credit | None
    key: tuple[Any, ...]


@dataclass
class Work:
    """One evaluation: the batch, what was computed already, and the steps in order."""

    batch: Batch
    done: dict[tuple[Any, ...], Credit] = field(default_factory=dict)
    steps: list[TraceStep] = field(default_factory=list)

    def once(self, key: tuple[Any, ...], make: Callable[[], Credit]) -> _Arrived:
        if key not in self.done:
            self.done[key] = make()
        return _Arrived(self.done[key], key)


@dataclass(frozen=True)
class Stage(Node):
    """A named pure function `(Credit, Batch, parameters) -> Credit`.

    Args:
        name: as in the formula.
        fn: called as fn(credit, batch, **parameters); credit is None for a signal.
        params: parameters in order; hashable.
        rule: level in -> level out.
        columns: columns it reads, beside those its parameters refer to.
        signal: does it begin from nothing?
        plain: parameters that have their default value; the formula leaves them out.
    """

    name: str
    fn: Callable[..., Credit]
    params: tuple[tuple[str, Any], ...] = ()
    rule: LevelRule | None = field(default=None, compare=False)
    columns: tuple[str, ...] = ()
    signal: bool = False
    plain: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_signal(self) -> bool:
        return self.signal

    @property
    def needs(self) -> tuple[str, ...]:
        inside = [name for _, value in self.params for name in getattr(value, "needs", ())]
        return tuple(dict.fromkeys((*self.columns, *inside)))

    def level_out(self, level: Level | None) -> Level:
        if level is None and not self.signal:
            raise ValueError(f"{self!r} needs something to work on; begin the chain with read(...) or delta(...)")
        try:
            return self.rule(level) if self.rule else level or ANY
        except ValueError as error:
            raise ValueError(f"{self!r}: {error}") from None

    def run(self, arrived: _Arrived, work: Work, depth: int) -> _Arrived:
        given = _Arrived(None, ()) if self.signal else arrived
        self.level_out(None if given.credit is None else given.credit.level)  # what a chain could not know without it
        out = work.once((given.key, self), lambda: self.fn(given.credit, work.batch, **dict(self.params)))
        work.steps.append(TraceStep(depth, repr(self), self, out.credit))  # type: ignore[arg-type]
        return out

    def __repr__(self) -> str:
        shown = [(k, v) for k, v in self.params if k not in self.plain]
        lead = self.params[0][0] if self.params else ""
        return f"{self.name}({', '.join(_value(v) if k == lead else f'{k}={_value(v)}' for k, v in shown)})"


def _value(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def _shown(key: str, value: Any) -> str:
    return f"{key}={_value(value)}"


@dataclass(frozen=True)
class Chain(Node):
    """Stages one after another."""

    stages: tuple[Node, ...]

    @property
    def is_signal(self) -> bool:
        return bool(self.stages) and self.stages[0].is_signal

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.needs))

    def level_out(self, level: Level | None) -> Level:
        for stage in self.stages:
            level = stage.level_out(None if stage.is_signal else level)
        if level is None:
            raise ValueError("an empty chain has no level")
        return level

    def run(self, arrived: _Arrived, work: Work, depth: int) -> _Arrived:
        for stage in self.stages:
            arrived = stage.run(arrived, work, depth)
        return arrived

    def __repr__(self) -> str:
        return " > ".join(repr(stage) for stage in self.stages)


@dataclass(frozen=True)
class Combine(Node):
    """A named pure function of aligned credits: `mix`, `multiply`, `apply`.

    Args:
        name: as in the formula.
        fn: called as fn(batch, *credits, **parameters) -> values [n].
        branches: what it combines; a branch that does not begin with a signal works on what came before.
        params: of `fn`.
        unknown: "any": unknown where one branch is; "skip": unknown where all are, `fn` sees which.
    """

    name: str
    fn: Callable[..., Tensor]
    branches: tuple[Node, ...]
    params: tuple[tuple[str, Any], ...] = ()
    unknown: str = "any"

    @property
    def is_signal(self) -> bool:
        return all(branch.is_signal for branch in self.branches)

    @property
    def needs(self) -> tuple[str, ...]:
        inside = [name for _, value in self.params for name in _needs_of(value)]
        return tuple(dict.fromkeys([name for branch in self.branches for name in branch.needs] + inside))

    def level_out(self, level: Level | None) -> Level:
        levels = [b.level_out(None if b.is_signal else level) for b in self.branches]
        fixed = {one for one in levels if one != ANY}
        if len(fixed) > 1:
            raise ValueError(f"{self.name}: branches end on different levels {levels}; end each with spread(...)")
        return fixed.pop() if fixed else ANY

    def run(self, arrived: _Arrived, work: Work, depth: int) -> _Arrived:
        parts = [branch.run(arrived, work, depth + 1) for branch in self.branches]
        credits = [part.credit for part in parts]
        key = (tuple(part.key for part in parts), self.name, self.fn, self.params, self.unknown)
        out = work.once(key, lambda: self._combine(credits, work.batch))  # type: ignore[arg-type]
        work.steps.append(TraceStep(depth, self.label, self, out.credit))  # type: ignore[arg-type]
        return out

    def _combine(self, credits: list[Credit], batch: Batch) -> Credit:
        levels = [credit.level for credit in credits]
        if len(set(levels)) > 1:
            raise ValueError(f"{self.name}: branches end on different levels {levels}; end each with spread(...)")
        known = reduce(torch.logical_and if self.unknown == "any" else torch.logical_or, [c.known for c in credits])
        out = Credit(self.fn(batch, *credits, **dict(self.params)), levels[0], known)
        for credit in credits:
            for i, reason in enumerate(credit.reasons):
                out = out.drop(credit.dropped == i + 1, reason)  # type: ignore[arg-type]
        return out

    @property
    def label(self) -> str:
        """The combination without its branches."""
        shown = [_shown(k, v) for k, v in self.params] + (
            [f"unknown={self.unknown!r}"] if self.unknown != "any" else []
        )
        return f"{self.name}({', '.join(shown)})"

    def __repr__(self) -> str:
        shown = [f"[{branch!r}]" for branch in self.branches] + [_shown(k, v) for k, v in self.params]
        shown += [f"unknown={self.unknown!r}"] if self.unknown != "any" else []
        return f"{self.name}({', '.join(shown)})"


def _needs_of(value: Any) -> Iterator[str]:
    if isinstance(value, tuple):
        for one in value:
            yield from _needs_of(one)
    else:
        yield from getattr(value, "needs", ())


def only_nodes(name: str, nodes: Iterable[Any]) -> None:
    """Refuse what is no stage, chain or combination."""
    for node in nodes:
        if not isinstance(node, Node):
            raise TypeError(f"{name}: expected stages such as read('outcome'), got {node!r}")


def chain(*nodes: Node) -> Chain:
    """Put stages one after another.

    Raises:
        ValueError: a stage cannot work on the level that reaches it (reward_to_go on a trajectory's one value ...).
        TypeError: something is no stage.

    Example:
        >>> from workbench.credit import read, spread
        >>> chain(read("outcome"), spread("token"))
        read('outcome') > spread('token')
    """
    only_nodes("chain", nodes)
    stages = tuple(s for node in nodes for s in (node.stages if isinstance(node, Chain) else (node,)))
    out = Chain(stages)
    if not stages:
        raise ValueError("a chain needs at least one stage")
    level: Level | None = None if out.is_signal else ANY
    for stage in stages:
        level = stage.level_out(None if stage.is_signal else level)
    return out


def stage(
    factory: Callable[..., Any],
    fn: Callable[..., Credit],
    rule: LevelRule,
    params: Mapping[str, Any],
    *,
    columns: tuple[str, ...] = (),
    signal: bool = False,
) -> Stage:
    """Bind parameters into a stage.

    Args:
        factory: the public function that is called for it; gives the stage its name and its defaults.
        fn: the pure function, called as fn(credit, batch, **params).
        rule: level in -> level out.
        params: all parameters of `fn`.
        columns: columns it reads.
        signal: does it begin from nothing?

    Raises:
        TypeError: a parameter is not hashable (then equal stages could not be told apart from different ones), or
            peers or a predicate cannot be called.
    """
    bound = tuple(params.items())
    for name in ("peers", "below", "where"):
        if name in params and not callable(params[name]):
            raise TypeError(f"{factory.__name__}: {name} is a value such as task or last(), got {params[name]!r}")
    try:
        hash(bound)
    except TypeError as error:
        raise TypeError(f"{factory.__name__}: parameters must be hashable values: {error}") from None
    defaults = {name: p.default for name, p in inspect.signature(factory).parameters.items()}
    plain = tuple(
        k for k, v in bound if k in defaults and defaults[k] is not inspect.Parameter.empty and defaults[k] == v
    )
    return Stage(factory.__name__, fn, bound, rule, columns, signal, plain)
