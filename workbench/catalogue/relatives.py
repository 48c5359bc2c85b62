"""Relatives of the turn-level methods: known ideas at little cost, beside which the systems are seen."""

from __future__ import annotations

from workbench.catalogue.method import Card, Method

TASK = "independent_of_other_tasks"

RELATIVES: tuple[Method, ...] = (
    Method(
        "B11",
        "MT-GRPO",
        ("recipe",),
        "runs",
        Card(
            "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Credit Assignment",
            2025,
            "2505.11821",
            "each turn's own reward against its siblings', plus GRPO's term",
            "abstract of its first version; released code, read as text",
            "more than one call: every turn against the same turn of its siblings",
        ),
        recipes=("mt_grpo", "mt_grpo_released"),
        axioms=(
            TASK,
            "translation_invariant(outcome)",
            "unknown_policy(outcome, unknown)",
            "mt_grpo: causal(turn_reward)",
        ),
        notebook="notebooks/methods/mt_grpo.py",
    ),
    Method(
        "B12",
        "Bi-level GAE",
        ("recipe",),
        "runs",
        Card(
            "RAGEN: Understanding Self-Evolution in LLM Agents via Multi-Turn Reinforcement Learning",
            2025,
            "2504.20073",
            "GAE over turns gives each turn a target, GAE inside the turn carries it to its tokens",
            "code read; its turn ends are not reproduced",
        ),
        recipes=("bilevel_gae",),
        axioms=("unknown_policy(outcome, unknown)", "unknown_policy(turn_value, unknown)"),
    ),
    Method(
        "B13",
        "Potential shaping",
        ("recipe",),
        "runs",
        Card(
            "Policy invariance under reward transformations: theory and application to reward shaping",
            1999,
            None,
            "a potential's differences join the rewards and change no policy's rank",
            "textbook",
        ),
        recipes=("potential_shaping",),
        axioms=(TASK, "unknown_policy(outcome, unknown)"),
    ),
    Method(
        "B14",
        "Progress share",
        ("recipe", "evidence"),
        "runs",
        Card(
            "SPA-RL: Reinforcing LLM Agents via Stepwise Progress Attribution",
            2025,
            "2505.20732",
            "the outcome is split over the turns by the progress each made",
            "as the literature describes it",
            "paper and code not read; a column instead of a learned network",
        ),
        recipes=("progress_share",),
        axioms=(TASK, "unknown_policy(outcome, unknown)", "unknown_policy(match_reward, unknown)"),
    ),
    Method(
        "B15",
        "Turn ablation",
        ("recipe", "evidence"),
        "runs",
        Card(
            "Understanding Neural Networks through Representation Erasure",
            2016,
            "1612.08220",
            "what is lost when a turn, or what it saw, is taken out",
            "idea; none found for agents' turns",
        ),
        recipes=("turn_ablation",),
        axioms=(TASK, "unknown_policy(ablation_drop, unknown)"),
    ),
    Method(
        "B16",
        "Hindsight credit",
        ("recipe", "evidence"),
        "runs",
        Card(
            "Hindsight Credit Assignment",
            2019,
            "1912.02503",
            "how much likelier a turn is once the end is known",
            "formula",
            "the policy told the answer stands for the learned hindsight distribution; the bound",
        ),
        recipes=("hindsight",),
        axioms=(TASK, "unknown_policy(outcome, unknown)"),
    ),
    Method(
        "B17",
        "Shapley over turns",
        ("recipe", "evidence"),
        "runs",
        Card(
            "A value for n-person games",
            1953,
            None,
            "the mean of what a turn adds, over all orders in which turns could be read",
            "textbook",
        ),
        recipes=("shapley",),
        axioms=(TASK, "unknown_policy(shapley, unknown)"),
    ),
    Method(
        "B18",
        "RUDDER",
        ("recipe", "evidence"),
        "runs",
        Card(
            "RUDDER: Return Decomposition for Delayed Rewards",
            2018,
            "1806.07857",
            "a learned predictor of the outcome; credit is where its prediction changed",
            "formula; code not read",
        ),
        recipes=("rudder",),
        axioms=(TASK, "unknown_policy(return_pred, unknown)"),
    ),
)
