"""REINFORCE: from outcomes to the weight of every token."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.recipes import reinforce
from workbench.teach.methods import _outcome as o
from workbench.teach.turn_parts import hints

right = o.made(o.raw, o.mean_of_sums)


def _successes(outcome: Sequence[float], group: Sequence[str], tokens: Sequence[int]) -> list[float | None]:
    """Leave failures out, of the average too."""
    return [r if r > 0 else None for r in outcome]


def _solved_or_not(outcome: Sequence[float], group: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Round outcomes to solved or not."""
    return [1.0 if r >= 0.5 else 0.0 for r in outcome]


ex = o.exercise(
    reinforce(),
    (
        o.wrong(
            "baseline of the batch",
            o.centred_of_batch,
            o.mean_of_sums,
            "You subtract the mean of the batch. A baseline is a good idea and another method; this one has none.",
        ),
        o.wrong(
            "baseline of the question",
            o.z(divide=False, lone=1.0),
            o.mean_of_sums,
            "You subtract the mean of the question (Dr. GRPO). Here nobody is compared with anybody.",
        ),
        o.wrong("the others only", o.leave_one_out(lone=1.0), o.mean_of_sums),
        o.wrong("divided by the spread", o.z(lone=1.0), o.mean_of_sums),
        o.wrong(
            "failure is blame",
            o.signed,
            o.mean_of_sums,
            "You blame a failure. An outcome of 0 gives exactly 0: the tokens of a failed rollout are not moved at "
            "all.",
        ),
        o.wrong(
            "solved or not",
            _solved_or_not,
            o.mean_of_sums,
            "You round the outcome. A part of a success counts as that part.",
        ),
        o.wrong(
            "failures left out of the mean",
            _successes,
            o.mean_of_sums,
            "You divide by the number of successes: fewer successes then make larger steps. Failures give 0 and do "
            "count.",
        ),
        o.wrong("mean of each rollout", o.raw, o.mean_of_means),
        o.wrong("mean over all tokens", o.raw, o.over_all_tokens),
        o.wrong("padding counts", o.raw, o.padded),
        o.wrong("length twice", o.raw, o.length_twice),
        o.wrong("no average", o.raw, o.summed),
    ),
    (o.scaled_with_outcome(),),
    (
        "The gradient of the expected outcome: which number multiplies the log-probability of every token of rollout "
        "i?",
        "The log-probability of a rollout is the sum over its tokens. The average is over rollouts, not over tokens.",
    ),
)

hint = hints(ex)
