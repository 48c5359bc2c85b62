"""RLOO: from outcomes to the weight of every token."""

from __future__ import annotations

from workbench.recipes import rloo
from workbench.teach.methods import _outcome as o
from workbench.teach.turn_parts import hints

right = o.made(o.leave_one_out(), o.mean_of_sums)

ex = o.exercise(
    rloo(),
    (
        o.wrong(
            "mean with itself",
            o.z(divide=False),
            o.mean_of_sums,
            "You leave the rollout in its own baseline: its outcome is partly compared with itself, and every "
            "advantage is smaller by (n - 1) / n.",
        ),
        o.wrong(
            "factor upside down",
            o.shrunk,
            o.mean_of_sums,
            "You multiply the centred outcome by (n - 1) / n. The short form of leave-one-out multiplies by n / (n - "
            "1).",
        ),
        o.wrong("divided by the spread", o.z(), o.mean_of_sums),
        o.wrong(
            "lone rollout keeps its outcome",
            o.leave_one_out(lone=1.0),
            o.mean_of_sums,
            "You give a rollout without peers its raw outcome. verl's rloo does, its rloo_vectorized gives 0; the two "
            "agree otherwise, and no test of theirs has a lone rollout.",
        ),
        o.wrong(
            "others of the batch",
            o.others_of_batch,
            o.mean_of_sums,
            "You compare with all other rollouts of the batch. The baseline is the mean of the others of the same "
            "question.",
        ),
        o.wrong(
            "sum of the others",
            o.sum_of_others,
            o.mean_of_sums,
            "You subtract the sum of the others, not their mean.",
        ),
        o.wrong(
            "best of the others",
            o.best_of_others,
            o.mean_of_sums,
            "You subtract the best of the others. Hardly anything is praised then; the baseline is their mean.",
        ),
        o.wrong(
            "median of the others",
            o.middle_of_others,
            o.mean_of_sums,
            "You subtract the median of the others. With outcomes of 0 and 1 it jumps; the mean is what is unbiased.",
        ),
        o.wrong("nobody compared", o.raw, o.mean_of_sums),
        o.wrong("statistics over tokens", o.over_tokens(divide=False), o.mean_of_sums),
        o.wrong("mean of each rollout", o.leave_one_out(), o.mean_of_means),
        o.wrong("mean over all tokens", o.leave_one_out(), o.over_all_tokens),
        o.wrong("padding counts", o.leave_one_out(), o.padded),
        o.wrong("no average", o.leave_one_out(), o.summed),
    ),
    (o.sums_to_zero("sum"), o.unmoved_by_shift(), o.scaled_with_outcome()),
    (
        "Whose outcomes are in the baseline of rollout i? Write them down; i itself is not among them.",
        "The loss is a mean over rollouts of a sum over tokens: a token weighs 1 / N, whatever the length.",
    ),
)

hint = hints(ex)
