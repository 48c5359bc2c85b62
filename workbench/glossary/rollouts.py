"""What the metrics of rollouts mean; see `workbench.glossary`."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.glossary.entry import Entry

ROLLOUTS: Mapping[str, Entry] = {
    "step": Entry(
        "step",
        "Number of the step, from 0.",
        range="whole, 0 or more",
        good="Counts up by one.",
        bad="A gap means a damaged file.",
    ),
    "rate": Entry(
        "rate",
        "Learning rate of the step.",
        range="0 or more",
        good="Above 0 unless a schedule has ended.",
        bad="At 0 nothing is learned: look at the schedule.",
        equation="the plan's number, or its schedule at the step",
    ),
    "rounds": Entry(
        "rounds",
        "How often the step sampled: 1, and once more for each time a recipe wanted dropped groups replaced.",
        range="whole, 1 or more",
        good="1 to 3.",
        bad=(
            "At the plan's limit (refills + 1) most groups are dropped: take tasks that are sometimes solved, or "
            "more rollouts a task."
        ),
    ),
    "lag": Entry(
        "lag",
        "How many updates the oldest turn of the step is behind the learner.",
        range="whole, 0 or more",
        good="0; at most `Scale.asynchronous` where the next step is played while this one learns.",
        bad="More: the sampler does not get its weights. With a lag the ratio is not 1, and no alarm says so.",
        equation="version of the learner's weights - version that sampled",
    ),
    "outcome": Entry(
        "outcome",
        "Mean of the known outcomes of all rollouts of the step. Unknown ones are left out, not counted as 0.",
        range="that of the world's outcomes, often 0 to 1",
        good="Rises over the run, by more than its interval is wide.",
        bad=(
            "If it is flat look at `dead_groups`, then at `collapse_causes`; if it falls, lower the rate and look "
            "at `kl_update_k3`."
        ),
        equation="sum of known outcomes / outcome_n",
    ),
    "outcome_low": Entry(
        "outcome_low",
        "Lower end of the 95 % interval of `outcome`. `outcome_interval` says which. Wilson's takes rollouts as "
        "independent draws, so with tasks of different difficulty it is too narrow.",
        range="that of the world's outcomes, often 0 to 1",
        good="Two runs differ where their intervals do not overlap; the other way round nothing follows.",
        bad="Too wide to tell: more groups a step, or the mean over several steps and seeds.",
    ),
    "outcome_high": Entry(
        "outcome_high",
        "Upper end of the interval of `outcome`; see `outcome_low`.",
        range="that of the world's outcomes, often 0 to 1",
        good="See `outcome_low`.",
        bad="Same.",
    ),
    "outcome_n": Entry(
        "outcome_n",
        "Rollouts whose outcome is known.",
        range="whole, 0 or more",
        good="All of them: groups times size, and more with several rounds.",
        bad="Fewer: the world failed or gave no outcome; see `failed` and the `stop_reason` of the rollouts.",
    ),
    "outcome_interval": Entry(
        "outcome_interval",
        'Which interval `outcome` has: "wilson" where all outcomes are 0 or 1, else "t over groups" (a '
        "cluster-robust variance with G - 1 degrees of freedom, which lets rollouts of one task resemble each "
        "other); none with a single group, or where groups do not differ.",
        range='"wilson", "t over groups" or none',
        good="Either.",
        bad="None: play at least two groups, of tasks that differ.",
    ),
    "success": Entry(
        "success",
        "Share of the known outcomes that are exactly 1.",
        range="0 to 1",
        good="Rises. Between 0.2 and 0.8 outcomes teach most, because groups differ most there.",
        bad="Near 0: easier tasks or a warm start. Near 1: harder tasks.",
        equation="rollouts with outcome 1 / outcome_n",
    ),
    "success_low": Entry(
        "success_low",
        "Lower end of Wilson's 95 % interval of `success`.",
        range="0 to 1",
        good="See `outcome_low`.",
        bad="See `outcome_low`.",
    ),
    "success_high": Entry(
        "success_high",
        "Upper end of Wilson's 95 % interval of `success`.",
        range="0 to 1",
        good="See `outcome_low`.",
        bad="See `outcome_low`.",
    ),
    "reward": Entry(
        "reward",
        "Mean over rollouts with a known outcome of the outcome and the known rewards of the turns together.",
        range="any number",
        good="Rises together with `outcome`.",
        bad=(
            "Reward up while `outcome` is flat or falls: the turn rewards are earned without solving the task; "
            "lower their weight or take another reward."
        ),
        equation="mean_i (R_i + sum_k r_ik)",
    ),
    "reward_low": Entry(
        "reward_low",
        "Lower end of the 95 % t interval of `reward`, groups as the independent draws; none with a single group, or "
        "where groups do not differ: its width cannot be estimated then.",
        range="any number",
        good="See `outcome_low`.",
        bad="See `outcome_low`.",
        equation="m - t_(G-1) sqrt(G/(G-1) sum_g (sum_i (x_gi - m))^2) / n",
    ),
    "reward_high": Entry(
        "reward_high",
        "Upper end of the interval of `reward`.",
        range="any number",
        good="See `outcome_low`.",
        bad="See `outcome_low`.",
    ),
    "groups": Entry(
        "groups",
        "Tasks that were played, over all rounds.",
        range="whole, 1 or more",
        good="The plan's number, or more with rounds.",
        bad="See `rounds`.",
    ),
    "collapsed": Entry(
        "collapsed",
        "Share of the groups with a known outcome that have no two different ones. A method that compares "
        "outcomes learns nothing there.",
        range="0 to 1",
        good="Near `forecast`. Below 0.5 at first; it rises again once everything is solved.",
        bad="See `collapse_causes` for why; larger groups lower it, see `forecast` for how much.",
        equation="1 - groups with two different outcomes / groups with a known one",
    ),
    "collapsed_low": Entry(
        "collapsed_low",
        "Lower end of Wilson's 95 % interval of `collapsed`.",
        range="0 to 1",
        good="See `outcome_low`.",
        bad="Same.",
    ),
    "collapsed_high": Entry(
        "collapsed_high",
        "Upper end of Wilson's 95 % interval of `collapsed`.",
        range="0 to 1",
        good="See `outcome_low`.",
        bad="Same.",
    ),
    "collapse_causes": Entry(
        "collapse_causes",
        'Groups counted by cause, each once. "varied": two outcomes differ. "all solved", "all failed": all 1, '
        'all 0. "unparsable": equal and not solved, and each rollout ended on calls none of which can be read. '
        '"all truncated": likewise, and a limit ended each (of turns, of what the model can read, of the last '
        'turn\'s tokens). "all equal": another value. "single survivor": one known outcome. "unknown": none.',
        range="counts by name",
        good='Mostly "varied".',
        bad=(
            "all solved: harder tasks. all failed: easier tasks, a warm start, larger groups, or credit for turns. "
            "all truncated: raise max_turns or max_new_tokens. unparsable: mend prompt, template or parser. single "
            "survivor, unknown: find out why outcomes are missing."
        ),
    ),
    "forecast": Entry(
        "forecast",
        "Share of collapsed groups to be expected if every outcome were an independent draw with the step's "
        "success rate p; groups may have different sizes G. None where outcomes are not only 0 and 1.",
        range="0 to 1",
        good="At or a little below `collapsed`: tasks of different difficulty collapse more often than it says.",
        bad=(
            "`collapsed` far above it: tasks are either trivial or hopeless; choose others. The forecast itself "
            "high: larger groups."
        ),
        equation="mean over groups of p^G + (1 - p)^G",
    ),
    "turns": Entry(
        "turns",
        "Turns a rollout, on average.",
        range="0 or more",
        good="What the task takes.",
        bad="At the world's limit: episodes do not end; see `truncated`. Falling to 1: the policy answers at once.",
    ),
    "tokens": Entry(
        "tokens",
        "Sampled tokens a rollout, on average; prompts and observations do not count.",
        range="0 or more",
        good="Steady.",
        bad="Steady growth without better outcomes: the loss rewards length (try another aggregation).",
    ),
    "truncated": Entry(
        "truncated",
        "Share of rollouts that a limit ended: of turns, of what the model can read, or of tokens in the last turn.",
        range="0 to 1",
        good="Below 0.1.",
        bad=(
            "Raise max_turns or max_new_tokens, shorten observations, or warm-start on finished episodes. Above 0.9 "
            "without any reward an alarm says so."
        ),
    ),
    "malformed": Entry(
        "malformed",
        "Share of turns without a call that can be read. In a world where an answer is plain text, that turn "
        "counts too.",
        range="0 to 1",
        good="Below 0.1 where each turn should be a call.",
        bad=(
            "Look at such a turn: wrong template, too few tokens (see `truncated`), or a policy that needs a warm "
            "start."
        ),
    ),
    "failed": Entry(
        "failed",
        "Share of rollouts that an error of the world ended. Their outcome is unknown and they enter no loss.",
        range="0 to 1",
        good="0.",
        bad="Read their `stop_reason`, mend the world, play one rollout by hand.",
    ),
    "surprise": Entry(
        "surprise",
        "Mean of minus the log-prob of the sampled tokens when they were sampled: an estimate of the entropy "
        "from the draws themselves.",
        range="0 or more, in nats",
        good="Near `entropy`.",
        bad=(
            "Far from `entropy` over many steps: sampler and learner do not have the same distribution "
            "(temperature, top_p)."
        ),
        equation="-mean_t log p_old(y_t)",
    ),
}
