"""Dr. GRPO: from outcomes to the weight of every token, without the two divisions that bias it."""

from __future__ import annotations

from workbench.recipes import dr_grpo
from workbench.teach.methods import _outcome as o
from workbench.teach.turn_parts import hints

CONSTANT = 64
right = o.made(o.z(divide=False), o.by(CONSTANT))

ex = o.exercise(
    dr_grpo(max_tokens=CONSTANT),
    (
        o.wrong("divided by the spread", o.z(), o.by(CONSTANT)),
        o.wrong("batch statistics", o.centred_of_batch, o.by(CONSTANT)),
        o.wrong("the others only", o.leave_one_out(), o.by(CONSTANT)),
        o.wrong("nobody compared", o.raw, o.by(CONSTANT)),
        o.wrong("lone rollout keeps its outcome", o.z(divide=False, lone=1.0), o.by(CONSTANT)),
        o.wrong("statistics over tokens", o.over_tokens(divide=False), o.by(CONSTANT)),
        o.wrong("mean of each rollout", o.z(divide=False), o.mean_of_means),
        o.wrong("mean over all tokens", o.z(divide=False), o.over_all_tokens),
        o.wrong(
            "padding counts",
            o.z(divide=False),
            o.padded_width,
            "You divide by the padded width. That is verl's default for the constant, and no constant: it changes with "
            "the longest rollout of every batch.",
        ),
        o.wrong(
            "sum of each rollout",
            o.z(divide=False),
            o.mean_of_sums,
            "You divide by the number of rollouts. The sum over all tokens is divided by the constant that is given.",
        ),
        o.wrong("no average", o.z(divide=False), o.summed),
        o.wrong("length twice", o.z(divide=False), o.length_twice),
    ),
    (o.sums_to_zero("sum"), o.unmoved_by_shift(), o.scaled_with_outcome()),
    (
        "GRPO divides twice. Name both divisors, and leave both out.",
        f"What is left: outcome minus the mean of its question, over a constant, here {CONSTANT}.",
    ),
)

hint = hints(ex)
