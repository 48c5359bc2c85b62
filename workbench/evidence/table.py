"""From column to provider: which evidence a recipe needs, and what makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from workbench.evidence.answers import AnswerOutcome
from workbench.evidence.base import Evidence
from workbench.evidence.calls import CallMatch, FormatScore, LastRecorded, ToolSuccess
from workbench.evidence.format import BadFormat, Called
from workbench.evidence.matching import ToolMatching
from workbench.evidence.retries import Tries
from workbench.evidence.scoring import SampledLogprobs, TokenEntropy
from workbench.evidence.states import StateIdentity
from workbench.evidence.user_state import UserDistance
from workbench.rollouts import Rollouts

if TYPE_CHECKING:
    from workbench.policy.base import Policy


class Needy(Protocol):
    """A recipe, as far as this table is concerned."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def needs(self) -> Sequence[str]:
        """Names of the columns that training on it reads."""

    @property
    def chain(self) -> Any:
        """Its credit; `chain.needs` are the columns credit alone reads."""


@dataclass(frozen=True)
class Sources:
    """What providers are made from; None where there is none.

    Args:
        policy: the policy whose beliefs are asked.
        reference: a policy that is not trained: what a KL term holds on to, and what scores answers.
        judge: scores by a rubric.
        teacher: another policy.
        temperature: of the sampling, at which sampled tokens are scored.
    """

    policy: Policy | None = None
    reference: Policy | None = None
    judge: Any = None
    teacher: Policy | None = None
    temperature: float = 1.0


class Row(NamedTuple):
    """One provider.

    Args:
        columns: what it gives.
        takes: name of the source it is made from, "" if none.
        make: makes it.
    """

    columns: tuple[str, ...]
    takes: str
    make: Callable[[Sources], Evidence]


def _gold_probe(sources: Sources) -> Evidence:
    from workbench.evidence.gold import GoldProbe

    return GoldProbe(sources.policy)


def _segment_probe(sources: Sources) -> Evidence:
    from workbench.evidence.segments import SegmentProbe

    assert sources.policy is not None
    return SegmentProbe(sources.policy)


def _step_probe(sources: Sources) -> Evidence:
    from workbench.evidence.probes import StepProbe

    assert sources.policy is not None
    return StepProbe(sources.policy)


def _thought_probe(sources: Sources) -> Evidence:
    from workbench.evidence.probes import ThoughtProbe

    assert sources.policy is not None
    return ThoughtProbe(sources.policy)


def _informed(sources: Sources) -> Evidence:
    from workbench.evidence.informed import InformedLogprobs

    assert sources.policy is not None
    return InformedLogprobs(sources.policy, temperature=sources.temperature)


def _entropy(sources: Sources) -> Evidence:
    assert sources.policy is not None
    return TokenEntropy(sources.policy, sources.temperature)


def _reference(sources: Sources) -> Evidence:
    assert sources.reference is not None
    return SampledLogprobs(sources.reference, "logprob_ref", sources.temperature)


def _clusters(sources: Sources) -> Evidence:
    from workbench.evidence.clusters import AnswerClusters

    return AnswerClusters()


def _cluster_probe(sources: Sources) -> Evidence:
    from workbench.evidence.clusters import ReferenceProbe

    assert sources.reference is not None
    return ReferenceProbe(sources.reference)


def _gold_reference(sources: Sources) -> Evidence:
    from workbench.evidence.clusters import ReferenceProbe

    assert sources.reference is not None
    return ReferenceProbe(sources.reference, target="gold")


def _ablation(sources: Sources) -> Evidence:
    from workbench.evidence.ablation import ObservationDrop

    assert sources.policy is not None
    return ObservationDrop(sources.policy)


def _shapley(sources: Sources) -> Evidence:
    from workbench.evidence.coalitions import ShapleyTurns

    assert sources.policy is not None
    return ShapleyTurns(sources.policy)


def _return_predictor(sources: Sources) -> Evidence:
    from workbench.evidence.predicted import ReturnPredictor

    return ReturnPredictor()


AT_TEMPERATURE = (_informed, _entropy, _reference)
"""What scores sampled tokens, and so must know the temperature they were sampled at."""

TABLE: tuple[Row, ...] = (
    Row(("gold_logprob", "gold_logprob_start"), "policy", _gold_probe),
    Row(("logprob_ref",), "reference", _reference),
    Row(("match_reward", "match_turn_reward"), "", lambda sources: ToolMatching()),
    Row(("outcome",), "", lambda sources: AnswerOutcome()),
    Row(("token_entropy",), "policy", _entropy),
    Row(("logprob_informed", "logprob_plain"), "policy", _informed),
    Row(("segment_gold_logprob", "segment_gold_logprob_start"), "policy", _segment_probe),
    Row(("step_accuracy", "step_confidence"), "policy", _step_probe),
    Row(("thought_accuracy", "thought_confidence"), "policy", _thought_probe),
    Row(("bad_format",), "", lambda sources: BadFormat()),
    Row(("state",), "", lambda sources: StateIdentity()),
    Row(("answer_cluster", "cluster_support"), "", _clusters),
    Row(("try_valid", "try_correct", "try_repeated", "try_broken"), "", lambda sources: Tries()),
    Row(("tool_success",), "", lambda sources: ToolSuccess()),
    Row(("format_score",), "", lambda sources: FormatScore()),
    Row(("call_match",), "", lambda sources: CallMatch()),
    Row(("state_distance", "state_distance_start"), "", lambda sources: UserDistance()),
    Row(("state_match",), "", lambda sources: LastRecorded("state_share", "state_match")),
    Row(("ablation_drop",), "policy", _ablation),
    Row(("shapley", "shapley_error"), "policy", _shapley),
    Row(("return_pred", "return_pred_start"), "", _return_predictor),
    Row(("cluster_prob", "cluster_prob_start"), "reference", _cluster_probe),
    Row(("gold_prob", "gold_prob_start"), "reference", _gold_reference),
)

