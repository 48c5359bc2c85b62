"""The 63 systems. A row: number, name, kind, status, then title, year, arXiv id, the idea, the source, our reading."""

# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Mapping

from workbench.catalogue.method import KINDS, Card, Kind, Method, Status

CODE_RUN = "official code read and run"
CODE = "official code read"


def _row(
    number: int,
    name: str,
    kind: str,
    status: Status,
    card: Card,
    recipes: str = "",
    parity: Mapping[str, str] | None = None,
    axioms: tuple[str, ...] = (),
    notebook: str | None = None,
    missing: str = "",
    asks: str = "",
) -> Method:
    """Build a row from words: kinds joined by " + ", recipe names by blanks."""
    named = kind.split(" + ")
    kinds: tuple[Kind, ...] = tuple(k for n in named for k in KINDS if k == n)
    if len(kinds) != len(named):
        raise ValueError(f"{name}: expected kinds of {KINDS}, got {kind!r}")
    return Method(
        number, name, kinds, status, card, tuple(recipes.split()), parity or {}, axioms, notebook, missing, asks
    )


# fmt: off
METHODS: tuple[Method, ...] = (
    _row(1, "IGPO", "evidence + recipe", "runs", Card(
        "Information Gain-based Policy Optimization: A Simple and Effective Approach for Multi-Turn LLM Agents", 2025, "2510.14967",
        "a turn is worth what it adds to the policy's own probability of the gold answer",
        CODE_RUN + ", two releases that differ", code="GuoqingWang1/IGPO verl/trainer/ppo/core_algos.py"),
        "igpo igpo_released igpo_released_2025", {
            "IGPO/info_gain": "igpo:info_gain", "IGPO/turn_advantages": "igpo:turn_advantages",
            "IGPO/token_advantages": "igpo:token_advantages"},
        ("independent_of_other_tasks", "igpo: unknown_policy(gold_logprob, next)",
            "igpo_released: unknown_policy(gold_logprob, next)", "igpo_released: translation_invariant(outcome)",
            "igpo_released: scale_invariant(outcome)", "igpo_released_2025: unknown_policy(token_reward, unknown)"),
        notebook="notebooks/methods/igpo.py"),
    _row(2, "VPR", "evidence + recipe + environment", "runs", Card(
        "Verifiable Process Rewards for Agentic Reasoning", 2026, "2605.10325",
        "an oracle (game search, constraint solver, posterior) judges every action; compare at equal turn or equal state",
        CODE + " as text, not run", code="thu-nics/VPR gigpo/core_gigpo.py"),
        "vpr_turns vpr_states", {
            "VPR/turn_norm": "judged:turn_norm", "VPR/turn_norm_padded": "judged:turn_norm", "VPR/state_group": "judged:state_group"},
        ("unknown_policy(oracle_on_path, unknown)",),
        notebook="notebooks/methods/vpr.py"),
    _row(3, "SIOP", "evidence + recipe", "runs", Card(
        "Self-Induced Outcome Potential: Turn-Level Credit Assignment for Agents without Verifiers", 2026, "2605.04984",
        "without gold answers: the group's own answer clusters are the targets a turn moves towards",
        CODE_RUN, "a rollout without an answer is unknown (the release: reward 0)", code="dl-m9/SIOP verl/utils/siop/siop_process_reward.py"),
        "siop siop_released", {
            "SIOP/clusters": "siop:clusters", "SIOP/rewards": "siop:rewards",
            "SIOP/single_turn_rewards": "siop:single_turn_rewards", "SIOP/turn_advantages": "siop:turn_advantages"},
        ("independent_of_other_tasks", "siop: unknown_policy(answer_cluster, unknown)",
            "siop_released: unknown_policy(answer_cluster, known)"),
        notebook="notebooks/methods/siop.py"),
    _row(4, "SCRIBE", "evidence + recipe", "planned", Card(
        "SCRIBE: Structured Mid-Level Supervision for Tool-Using Language Models", 2026, "2601.03555",
        "subgoals are routed to skill prototypes whose checklists a judge fills in",
        "abstract and project readme", "how outcome, subgoal and tool rewards are combined")),
    _row(5, "Skill-SD", "evidence + objective", "planned", Card(
        "Skill-SD: Skill-Conditioned Self-Distillation for Multi-turn LLM Agents", 2026, "2604.10674",
        "the policy, shown a skill written from past episodes, teaches itself without it",
        "detailed reading notes by others", "averaging over tokens, clip range")),
    _row(6, "MatchTIR", "evidence + recipe", "runs", Card(
        "MatchTIR: Fine-Grained Supervision for Tool-Integrated Reasoning via Bipartite Matching", 2026, "2601.10712",
        "tool calls are matched with a gold trace; rollout and turn are both compared, then averaged",
        CODE_RUN, code="quchangle1/MatchTIR Code/verl/trainer/ppo/core_algos.py"),
        "matchtir matchtir_released", {
            "MatchTIR/matching": "matchtir:matching", "MatchTIR/turn_advantages": "matchtir:turn_advantages",
            "MatchTIR/turn_rewards": "matchtir:turn_rewards"},
        ("independent_of_other_tasks", "unknown_policy(match_turn_reward, unknown)"),
        notebook="notebooks/methods/matchtir.py"),
    _row(7, "MedSAM-Agent", "evidence + recipe", "planned", Card(
        "MedSAM-Agent", 2026, "2602.03320",
        "a trace of quality per turn pays for improvement, charges overshoot and length; here on toy masks",
        CODE, "splitting the one reward of a rollout over its turns is ours")),
    _row(8, "ACC", "transform", "planned", Card(
        "ACC: compiling agent trajectories", 2026, "2605.21850",
        "the observations of a successful run become one long context with the question, answered directly",
        "abstract and notes by others", "order of the observations, which runs are kept")),
    _row(9, "DR-Venus", "recipe + transform", "runs", Card(
        "DR-Venus: Towards Frontier Edge-Scale Deep Research Agents with Only 10K Open Data", 2026, "2604.19859",
        "information gain at chosen tools only, malformed turns replaced by a penalty, gain scaled to the outcome",
        CODE_RUN, code="inclusionAI/DR-Venus RL/verl/trainer/ppo/info_gain_advantage.py"),
        "dr_venus", {
            "DR-Venus/turn_advantages": "venus:turn_advantages", "DR-Venus/filtered_info_gain": "venus:filtered_info_gain"},
        ("unknown_policy(gold_logprob, known)",),
        missing="a judge of answers",
        notebook="notebooks/methods/dr_venus.py"),
    _row(10, "PBSD", "evidence + recipe", "runs", Card(
        "PBSD: Privileged Bayesian Self-Distillation for Long-Horizon Credit Assignment", 2026, "2606.09348",
        "how much likelier a turn is once the answer is known reweights the outcome, never flips it",
        "abstract; no code, full text not read", "the map from evidence to weight, its clip, all constants"),
        "pbsd", {"PBSD/reweight": "weighed:reweight"},
        ("independent_of_other_tasks", "unknown_policy(outcome, unknown)"),
        notebook="notebooks/methods/pbsd.py"),
    _row(11, "ARTIST", "evidence + recipe", "runs", Card(
        "Agentic Reasoning and Tool Integration for LLMs via Reinforcement Learning", 2025, "2505.01441",
        "answer, format and tool success in one reward; tool output stays out of the loss",
        "abstract and reading notes; no code", "sizes of the format terms, reward without calls, spread convention"),
        "artist artist_calls", {"ARTIST/math": "rules:math", "ARTIST/function_calling": "rules:function_calling"},
        ("independent_of_other_tasks", "artist: unknown_policy(outcome, unknown)",
            "artist_calls: unknown_policy(call_match, unknown)", "zero_mean(task)"),
        notebook="notebooks/methods/artist.py"),
    _row(12, "AEM", "evidence + recipe", "runs", Card(
        "AEM: Adaptive Entropy Modulation for Multi-Turn Agentic Reinforcement Learning", 2026, "2605.00425",
        "responses the policy was sure of get more of the advantage, unsure ones less",
        "two independent reading notes that agree; no code", "formulas written anew from those notes"),
        "aem", {"AEM/from_tokens": "weighed:from_tokens", "AEM/from_means": "weighed:from_means"},
        ("independent_of_other_tasks", "unknown_policy(outcome, unknown)"),
        notebook="notebooks/methods/aem.py"),
    _row(13, "MAPO (MICA)", "evidence + recipe + environment", "runs", Card(
        "MAPO: Mixed Advantage Policy Optimization for Long-Horizon Multi-Turn Dialogue", 2026, "2603.06194",
        "a judge measures the user's distance from being helped; its drop is compared at the turn and in the group",
        "reading notes, a re-implementation by others", "spread convention, lone turns, discount"),
        "mapo", {"MAPO/from_distances": "judged:from_distances", "MAPO/from_rewards": "judged:from_rewards"},
        ("independent_of_other_tasks", "unknown_policy(state_distance, unknown)"),
        missing="a model that judges the user's state: here a scripted user's state is known",
        notebook="notebooks/methods/mapo.py"),
    _row(14, "DTRec", "evidence + search", "planned", Card(
        "DTRec", 2025, "2512.14036",
        "early steps aim at coarse targets, later ones at fine ones; three signs say when to stop",
        "abstract; no code", "all formulas")),
    _row(15, "SEG-ATP", "transform + search", "planned", Card(
        "Rethinking Supervision Granularity: Segment-Level Learning for LLM-Based Theorem Proving", 2026, "2605.11905",
        "cut a proof where the number of open goals changes and learn whole stretches",
        "method summary by others; code not read", "exact cut rule, when inference runs on")),
    _row(16, "Guiding Through Complexity", "transform + probe", "planned", Card(
        "Guiding Through Complexity: What Makes Good Supervision for Hard (Math) Reasoning Tasks?", 2024, "2410.20533",
        "wrong answers and wrong steps are two error rates; turn each knob by itself",
        CODE, "exact definition of both knobs")),
    _row(17, "HCNQA", "tutorial", "planned", Card(
        "HCNQA: hierarchical concentration narrowing for 3D question answering", 2025, "2507.01800",
        "checkpoints that narrow a nested set of objects down to the one asked for",
        CODE, "a stand-in with lists of objects instead of point clouds")),
    _row(18, "MultiTurnInstruct", "probe", "planned", Card(
        "Can Language Models Follow Multiple Turns of Entangled Instructions?", 2025, "2503.13222",
        "what a turn is checked for depends on a set of earlier turns, which may add, change or revoke",
        CODE, "blaming the turns whose constraint was broken is ours")),
    _row(19, "TurnGate", "evidence + probe", "planned", Card(
        "One Turn Too Late", 2026, "2605.05630",
        "find the earliest turn at which an answer would complete a harmful whole; too early and too late both cost",
        CODE + "; data not seen")),
    _row(20, "ProcVLM", "evidence + probe", "planned", Card(
        "ProcVLM: procedure-grounded progress rewards", 2026, "2605.08774",
        "each subtask has a budget of progress, spent where the scene changes; metrics for any progress signal",
        CODE)),
    _row(21, "UFO", "environment + evidence + recipe", "runs", Card(
        "A Simple \"Try Again\" Can Elicit Multi-Turn LLM Reasoning", 2025, "2507.14295",
        "the only feedback is 'try again'; later success pays less, repeated answers are charged",
        CODE_RUN, code="lichengliu03/unary-feedback@b9eb4bd ragen/env/metamathqa/env.py"),
        "ufo ufo_released", {"UFO/reward": "rules:reward"},
        ("unknown_policy(try_correct, unknown)",),
        notebook="notebooks/methods/ufo.py"),
    _row(22, "SLEA-RL", "evidence + recipe", "planned", Card(
        "SLEA-RL: Step-Level Experience Augmented Reinforcement Learning for Multi-Turn Agentic Training", 2026, "2603.18079",
        "similar observations share a cluster: lessons are fetched for it and returns compared in it",
        "full paper; no code", "spread convention and lone steps; the paper contradicts itself on dividing by the spread")),
    _row(23, "User-turn generation", "probe", "planned", Card(
        "User-turn generation as a probe of interaction awareness", 2026, "2604.02315",
        "let the model write the user's next turn and see whether it reacts to the answer",
        "abstract and notes by others; no code", "judge prompt, definition of the classes, our cheap proxy")),
    _row(24, "Perceval", "evidence + recipe + search", "planned", Card(
        "Improving Vision-language Models with Perception-centric Process Reward Models", 2026, None,
        "a verifier quotes what contradicts the scene; those words lose advantage, or are cut and written anew",
        CODE, "the scene is a list of facts here")),
    _row(25, "DRM", "evidence + recipe", "planned", Card(
        "From <Answer> to <Think>: Multidimensional Supervision of Reasoning Process for LLM Optimization", 2025, "2510.11457",
        "confidence, relevance and coherence of the reasoning, each without a gold answer",
        "review by others; the official repository is a stub", "weights, relevance models, how scores are pooled")),
    _row(26, "Point2RBox", "tutorial", "planned", Card(
        "Point2RBox", 2023, "2311.14758",
        "weak labels plus the demand that a transformed input gives the transformed answer",
        CODE, "a stand-in with synthetic shapes; the check of signals under renaming is ours")),
    _row(27, "DAgger for LLM agents", "schedule + transform", "planned", Card(
        "Revisiting DAgger in the Era of LLM-Agents", 2026, "2605.12913",
        "teacher and student take turns acting, the teacher labels every state that was visited",
        "reading notes; no code", "how the loss is averaged and rounds are pooled")),
    _row(28, "BR-RM", "evidence", "planned", Card(
        "Think Twice: branch-and-rethink reward model", 2025, "2510.23596",
        "a judge first says what to look at, then decides by that alone; both turns can be read and trained",
        CODE)),
    _row(29, "VL-PRM", "evidence + search + probe", "planned", Card(
        "VL-PRM: vision-language process reward models for test-time scaling", 2025, "2509.23250",
        "step labels from continuations and from a judge, and four ways of spending them when answering",
        CODE, "how the two labels are merged; text instead of pictures")),
    _row(30, "RLTF", "recipe + objective", "planned", Card(
        "Expanding the Capabilities of Reinforcement Learning via Text Feedback", 2026, "2602.02482",
        "the revised answer is learnt under the first prompt (SD), or the critique itself is (FM)",
        CODE_RUN + " for the base advantage; the release does not pass the paper's baseline on", "the SD row of the paper's reading")),
    _row(31, "TCOD", "schedule + objective", "planned", Card(
        "TCOD: Exploring Temporal Curriculum in On-Policy Distillation for Multi-turn Autonomous Agents", 2026, "2604.24005",
        "distil the first turns first, or the last ones, and let the window grow",
        CODE_RUN + "; paper and code name different divergences")),
    _row(32, "3DiMo", "tutorial", "planned", Card(
        "3D-Aware Implicit Motion Control for View-Adaptive Human Video Generation", 2026, None,
        "an auxiliary supervision that helps early and is annealed to nothing",
        "abstract only", "everything but the idea; shown as a schedule on a text world")),
    _row(33, "OVM", "evidence + search", "planned", Card(
        "Outcome-supervised Verifiers for Planning in Mathematical Reasoning", 2023, "2311.09724",
        "label every prefix with the final outcome: the value learnt is the chance of ending right; beam search by it",
        CODE + ", with its released result files")),
    _row(34, "RL2F", "environment + recipe", "planned", Card(
        "Improving Interactive In-Context Learning from Natural Language Feedback", 2026, "2602.16066",
        "teacher and student are one model, the teacher knows the answer and may only hint; earlier success pays more",
        "reading notes; no code", "spread convention")),
    _row(35, "OpenClaw-RL", "evidence + objective", "planned", Card(
        "OpenClaw-RL: Train Any Agent Simply by Talking", 2026, "2603.10165",
        "what follows an action judges it by votes, and a hint read from it teaches token by token",
        CODE_RUN)),
    _row(36, "Mini-o3", "schedule + recipe", "runs", Card(
        "Mini-o3: Scaling Up Reasoning Patterns and Interaction Turns for Visual Search", 2025, "2509.07969",
        "rollouts cut by the turn limit count in the statistics and not in the loss",
        CODE_RUN + "; paper and code divide differently", code="Mini-o3/Mini-o3@8654dbf verl/trainer/ppo/core_algos.py"),
        "mini_o3 mini_o3_released", {
            "Mini-o3/masked_loss": "mini_o3:masked_loss", "Mini-o3/paper_loss": "mini_o3:paper_loss", "Mini-o3/advantage": "mini_o3:advantage"},
        ("independent_of_other_tasks", "unknown_policy(outcome, unknown)"),
        missing="rejecting tasks whose finished rollouts have equal rewards",
        notebook="notebooks/methods/mini_o3.py"),
    _row(37, "AlphaMath", "search + evidence", "planned", Card(
        "AlphaMath Almost Zero: process supervision without process", 2024, "2405.03553",
        "tree search on questions with known answers gives every step a value, without step labels",
        CODE + "; its training is only described")),
    _row(38, "CollabVR", "search", "planned", Card(
        "CollabVR: Collaborative Video Reasoning", 2026, None,
        "plan one action, verify, and on a fault redo only the bad part with the diagnosis in hand",
        CODE, "a text world instead of video")),
    _row(39, "Uni-OPD", "evidence + objective", "planned", Card(
        "Uni-OPD: Unifying On-Policy Distillation with a Dual-Perspective Recipe", 2026, "2605.03677",
        "shift the teacher's token signal until right rollouts score above wrong ones by a margin",
        CODE_RUN)),
    _row(40, "BRTS", "evidence + objective", "planned", Card(
        "On-Policy Distillation with Best-of-N Teacher Rollout Selection", 2026, "2605.09725",
        "of several teacher rollouts take a right one that lies nearest to what the student would write",
        CODE_RUN + "; its weights differ from the paper's")),
    _row(41, "Supervised CoT", "transform + probe", "planned", Card(
        "Supervised Chain of Thought", 2024, "2410.14198",
        "supervise which state a step writes down; the wrong scratchpad cannot be computed from",
        "abstract; no code", "tasks and templates")),
    _row(42, "PTR", "transform", "planned", Card(
        "Progressive Thought Refinement", 2024, "2410.13413",
        "drafts stand in the context without loss; only the better final answer is learnt",
        CODE, "the loss weights the paper mentions were not released")),
    _row(43, "A²TGPO", "recipe + objective", "runs", Card(
        "A²TGPO: Agentic Turn-Group Policy Optimization with Adaptive Turn-level Clipping", 2026, "2605.06200",
        "information gain compared at equal turn, sums rescaled by the root of their length, clip range by turn",
        CODE_RUN + "; it differs from the paper in five places", code="CuSO4-Chen/A-TGPO ATGPO/verl_atgpo/verl/trainer/ppo/core_algos.py"),
        "a2tgpo a2tgpo_released", {
            "A2TGPO/turn_advantages": "a2tgpo:turn_advantages", "A2TGPO/turn_clip_loss": "a2tgpo:turn_clip_loss",
            "A2TGPO/token_advantages": "a2tgpo:token_advantages", "A2TGPO/released_info_gain": "a2tgpo:released_info_gain"},
        ("independent_of_other_tasks", "translation_invariant(outcome)", "scale_invariant(outcome)",
            "unknown_policy(outcome, unknown)", "unknown_policy(gold_logprob, known)"),
        notebook="notebooks/methods/a2tgpo.py"),
    _row(44, "SCOPE", "evidence + transform", "planned", Card(
        "Recycling Failures: Salvaging Exploration in RLVR via Fine-Grained Off-Policy Guidance", 2026, "2602.24110",
        "keep a wrong rollout up to its first wrong step and let a stronger model go on from there",
        "abstract and notes by others; no code", "threshold, the teacher's part, weight of foreign tokens")),
    _row(45, "MINT", "probe", "planned", Card(
        "MINT: evaluating LLMs in multi-turn interaction with tools and language feedback", 2023, "2309.10691",
        "success as a function of the turns allowed, with and without feedback",
        CODE)),
    _row(46, "GRPO-VPS", "transform + recipe", "runs", Card(
        "GRPO-VPS: Enhancing Group Relative Policy Optimization with Verifiable Process Supervision for Effective Reasoning", 2026, "2604.20659",
        "cut at high-entropy tokens; each piece also earns the change of the gold answer's probability",
        "abstract and notes; no code, formulas not read", "normalisation, weight and probe details"),
        "grpo_vps", {"GRPO-VPS/segments": "vps:segments", "GRPO-VPS/segment_advantage": "vps:segment_advantage"},
        ("independent_of_other_tasks", "unknown_policy(outcome, unknown)", "unknown_policy(segment_gold_logprob, next)"),
        notebook="notebooks/methods/grpo_vps.py"),
    _row(47, "StepORLM", "evidence + objective", "planned", Card(
        "StepORLM", 2025, "2509.22558",
        "a judge that has read the whole solution scores its steps; preferences are weighted by both",
        "project page and notes by others; code not read", "weight of a pair, what the judge is trained on")),
    _row(48, "ArCHer", "evidence + recipe", "planned", Card(
        "ArCHer: Training Language Model Agents via Hierarchical Multi-Turn RL", 2024, "2402.19446",
        "an off-policy critic of whole utterances above a policy of tokens",
        CODE_RUN)),
    _row(49, "SPARE", "evidence + probe", "planned", Card(
        "SPARE: single-pass annotation with reference-guided evaluation", 2025, "2506.15498",
        "one judge call aligns each step with the reference solution and labels it",
        CODE)),
    _row(50, "3LF", "tutorial", "planned", Card(
        "Casual as an Anchor", 2026, "2605.29365",
        "'better than' is not 'good': a middle level turns relative labels into graded ones",
        "abstract; no code", "a stand-in with sentences of known formality")),
    _row(51, "CSO", "search + transform", "planned", Card(
        "Verified Critical Step Optimization for LLM Agents", 2026, "2602.03412",
        "replace one action of a failed run and play on; where the end turns good, that one step is a preference pair",
        CODE)),
    _row(52, "ToolComp", "probe", "planned", Card(
        "ToolComp: A Multi-Tool Reasoning & Process Supervision Benchmark", 2025, "2501.01290",
        "is a judge of steps or a judge of outcomes the better picker, asked in both orders",
        "authors' code read", "how step scores are pooled is a parameter")),
    _row(53, "MinD", "transform + evidence", "planned", Card(
        "Multi-Turn Decomposition", 2025, "2505.19788",
        "a long monologue becomes turns of one thought and one answer each",
        "abstract and reviews; no code", "sizes of all reward terms")),
    _row(54, "SPAE", "evidence + recipe", "runs", Card(
        "SPAE: Step Potential Advantage Estimation", 2026, "2601.03823",
        "a potential from the accuracy and confidence of short probes; steps after it is full count less",
        "official probe script; the training code is not public", "how penalty and potential difference enter the advantage", code="cii030/SPAE-RL inference/probe_mechanism_example.py"),
        "spae", {"SPAE/potential": "spae:potential", "SPAE/probe": "spae:probe", "SPAE/advantage": "spae:advantage"},
        ("unknown_policy(outcome, unknown)", "unknown_policy(step_accuracy, unknown)"),
        notebook="notebooks/methods/spae.py"),
    _row(55, "daVinci-Agency", "transform", "planned", Card(
        "daVinci-Agency", 2026, "2602.02619",
        "dependent tasks in one long run, with a check at each stage and of what came before",
        "abstract and notes by others; code not read", "when a run is kept; not software engineering here")),
    _row(56, "LILAC", "tutorial", "planned", Card(
        "\"No, to the Right\": online language corrections", 2023, None,
        "a correction in words re-parameterises the rest of the motion",
        CODE, "a stand-in with a point arm in the plane; credit by distance is ours")),
    _row(57, "JAL-Turn", "tutorial", "planned", Card(
        "JAL-Turn", 2026, "2603.26515",
        "label a pause by who speaks next, and only where several windows into the future agree",
        "a detailed digest by others; no code", "a stand-in with synthetic activity, no audio")),
    _row(58, "Multi-turn survey", "taxonomy", "planned", Card(
        "Beyond Single-Turn: A Survey on Multi-Turn Interactions with LLMs", 2025, None,
        "the words by which the notebooks are ordered",
        "the authors' paper list")),
    _row(59, "VisualTrans", "tutorial", "planned", Card(
        "VisualTrans", 2025, "2508.04043",
        "from first and last state, ask for a state in between, an order, a count",
        CODE, "a stand-in with blocks described in text")),
    _row(60, "MIND", "objective", "planned", Card(
        "MIND: From Passive Mimicry to Active Reasoning", 2026, "2601.03717",
        "weigh the rationales by how learnable each is for the student now",
        "a page of the authors' group; no code", "formulas second-hand; the scoring network may be a running mean")),
    _row(61, "ST-PPO", "objective", "planned", Card(
        "ST-PPO: Stabilized Off-Policy Proximal Policy Optimization for Multi-Turn Agents Training", 2025, "2511.20718",
        "one importance ratio a turn, and a gradient divided by the norm of its clipped part",
        "reading notes and a review that quotes its equations; code not read", "what happens where nothing is clipped")),
    _row(62, "RISE", "transform + objective", "planned", Card(
        "Recursive Introspection: Teaching Language Model Agents How to Self-Improve", 2024, "2407.18219",
        "imitate improved answers of later turns, weighted by the exponential of their reward",
        CODE_RUN, "the loss, as arithmetic on its weights")),
    _row(63, "SN15", "transform + evidence", "planned", Card(
        "Bittensor Agent Arenas as a Trajectory Primitive", 2026, "2606.10064",
        "keep runs in which the model itself acted, with reasons; reward calls by their likeness to a teacher's",
        "code of the subnet and of ShoppingBench read; the paper's own code not", "that its step reward is ShoppingBench's")),
)
# fmt: on
