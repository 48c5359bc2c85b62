"""DAPO: from outcomes to the weight of every token; questions whose outcomes are all equal are left out."""

from __future__ import annotations

from workbench.recipes import dapo
from workbench.teach.methods import _outcome as o
from workbench.teach.turn_parts import hints

KEPT = o.dropped(o.z(), o.all_equal)
right = o.made(KEPT, o.over_all_tokens)

ex = o.exercise(
    dapo(),
    (
        o.wrong(
            "equal outcomes counted",
            KEPT,
            o.over_every_token,
            "You divide by the tokens of questions that were left out, too. Their credit is 0 in either case; counted, "
            "they make every step smaller. DAPO samples other questions in their place.",
        ),
        o.wrong(
            "only failures left out",
            o.dropped(o.z(), lambda pool: max(pool) == min(pool) == 0.0),
            o.over_all_tokens,
            "You leave out questions that nobody solved and keep those that everybody solved. Neither says anything.",
        ),
        o.wrong(
            "lone rollout kept",
            o.dropped(o.z(lone=1 / (1 + o.EPS)), lambda pool: len(pool) > 1 and o.all_equal(pool)),
            o.over_all_tokens,
            "You keep a rollout that is alone with its question, with its raw outcome. Nobody was compared: it is left "
            "out.",
        ),
        o.wrong("mean of each rollout", KEPT, o.mean_of_means),
        o.wrong(
            "sum of each rollout",
            KEPT,
            o.mean_of_sums,
            "You divide by the number of rollouts. DAPO divides by the number of tokens.",
        ),
        o.wrong("population spread", o.dropped(o.z(ddof=0), o.all_equal), o.over_all_tokens),
        o.wrong("batch statistics", o.dropped(o.z_of_batch, o.all_equal), o.over_all_tokens),
        o.wrong("no spread", o.dropped(o.z(divide=False), o.all_equal), o.over_all_tokens),
        o.wrong("the others only", o.dropped(o.leave_one_out(), o.all_equal), o.over_all_tokens),
        o.wrong("nobody compared", o.dropped(o.raw, o.all_equal), o.over_all_tokens),
        o.wrong("statistics over tokens", o.dropped(o.over_tokens(), o.all_equal), o.over_all_tokens),
        o.wrong("padding counts", KEPT, o.padded),
        o.wrong("length twice", KEPT, o.length_twice),
    ),
    (o.sums_to_zero("sum"), o.unmoved_by_shift()),
    (
        "First decide which questions are in. Which two kinds of question are not?",
        "Then one mean over all tokens of what is left: every token weighs the same, long rollouts weigh more.",
    ),
)

hint = hints(ex)
