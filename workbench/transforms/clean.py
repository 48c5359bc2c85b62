"""Clean trajectories for fine-tuning, and repeat the long ones: DR-Venus' preparation of its first stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from workbench.evidence.answers import find_answer
from workbench.rollouts import Rollouts
from workbench.trajectory import Example, Message, RecordError, Trajectory, Turn
from workbench.transforms.imitate import imitate

Why = Literal["tool not allowed", "repeated call"]
BRACKETS = ((50, 1), (100, 2))
"""(at most so many turns, copies): DR-Venus' SFT/data_clean/prepare_trajectories.py; longer ones are copied 5 times."""


class Removed(NamedTuple):
    """A turn that was taken out: its index in the trajectory as it came, why, and what it called."""

    turn: int
    why: Why
    call: str


@dataclass(frozen=True)
class Cleaned:
    """What is left, and what became of the rest.

    Args:
        kept: trajectories to learn from, in order; one that lost a turn has no tokens any more (its text is another
            one now): write them with `with_tokens`.
        removed: turns taken out of those that are kept, by trajectory id.
        dropped: why a trajectory is not kept, by id.
    """

    kept: tuple[Trajectory, ...]
    removed: Mapping[str, tuple[Removed, ...]] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count trajectories and turns by what became of them."""
        why = [one.why for turns in self.removed.values() for one in turns]
        out = {"kept": len(self.kept), "dropped": len(self.dropped)}
        out |= {f"turns removed: {reason}": why.count(reason) for reason in dict.fromkeys(why)}
        listed = list(self.dropped.values())
        return out | {f"dropped: {reason}": listed.count(reason) for reason in dict.fromkeys(listed)}


def signature(name: str, arguments: Mapping[str, object] | None) -> tuple[str, str]:
    """Return what two calls share if they ask the same: name, and arguments in any order, lists as sets of texts.

    Example:
        >>> signature("search", {"q": ["b", "a ", "a"]}) == signature("search", {"q": ["a", "b"]})
        True
    """

    def plain(value: object) -> object:
        if isinstance(value, (list, tuple)):
            return sorted({json.dumps(plain(one), sort_keys=True, default=str) for one in value})
        return value.strip() if isinstance(value, str) else value

    told = {key: plain(value) for key, value in (arguments or {}).items()}
    return name.lower(), json.dumps(told, sort_keys=True, default=str)


def superfluous(turns: Sequence[Turn], tools: Sequence[str] | None, answer: str = "answer") -> list[Removed]:
    """List the turns to take out: those that call a tool that is not allowed, and those all of whose calls were made.

    Args:
        turns: in order.
        tools: names of the allowed tools; None allows all.
        answer: name of the answering call, which is always allowed and never a repetition.

    Source: DR-Venus, prepare_trajectories.py, prune_disallowed_tool_turns and remove_duplicate_tool_calls.
    Differs: there only search and visit are compared, a visit by its addresses alone; here any call by all it says.
    """
    allowed = None if tools is None else {name.lower() for name in (*tools, answer)}
    seen: set[tuple[str, str]] = set()
    out = []
    for number, turn in enumerate(turns):
        calls = [call for call in turn.calls if call.error is None]
        strange = [call.name for call in calls if allowed is not None and call.name.lower() not in allowed]
        asked = [signature(call.name, call.arguments) for call in calls if call.name.lower() != answer.lower()]
        if strange:
            out.append(Removed(number, "tool not allowed", strange[0]))
        elif asked and all(one in seen for one in asked):
            out.append(Removed(number, "repeated call", asked[0][0]))
        else:
            seen.update(asked)
    return out


def fault(prompt: Sequence[Message], turns: Sequence[Turn], answer: str = "answer") -> str:
    """Return the first reason why this is no well-formed story to learn from; "" if it is one.

    It begins with a user's question; each turn but the last makes a call that can be read, does not answer, and
    something came back; the last answers and makes no other call.

    Source: DR-Venus, prepare_trajectories.py, validate_messages.
    Differs: there every turn must also think; which text is thought is a matter of the renderer here.
    """
    if not any(message.role == "user" and message.text.strip() for message in prompt):
        return "no question"
    if len(turns) < 2:
        return "no turn before the answer"
    for turn in turns[:-1]:
        if find_answer(turn, answer) is not None:
            return "an answer before the last turn"
        if not turn.calls or any(call.error is not None for call in turn.calls):
            return "a turn without a call that can be read"
        if not turn.observations:
            return "nothing came back from a turn"
    if not find_answer(turns[-1], answer):
        return "no answer in the last turn"
    if any(call.name.lower() != answer.lower() for call in turns[-1].calls):
        return "a call beside the answer"
    return ""


def clean(
    trajectories: Iterable[Trajectory],
    *,
    tools: Sequence[str] | None = None,
    answer: str = "answer",
    right: bool = False,
) -> Cleaned:
    """Take superfluous turns out of each trajectory, and keep those that are well-formed then.

    Args:
        trajectories: with their text; branches are dropped, for half a story is none.
        tools: names of the allowed tools; None allows all.
        answer: name of the answering call.
        right: keep only those whose outcome is known to be 1.

    Source: DR-Venus, arXiv:2604.19859, SFT/data_clean (10,001 trajectories, of which 9,365 were kept).
    Differs: search results are not rewritten. `right` is ours: the release keeps wrong answers, too.
    """
    kept: list[Trajectory] = []
    removed: dict[str, tuple[Removed, ...]] = {}
    dropped: dict[str, str] = {}
    for t in trajectories:
        gone = superfluous(t.turns, tools, answer)
        left = tuple(turn for k, turn in enumerate(t.turns) if k not in {one.turn for one in gone})
        why = "a branch" if t.parent is not None else fault(t.prompt, left, answer)
        if not why and right and t.outcome != 1.0:
            why = "outcome unknown" if t.outcome is None else "a wrong answer"
        if why:
            dropped[t.id] = why
            continue
        kept.append(replace(t, turns=left, sequences=()) if gone else t)
        removed |= {t.id: tuple(gone)} if gone else {}
    return Cleaned(tuple(kept), removed, dropped)


def copies(turns: int, brackets: Sequence[tuple[int, int]] = BRACKETS, beyond: int = 5) -> int:
    """Return how often a trajectory of so many turns is learned from.

    Args:
        turns: of the trajectory, the answering one included.
        brackets: (at most so many turns, copies), increasing.
        beyond: copies of longer ones.

    Source: DR-Venus, prepare_trajectories.py, compute_multiplier.

    Example:
        >>> [copies(n) for n in (50, 51, 100, 101)]
        [1, 2, 2, 5]
    """
    limits = [most for most, _ in brackets]
    if limits != sorted(set(limits)) or any(n < 0 for _, n in brackets) or beyond < 0:
        raise ValueError(f"expected brackets with increasing turns and copies >= 0, got {tuple(brackets)}, {beyond}")
    return next((n for most, n in brackets if turns <= most), beyond)


def long_horizon(
    cleaned: Cleaned, brackets: Sequence[tuple[int, int]] = BRACKETS, beyond: int = 5, weight: float = 1.0
) -> list[Example]:
    """Return the examples to fine-tune on: each kept trajectory as often as its length says, each copy with its reason.

    Args:
        cleaned: of `clean`; trajectories that lost a turn must have been given tokens again.
        brackets, beyond: see `copies`.
        weight: of the agent's own tokens.

    Raises:
        RecordError: a trajectory has no tokens.

    Source: DR-Venus, arXiv:2604.19859: 9,365 trajectories became 18,745.
    """
    found: list[Example] = []
    for t in cleaned.kept:
        n = copies(len(t.turns), brackets, beyond)
        gone = cleaned.removed.get(t.id, ())
        said = f"{len(t.turns)} turns" + (f", {len(gone)} removed ({gone[0].why})" if gone else "")
        if not t.has_tokens:
            problem = "it lost a turn and has no tokens; write them with `transforms.with_tokens(trajectory, renderer)`"
            raise RecordError(problem if gone else "it has no tokens to learn from", trajectory=t.id)
        for copy in range(n):
            reason = f"long horizon: {said}, copy {copy + 1} of {n}"
            found += imitate(Rollouts((t,)), ("sampled", "forced"), weight=weight, reason=reason)
    return found