REMEMBERS = {"gains_on": "train(..., evidence=[evidence.WarmUp(threshold)]): it remembers, so one serves a whole run"}
"""Columns of providers that cannot be made anew for every step; what to do for them."""

CALLED = "called_"
"""A column of this beginning says which turns called the tool it goes on with."""


def _row(name: str) -> Row | None:
    """Return the row that gives a column; None if there is none."""
    if name.startswith(CALLED) and name != CALLED:
        return Row((name,), "", lambda sources: Called(name.removeprefix(CALLED)))
    return next((row for row in TABLE if name in row.columns), None)


def source_of(column: str) -> bool | None:
    """Say who makes a column: True, a provider that asks a model; False, one that does not; None, no provider.

    Example:
        >>> source_of("gold_logprob"), source_of("bad_format"), source_of("turn_reward")
        (True, False, None)
    """
    row = _row(column)
    return None if row is None else bool(row.takes)


RECORDED = ("outcome", "turn_reward", "state", "agent", "trainable", "truncated", "logprob_old")
"""Columns every set of rollouts carries; where they are unknown, a row of the table may still fill them."""


class MissingEvidence(LookupError):
    """Columns that nothing at hand can make; `columns` names them."""

    def __init__(self, problem: str, columns: tuple[str, ...]):
        super().__init__(problem)
        self.columns = columns


def for_recipe(
    recipe: Needy | Sequence[Needy],
    rollouts: Rollouts | None = None,
    *,
    policy: Policy | None = None,
    reference: Policy | None = None,
    judge: Any = None,
    teacher: Policy | None = None,
    temperature: float | None = None,
    training: bool = False,
) -> list[Evidence]:
    """List the providers that make the columns a recipe needs.

    Args:
        recipe: one recipe, or several that are compared.
        rollouts: what they will be used on: columns collected before, and those the world recorded for some unit, need
            no provider; what was recorded is never replaced. Without it the recorded columns are taken to be there.
        policy, reference, judge, teacher: what providers are made from.
        temperature: sampled tokens are scored at it; None is the one the rollouts recorded, 1 where they recorded none
            (or sampled the likeliest tokens only).
        training: also what its objective reads (a reference policy's log-probs), beside its credit.

    Returns:
        one provider for each row of `TABLE` that is needed; pass your own list to `collect` to override it.

    Raises:
        MissingEvidence: names all columns that cannot be made, each with the call that would make it.
        ValueError: sampled tokens must be scored, and were sampled at several temperatures.
    """
    recipes = list(recipe) if isinstance(recipe, Sequence) else [recipe]
    read = [name for one in recipes for name in (one.needs if training else one.chain.needs)]
    wanted = dict.fromkeys(name for name in read if not _is_there(name, rollouts))
    sources = Sources(policy, reference, judge, teacher)
    rows = {name: _row(name) for name in wanted}
    hints = {name: hint for name, row in rows.items() if (hint := _hint(name, row, sources, rollouts))}
    if hints:
        listed = "".join(f"\n  {name}: {hint}" for name, hint in hints.items())
        names = ", ".join(one.name for one in recipes)
        raise MissingEvidence(f"{names}: nothing at hand makes the columns {', '.join(hints)}{listed}", tuple(hints))
    used = [row for row in rows.values() if row is not None]
    own = [row for row in used if row not in TABLE]
    if any(row.make in AT_TEMPERATURE for row in used):
        sources = replace(sources, temperature=_recorded(rollouts) if temperature is None else temperature)
    return [row.make(sources) for row in (*(row for row in TABLE if row in used), *own)]


def _recorded(rollouts: Rollouts | None) -> float:
    """Return the temperature rollouts say they were sampled at; 1.0 where they say nothing."""
    said = [turn.sampling.get("temperature") for t in rollouts or () for turn in t.turns]
    found = {float(one) for one in said if isinstance(one, (int, float)) and one > 0}
    if len(found) > 1:
        raise ValueError(
            f"sampled at several temperatures, {sorted(found)}: their tokens cannot be scored at one. "
            "Split the rollouts, or say which with for_recipe(..., temperature=)"
        )
    return found.pop() if found else 1.0


def _is_there(name: str, rollouts: Rollouts | None) -> bool:
    """Is the column there: collected before (unknown in places as it may be), or recorded for some unit?"""
    if rollouts is None:
        return name in RECORDED
    column = rollouts.batch().columns.get(name)
    return column is not None and (name in rollouts.columns or len(column.known) == 0 or bool(column.known.any()))


def _hint(name: str, row: Row | None, sources: Sources, rollouts: Rollouts | None) -> str:
    """Say what to do about a column that cannot be made; "" if it can, or if it is recorded for a part at least."""
    if row is None:
        column = None if rollouts is None else rollouts.batch().columns.get(name)
        if column is None and name in REMEMBERS:
            return REMEMBERS[name]
        if column is None:
            return f"rollouts = rollouts.with_column({name!r}, level, values)"
        nowhere = f"it is there but known for no {column.level}; record it, or use a recipe that does not read it"
        return "" if bool(column.known.any()) else nowhere
    if row.takes and getattr(sources, row.takes) is None:
        return f"evidence.for_recipe(recipe, {row.takes}={row.takes})"
    return ""
