"""GRPO: from outcomes to the weight of every token in the first update."""

from __future__ import annotations

from workbench.recipes import grpo
from workbench.teach.methods import _outcome as o
from workbench.teach.turn_parts import hints

right = o.made(o.z(), o.mean_of_means)

ex = o.exercise(
    grpo(kl=0.0),
    (
        o.wrong("population spread", o.z(ddof=0), o.mean_of_means),
        o.wrong("batch statistics", o.z_of_batch, o.mean_of_means),
        o.wrong("noise divided by noise", o.noise, o.mean_of_means),
        o.wrong("lone rollout keeps its outcome", o.z(lone=1 / (1 + o.EPS)), o.mean_of_means),
        o.wrong("statistics over tokens", o.over_tokens(), o.mean_of_means),
        o.wrong("no spread", o.z(divide=False), o.mean_of_means),
        o.wrong("the others only", o.leave_one_out(), o.mean_of_means),
        o.wrong("nobody compared", o.raw, o.mean_of_means),
        o.wrong("mean over all tokens", o.z(), o.over_all_tokens),
        o.wrong("padding counts", o.z(), o.padded),
        o.wrong("length twice", o.z(), o.length_twice),
        o.wrong(
            "sum of each rollout",
            o.z(),
            o.mean_of_sums,
            "You sum over the tokens of a rollout. GRPO takes their mean: a rollout weighs the same however long it "
            "is.",
        ),
        o.wrong("no average", o.z(), o.summed),
    ),
    (o.sums_to_zero("mean"), o.unmoved_by_shift()),
    (
        "Two steps: an advantage a rollout, then what one token of it weighs in the mean that the loss takes.",
        "The advantage is the z-score among the rollouts of the question, sample spread; no peers or equal peers: 0.",
        "The loss is a mean over rollouts of a mean over tokens: a token of rollout i weighs 1 / (N n_i).",
    ),
)

hint = hints(ex)
