"""Reward of tool calls by matching them with the task's gold calls (MatchTIR, arXiv 2601.10712)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch

from workbench.envs.base import Tool
from workbench.evidence.answers import find_answer, gold_answers, set_f1, words
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.rollouts import Rollouts
from workbench.trajectory import Group, RecordError, Trajectory, Turn

How = Literal["greedy", "optimal", "transport"]
HOWS: tuple[How, ...] = ("greedy", "optimal", "transport")
Agreement = Literal["equal", "words"]


class AnyCall(Protocol):
    """Whatever has a name and arguments: a `ToolCall`, or a `GoldCall`."""

    @property
    def name(self) -> str:
        """Tool name."""

    @property
    def arguments(self) -> Mapping[str, Any] | None:
        """Parsed arguments; None if they could not be parsed."""


class GoldCall(NamedTuple):
    """A call of the gold trace."""

    name: str
    arguments: Mapping[str, Any]


def similarity(call: AnyCall, gold: GoldCall, values: Agreement = "equal") -> float:
    """Compare a call with a gold call -> [0, 1].

        0 if the names differ (upper and lower case are not told apart), else
        (1 + |K & K*| / |K | K*| + sum_{k in K & K*} [v_k == v*_k]) / (2 + |K*|)       K, K*: argument names

    Values are compared as they are: "7" is not 7. Two calls without arguments have overlap 1.

    Args:
        call: what the agent called; a call whose arguments could not be parsed is similar to nothing.
        gold: what it is compared with.
        values: "equal", as released; or "words" (ours): two texts that differ agree by the share of words they have in
            common, which free-text queries need to be told apart at all.

    Source: MatchTIR, released `tool_similarity`.
    Differs: the release raises on arguments that are no JSON object.

    Example:
        >>> round(similarity(GoldCall("Lookup", {"id": "7"}), GoldCall("lookup", {"id": 7, "lang": "en"})), 3)
        0.375
    """
    if call.arguments is None or call.name.lower() != gold.name.lower():
        return 0.0
    shared = call.arguments.keys() & gold.arguments.keys()
    either = call.arguments.keys() | gold.arguments.keys()
    overlap = len(shared) / len(either) if either else 1.0
    agreed = sum(agreement(call.arguments[k], gold.arguments[k], values) for k in shared)
    return (1.0 + overlap + agreed) / (2.0 + len(gold.arguments))


def agreement(value: Any, gold: Any, values: Agreement = "equal") -> float:
    """Compare two argument values: 1 if equal, else 0, or by "words" the Jaccard index of two texts' sets of words.

    Example:
        >>> agreement("Capital of Peru", "capital of Chile"), agreement("Capital of Peru", "capital of Chile", "words")
        (0.0, 0.5)
    """
    if bool(value == gold) or values == "equal" or not (isinstance(value, str) and isinstance(gold, str)):
        return float(bool(value == gold))
    said, meant = words(value), words(gold)
    return len(said & meant) / len(said | meant) if said | meant else 0.0


def similarity_matrix(calls: Sequence[AnyCall], gold: Sequence[GoldCall], values: Agreement = "equal") -> torch.Tensor:
    """Compare all with all -> [P, G] float64; see `similarity`."""
    rows = [[similarity(call, g, values) for g in gold] for call in calls]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(calls), len(gold))


def match_greedy(similarities: torch.Tensor) -> list[int | None]:
    """Match the most similar pair first, then the next among what is left; never a pair of similarity 0.

    Ties go to the earlier call, then to the earlier gold call. The total may be below that of `match_optimal`.

    Args:
        similarities: [P, G].

    Returns:
        per call the index of its gold call, or None.

    Source: MatchTIR, released `hungarian_assignment` (greedy in spite of its name).

    Example:
        >>> match_greedy(torch.tensor([[1.0, 0.9], [0.8, 0.1]]))
        [0, 1]
    """
    matched: list[int | None] = [None] * len(similarities)
    taken: set[int] = set()
    cells = [(value, i, j) for i, row in enumerate(similarities.tolist()) for j, value in enumerate(row) if value > 0]
    for _, i, j in sorted(cells, key=lambda cell: -cell[0]):  # stable: equal cells stay in order
        if matched[i] is None and j not in taken:
            matched[i] = j
            taken.add(j)
    return matched


def match_optimal(similarities: torch.Tensor) -> list[int | None]:
    """Match so that the total similarity is largest, each call and gold call at most once; never a pair of 0.

    Args:
        similarities: [P, G].

    Returns:
        per call the index of its gold call, or None.

    Source: MatchTIR, the assignment its paper describes (Kuhn-Munkres).

    Example:
        >>> match_optimal(torch.tensor([[1.0, 0.9], [0.8, 0.1]]))
        [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    matched: list[int | None] = [None] * len(similarities)
    for i, j in zip(*linear_sum_assignment(similarities.numpy(), maximize=True), strict=True):
        if similarities[i, j] > 0:
            matched[int(i)] = int(j)
    return matched


def match_transport(
    similarities: torch.Tensor, reg: float = 0.1, iterations: int = 1000, tolerance: float = 1e-9
) -> torch.Tensor:
    """Spread equal mass over the calls and carry it to the gold calls -> plan [P, G], which sums to 1.

        argmin_T  - sum_pg T_pg S_pg  -  reg * entropy(T)      rows of T sum to 1/P, columns to 1/G

    solved by Sinkhorn's alternation u = a / (K v), v = b / (K' u) with K = exp(S / reg), here in logarithms, so that
    a small `reg` does not overflow.

    Args:
        similarities: [P, G]; where one side is empty, so is the plan (the release divides by zero).
        reg: weight of the entropy, > 0; small is close to `match_optimal`.
        iterations: at most so many.
        tolerance: stop once the columns are this close to 1/G (Euclidean norm).

    Source: MatchTIR, released `assign_rewards_ot`; Cuturi 2013.

    Example:
        >>> match_transport(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).round(decimals=3).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    if reg <= 0:
        raise ValueError(f"expected reg > 0, got {reg}")
    if 0 in similarities.shape:
        return torch.zeros_like(similarities)
    kernel = similarities.double() / reg
    calls, golds = kernel.shape
    u = torch.full((calls, 1), -math.log(calls), dtype=torch.float64)
    for step in range(iterations):
        v = -math.log(golds) - torch.logsumexp(kernel + u, 0, keepdim=True)
        u = -math.log(calls) - torch.logsumexp(kernel + v, 1, keepdim=True)
        if step % 10 == 0 and (torch.exp(kernel + u + v).sum(0) - 1 / golds).norm() < tolerance:
            break
    return torch.exp(kernel + u + v)


def call_rewards(
    similarities: torch.Tensor, how: How = "greedy", reg: float = 0.1, unmatched: float = 0.0
) -> list[float]:
    """Reward each call of a rollout -> P numbers.

    A matched call gets its similarity, another `unmatched`. By transport it gets sum_g T_pg S_pg, at most 1/P.

    Args:
        similarities: [P, G].
        how: "greedy" (as released), "optimal" or "transport".
        reg: see `match_transport`.
        unmatched: reward of a call without a partner ("greedy", "optimal"); the caller of the release sets 0, the
            function's own default there is -0.5.

    Source: MatchTIR, released `assign_rewards_hungarian` and `assign_rewards_ot`.
    Differs: without gold calls a transported reward is 0 (the release divides by zero).
    """
    if how not in HOWS:
        raise ValueError(f"expected one of {HOWS}, got {how!r}")
    if how == "transport":
        return (match_transport(similarities, reg) * similarities).sum(1).tolist()
    matched = (match_greedy if how == "greedy" else match_optimal)(similarities)
    return [unmatched if j is None else float(similarities[i, j]) for i, j in enumerate(matched)]


def turn_means(rewards: Sequence[Sequence[float]]) -> list[float]:
    """Average the call rewards of each turn; a turn without calls gets 0.0, as released.

    Example:
        >>> turn_means([[1.0, 0.25], [], [0.5]])
        [0.625, 0.0, 0.5]
    """
    return [sum(turn) / len(turn) if turn else 0.0 for turn in rewards]


@dataclass(frozen=True)
class ToolMatching(Provider):
    """Reward every turn by its calls' match with the gold trace, and the answer turn by its words.

    `match_reward`: mean reward of the turn's calls, 0.0 for a turn without calls. Calls of the whole rollout compete
    for the gold calls, so an early turn's reward depends on later ones. `match_turn_reward`: the same, but the answer
    turn has the set-of-words F1 of its answer with the gold answer (best alias), whatever it called. Unknown where
    the task has no gold calls, or, for the answer turn, no gold answer.

    Args:
        how: "greedy" (as released), "optimal" or "transport".
        reg: entropy weight of "transport".
        answer: name of the call that answers; it is matched with nothing.
        values: when two argument values agree, see `similarity`.
        tools: what the gold traces are checked against before anything is computed; () checks nothing.

    Source: MatchTIR, released `compute_process_KM` and `compute_process_ot`.
    """

    how: How = "greedy"
    reg: float = 0.1
    answer: str = "answer"
    values: Agreement = "equal"
    tools: tuple[Tool, ...] = field(default=(), metadata={"key": False})  # decides whether, not what
    provides: ClassVar[Mapping[str, str]] = {"match_reward": "turn", "match_turn_reward": "turn"}
    sees: ClassVar[tuple[Sees, ...]] = ("future", "gold")
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "gold")

    def __post_init__(self) -> None:
        if self.how not in HOWS or self.reg <= 0 or self.values not in ("equal", "words"):
            given = f"how={self.how!r}, reg={self.reg}, values={self.values!r}"
            raise ValueError(f"expected how in {HOWS}, reg > 0, values 'equal' or 'words'; got {given}")

    def check(self, rollouts: Rollouts) -> None:
        """Refuse gold traces that do not fit the tools."""
        if self.tools:
            check_gold_calls(rollouts, self.tools)

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Match each trajectory's calls; a branch competes with its whole path and keeps its own turns."""
        by_calls: list[float | None] = []
        with_answer: list[float | None] = []
        for t in group:
            whole = t.path(group)
            rewards = self.rewards(whole)
            own = len(whole.turns) - len(t.turns)
            by_calls += rewards[own:]
            with_answer += self._with_answer(whole, rewards)[own:]
        return {"match_reward": _floats(by_calls), "match_turn_reward": _floats(with_answer)}

    def rewards(self, trajectory: Trajectory) -> list[float] | list[None]:
        """Return the mean call reward of each turn, or all None where there are no gold calls to compare with."""
        if trajectory.gold.get("calls") is None:
            return [None] * len(trajectory.turns)
        gold = [g for g in gold_calls(trajectory) if g.name.lower() != self.answer.lower()]
        calls = [(k, call) for k, turn in enumerate(trajectory.turns) for call in self._matched_calls(turn)]
        matrix = similarity_matrix([call for _, call in calls], gold, self.values)
        paid = call_rewards(matrix, self.how, self.reg)
        by_turn: list[list[float]] = [[] for _ in trajectory.turns]
        for (k, _), reward in zip(calls, paid, strict=True):
            by_turn[k].append(reward)
        return turn_means(by_turn)

    def _matched_calls(self, turn: Turn) -> tuple[AnyCall, ...]:
        """The calls of a turn; none of a turn that answers, as released."""
        return () if find_answer(turn, self.answer) is not None else turn.calls

    def _with_answer(self, trajectory: Trajectory, rewards: Sequence[float | None]) -> list[float | None]:
        """Put the answer's F1 in the place of the call reward of a turn that answers."""
        gold = gold_answers(trajectory)
        said = [find_answer(turn, self.answer) for turn in trajectory.turns]
        scored = [None if answer is None or gold is None else set_f1(answer, gold) for answer in said]
        return [r if answer is None else f for r, answer, f in zip(rewards, said, scored, strict=True)]


def gold_calls(trajectory: Trajectory) -> list[GoldCall]:
    """Read `gold["calls"]`: a list of {"name", "arguments"} ("parameters" is accepted for "arguments").

    Raises:
        RecordError: it is no list, or an entry has another shape.
    """
    found, given = [], trajectory.gold["calls"]
    if not isinstance(given, Sequence) or isinstance(given, str):
        problem = f"expected a list of calls, got {type(given).__name__} {str(given)[:40]!r}"
        raise RecordError(problem, trajectory=trajectory.id, field="gold['calls']")
    for number, entry in enumerate(given):
        arguments = entry.get("arguments", entry.get("parameters", {})) if isinstance(entry, Mapping) else None
        if not isinstance(arguments, Mapping) or not isinstance(entry.get("name"), str):
            problem = f"expected {{'name': text, 'arguments': mapping}}, got {entry!r}"
            raise RecordError(problem, trajectory=trajectory.id, field=f"gold['calls'][{number}]")
        found.append(GoldCall(entry["name"], arguments))
    return found


def check_gold_calls(trajectories: Iterable[Trajectory], tools: Sequence[Tool]) -> None:
    """Refuse gold traces that could not be played with these tools.

    Raises:
        RecordError: a gold call names no tool, has an argument the tool does not, or lacks one it requires.
    """
    by_name = {tool.name.lower(): tool for tool in tools}
    for t in trajectories:
        for number, call in enumerate(gold_calls(t) if t.gold.get("calls") is not None else ()):
            tool = by_name.get(call.name.lower())
            if tool is None:
                problem = f"the gold trace calls {call.name!r}; the tools are {sorted(by_name)}"
            else:
                takes, must = set(tool.parameters.get("properties", {})), set(tool.parameters.get("required", ()))
                given = set(call.arguments)
                problem = (
                    "" if must <= given <= takes else f"the gold call has {sorted(given)}, the tool {sorted(takes)}"
                )
            if problem:
                raise RecordError(problem, trajectory=t.id, field=f"gold['calls'][{number}]")


def _floats(entries: Sequence[float | None]) -> Values:
    return Values.of(None if entry is None else float(entry) for entry in entries)
