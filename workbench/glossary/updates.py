"""What the metrics of credit, updates and time mean; see `workbench.glossary`."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.glossary.entry import Entry

CREDIT: Mapping[str, Entry] = {
    "tokens_known": Entry(
        "tokens_known",
        "Sampled tokens with a known credit, zero included.",
        range="whole, 0 or more",
        good="Nearly all.",
        bad="0: nothing can be learned; see `drop_reasons` and `tokens_unknown`.",
    ),
    "tokens_unknown": Entry(
        "tokens_unknown",
        "Sampled tokens whose credit is unknown: evidence or outcomes are missing. They enter no policy loss.",
        range="whole, 0 or more",
        good="0, or few.",
        bad="See `failed` and `outcome_n`, and which column of evidence has gaps.",
    ),
    "tokens_dropped": Entry(
        "tokens_dropped",
        "Sampled tokens that the recipe took out of the loss.",
        range="whole, 0 or more",
        good="0 for recipes that drop nothing.",
        bad="See `drop_reasons`.",
        equation="sum of drop_reasons",
    ),
    "drop_reasons": Entry(
        "drop_reasons",
        "Dropped tokens counted by the reason the recipe gives, the first one for each token.",
        range="counts by name",
        good="Empty, or the reason the recipe is made for.",
        bad="`recipe.trace(batch)` shows which stage dropped what.",
    ),
    "groups_dropped": Entry(
        "groups_dropped",
        "Groups of the update without a single token of known credit.",
        range="whole, 0 or more",
        good="0 after the last round.",
        bad="Raise refills or size, or take tasks that are sometimes solved.",
    ),
    "dead_groups": Entry(
        "dead_groups",
        "Share of the update's groups without a token of known credit other than 0: they move nothing.",
        range="0 to 1",
        good="Below 0.5; for methods with credit of turns below `collapsed`.",
        bad="At 1 the step is skipped and an alarm names the likely fix; else see `collapse_causes`.",
        equation="1 - groups with some |A| > 0 / groups",
    ),
    "shaping_only": Entry(
        "shaping_only",
        "Share of the update's groups whose known outcomes do not differ and which have credit all the same. "
        "Only turn rewards, penalties, a baseline from elsewhere or rounding vary there.",
        range="0 to 1",
        good="What you mean it to be: the point of turn rewards, 0 where only outcomes should count.",
        bad=(
            "Phantom advantages: if only outcomes should count, see which stage makes them with `recipe.trace(batch)`."
        ),
        equation="groups with equal outcomes and some |A| > 0 / groups",
    ),
    "shaping_only_causes": Entry(
        "shaping_only_causes",
        "The groups of `shaping_only` counted by what their outcomes are.",
        range="counts by name",
        good='With turn rewards mostly "all failed": that is where they help.',
        bad='"all solved": solved groups are pushed about by shaping; consider dropping them.',
    ),
    "advantage_scale": Entry(
        "advantage_scale",
        "Mean size of the known credit of tokens.",
        range="0 or more",
        good="0.1 to 1 for normalised credit, and steady.",
        bad="Very small: most groups are dead. Large or growing: a spread near 0 is divided by; raise eps.",
        equation="mean |A|",
    ),
    "advantage_largest": Entry(
        "advantage_largest",
        "Largest size of a token's credit.",
        range="0 or more",
        good="Below sqrt(G - 1) where credit is divided by the spread of G rollouts.",
        bad="A few tokens own the step: clip the credit, or raise eps.",
        equation="max |A|",
    ),
    "sign_balance": Entry(
        "sign_balance",
        "Tokens pushed up against tokens pushed down, in [-1, 1].",
        range="-1 to 1",
        good="Between -0.5 and 0.5. Long failures weigh more tokens, so a little below 0 is usual.",
        bad="Near -1: the step only unlearns, and entropy drifts; near 1: it only imitates. Check the baseline.",
        equation="(tokens with A > 0 - tokens with A < 0) / both",
    ),
    "concentration": Entry(
        "concentration",
        "How unevenly |A| lies on the turns of a trajectory: 0 all turns alike, 1 all on one turn; the mean "
        "over trajectories of two turns or more that have any credit.",
        range="0 to 1",
        good="0 by construction where the outcome is spread evenly; above 0 where turns are told apart.",
        bad="0 with a method that should tell turns apart: its turn rewards are missing or constant.",
        equation="(K sum_k s_k^2 - 1) / (K - 1),  s_k: turn's share of |A|",
    ),
}

UPDATES: Mapping[str, Entry] = {
    "updates": Entry(
        "updates",
        "Updates made on this batch.",
        range="whole, 0 or more",
        good="The plan's epochs.",
        bad="Fewer: see `updates_skipped`.",
    ),
    "updates_skipped": Entry(
        "updates_skipped",
        "Passes whose gradient was exactly 0, or that had no token to learn from. Weights and optimiser are "
        "left as they were: neither momentum nor weight decay moves them.",
        range="whole, 0 or more",
        good="0.",
        bad="See `dead_groups`; with living groups every token was clipped: lower the rate or epochs.",
        equation="epochs - updates",
    ),
    "loss": Entry(
        "loss",
        "The objective on the batch, mean over the passes. With policy gradients its value says little.",
        range="any number",
        good="Finite. It need not fall.",
        bad="Not finite stops the run. Do not tune on it; look at `outcome`.",
        equation="sum over terms of weight * loss of the term",
    ),
    "loss_*": Entry(
        "loss_*",
        "One term of the objective before its weight, by the name of the term, mean over the passes.",
        range="any number",
        good="loss_kl, loss_value: small and steady; loss_policy: near 0 on the first pass with centred credit.",
        bad="loss_kl grows: raise its weight. loss_value does not fall: raise the rate of the value head.",
        equation="sum_t w_t l_t",
    ),
    "clip_share": Entry(
        "clip_share",
        "Share of credited tokens whose gradient the clip removes, mean over the passes. On the first pass the "
        "ratio is 1, so with one epoch it is 0.",
        range="0 to 1",
        good="0 with one epoch, below 0.2 with several.",
        bad=(
            "High: the policy moves too far on one batch; lower the rate or epochs. Not 0 with one epoch: see "
            "`ratio_gap`."
        ),
        equation="tokens with (A > 0 and r > 1 + high) or (A < 0 and r < 1 - low) / credited tokens",
    ),
    "gradient_norm": Entry(
        "gradient_norm",
        "Norm of the policy's gradient before it is cut to the plan's `clip`, mean over the passes. Without the value "
        "head's own weights; with a shared trunk the value loss is in it.",
        range="0 or more",
        good="Steady, around or below `clip`.",
        bad=(
            "Always far above `clip`: only the direction counts; lower the rate before trusting it. 0: see "
            "`updates_skipped`. Rising without end: lower the rate."
        ),
        equation="|g|",
    ),
    "gradient_norm_value": Entry(
        "gradient_norm_value",
        "Norm of the gradient of the value head's own weights before it is cut to the plan's `clip`, apart from the "
        "policy's; mean over the passes. None without a value head.",
        range="0 or more, or none",
        good="Falls as the head learns.",
        bad="Always far above `clip`: lower the weight of the value loss, or `value_rate`.",
        equation="|g_head|",
    ),
    "ratio_gap": Entry(
        "ratio_gap",
        "Largest distance of a token's ratio from 1 before the first update, when learner and sampler have the "
        "same weights. It must be rounding alone.",
        range="0 or more",
        good="Below 1e-3 in float32, 0.2 in float16, 1 in bfloat16.",
        bad="Sampler and learner differ in weights, temperature or tokens; an alarm says so.",
        equation="max_t |exp(l_t - l_old,t) - 1|",
    ),
    "ratio_mean": Entry(
        "ratio_mean",
        "Mean size of the log-ratio before the first update; steadier than the largest where rounding is coarse.",
        range="0 or more",
        good="Below 1e-4 in float32, 0.02 in float16, 0.08 in bfloat16 (SmolLM2: 3e-6, 0.006, 0.04).",
        bad="As for `ratio_gap`. A temperature that is wrong by a twentieth gives 0.09 or more.",
        equation="mean_t |l_t - l_old,t|",
    ),
    "ratio_off": Entry(
        "ratio_off",
        "Share of tokens whose ratio is further from 1 than the bound of the dtype before the first update.",
        range="0 to 1",
        good="0.",
        bad="A few tokens: look at them, a control or stop token is likely. All: wrong weights or temperature.",
        equation="share of t with |exp(l_t - l_old,t) - 1| > bound",
    ),
    "ratio_spread": Entry(
        "ratio_spread",
        "How far the log-probs of learner and sampler lie apart before the first update: the size that half, 90 % and "
        "99 % of the tokens stay below.",
        range="three numbers, 0 or more, in nats",
        good="Alike from step to step, and of the size of rounding.",
        bad="The last far above the others: a few tokens differ, see `ratio_off`. All grow: a sampler lags behind.",
        equation="quantiles 0.5, 0.9, 0.99 of |l_t - l_old,t|",
    ),
    "corrected": Entry(
        "corrected",
        "Share of tokens whose weight a truncated correction cuts: the learner finds them so much likelier than the "
        "sampler did. None where the objective corrects nothing (`workbench.objective.truncated`).",
        range="0 to 1",
        good="0, or near it.",
        bad="Sampler and learner are far apart: see `ratio_spread`; lower the rate or `Scale.asynchronous`.",
        equation="share of t with exp(l_t - l_old,t) > cap",
    ),
    "kl_before": Entry(
        "kl_before",
        "KL from the sampling policy to the learner before the first update, by the k3 estimate. It must be 0 "
        "up to rounding.",
        range="0 or more, in nats",
        good="Below 1e-6 in float32, 1e-2 in bfloat16.",
        bad="As for `ratio_gap`.",
        equation="mean_t (r_t - 1 - log r_t),  r_t = exp(l_t - l_old,t)",
    ),
    "kl_update_k1": Entry(
        "kl_update_k1",
        "KL from the sampling policy to the learner on the last pass, that is after all updates but the last; "
        "k1: unbiased, may be negative. None with one epoch.",
        range="any number, in nats",
        good="Near `kl_update_k3`, 0.001 to 0.05.",
        bad="Far from `kl_update_k3`: too few tokens to tell, or a policy that has moved very far.",
        equation="mean_t (l_old,t - l_t)",
    ),
    "kl_update_k3": Entry(
        "kl_update_k3",
        "The same by k3: unbiased, never negative, varies less.",
        range="0 or more, in nats",
        good="0.001 to 0.05.",
        bad="Large: lower the rate or epochs, or narrow the clip. Tiny while `outcome` is flat: raise the rate.",
        equation="mean_t (r_t - 1 - log r_t)",
    ),
    "kl_reference": Entry(
        "kl_reference",
        "KL from the learner to the reference policy before the update, by k3 on the tokens of the batch; None "
        "without a reference.",
        range="0 or more, in nats",
        good="0 at step 0, then slow growth.",
        bad=(
            "Not 0 at step 0: wrong reference or temperature. Fast growth with bad text: raise the weight of the KL "
            "term."
        ),
        equation="mean_t (exp(d_t) - 1 - d_t),  d_t = l_ref,t - l_t",
    ),
    "entropy": Entry(
        "entropy",
        "Entropy of the policy at the sampled tokens, exact over the vocabulary, in nats, before the first update.",
        range="0 to log(vocabulary), in nats",
        good="Falls slowly as the policy becomes sure.",
        bad=(
            "Near 0 early: all rollouts of a group are alike and groups collapse; raise the temperature, add an "
            "entropy term, lower the rate. Rising without end: the policy dissolves; lower the rate."
        ),
        equation="mean_t -sum_v p(v) log p(v)",
    ),
    "gradient_by_turn": Entry(
        "gradient_by_turn",
        "Share of each place in the trajectory (first turn, second ...) in the gradient by the logits: norms of "
        "tokens, summed. Cheap, and a stand-in: gradients of tokens may cancel on their way to the weights; "
        "`turn_gradients` says it exactly. Gradient through entropy or a value head is not in it; None with a "
        "gradient rule.",
        range="a list of shares that add up to 1",
        good="No single turn near 1 unless it is the one that decides.",
        bad=(
            "All on the last turn: earlier ones are not trained; use credit of turns. All on the first: long "
            "trajectories or dead later turns."
        ),
        equation="sum_{t in turn k} |dL/dz_t| / sum_t |dL/dz_t|",
    ),
    "padding": Entry(
        "padding",
        "Share of what goes through the model that is padding. 0 where trajectories are read as trees.",
        range="0 to 1",
        good="Below 0.3.",
        bad="Raise micro_tokens, or let trajectories be packed.",
        equation="1 - real tokens / tokens of the passes",
    ),
    "alarms": Entry(
        "alarms",
        "What is wrong with the step, by kind, each with the likely fix: truncated, failed, dead, refill, "
        "skipped, ratio.",
        range="texts by kind",
        good="Empty.",
        bad="Do what it says; a kind is said once until it goes away.",
    ),
}

TIMES: Mapping[str, Entry] = {
    "seconds": Entry(
        "seconds",
        "Wall time of the step.",
        range="0 or more, in seconds",
        good="Steady.",
        bad="See which part grew.",
        equation="sum of the four parts",
    ),
    "seconds_rollout": Entry(
        "seconds_rollout",
        "Wall time of playing.",
        range="0 or more, in seconds",
        good="The largest part for small models.",
        bad="Fewer turns or tokens, larger groups at once.",
    ),
    "seconds_evidence": Entry(
        "seconds_evidence",
        "Wall time of evidence: reference, belief, values.",
        range="0 or more, in seconds",
        good="Below that of the rollouts.",
        bad="Fewer candidates, or another method.",
    ),
    "seconds_credit": Entry(
        "seconds_credit",
        "Wall time of the recipe's arithmetic.",
        range="0 or more, in seconds",
        good="Next to nothing.",
        bad="Look for a stage that loops in Python.",
    ),
    "seconds_learn": Entry(
        "seconds_learn",
        "Wall time of all passes and updates.",
        range="0 or more, in seconds",
        good="Steady.",
        bad="Larger micro_tokens, fewer epochs.",
    ),
    "tokens_per_second_rollout": Entry(
        "tokens_per_second_rollout",
        "Sampled tokens of all that was played, a second of playing.",
        range="0 or more",
        good="Higher is better; compare on one machine only.",
        bad="Larger groups fill the passes.",
        equation="tokens / seconds_rollout",
    ),
    "tokens_per_second_evidence": Entry(
        "tokens_per_second_evidence",
        "Sampled tokens of the update's rollouts, a second of evidence.",
        range="0 or more",
        good="As above.",
        bad="See `seconds_evidence`.",
        equation="tokens / seconds_evidence",
    ),
    "tokens_per_second_credit": Entry(
        "tokens_per_second_credit",
        "Sampled tokens of the update's rollouts, a second of credit.",
        range="0 or more",
        good="Far above the others.",
        bad="See `seconds_credit`.",
        equation="tokens / seconds_credit",
    ),
    "tokens_per_second_learn": Entry(
        "tokens_per_second_learn",
        "Sampled tokens of the update's rollouts, a second of learning, all epochs together.",
        range="0 or more",
        good="As above.",
        bad="Larger micro_tokens; shared prompts as trees.",
        equation="tokens / seconds_learn",
    ),
}

SCALED: Mapping[str, Entry] = {
    "seconds_sync": Entry(
        "seconds_sync",
        "Wall time from the update until every engine has the new weights and agrees with the learners.",
        range="0 or more, in seconds",
        good="Small beside `seconds_rollout` and `seconds_learn`.",
        bad="Whole weights are written and read once a step: make steps larger, or use fewer engines on slow disks.",
    ),
    "seconds_idle": Entry(
        "seconds_idle",
        "Wall time of a step in which none of its parts was at work: calls between processes, processes made anew.",
        range="0 or more, in seconds",
        good="Near 0.",
        bad="Large once: a process died, see `log.txt`. Always: the parts are too small for so many processes.",
        equation="seconds - the sum of its parts",
    ),
}
