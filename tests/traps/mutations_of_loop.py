"""Guards of the loss and the loop, and what the code looks like without them; see `mutations`."""

from __future__ import annotations

from mutations import of

KEPT = """        if not provider.state() and (kept := cache.get(name)) is not None:
            return kept
        meter, start = Meter(), time.perf_counter()
        columns = await provider.compute(group, meter)
        record = Record(dict(columns), meter.calls, meter.tokens, time.perf_counter() - start)
        _check(provider, group, record)
        if not provider.state():"""
"""Either guard alone keeps a memory that is never empty: both are taken away."""

LOSS = [
    *of(
        "test_loss.py::test_aggregations_on_one_batch",
        (
            "turns are averaged over episodes",
            "losses.py",
            'level = self.unit if self.name == "unit_sum" else "trajectory"',
            'level = "trajectory"',
        ),
        (
            "a constant divisor is the number of tokens",
            "losses.py",
            "            return m / self.size\n",
            "            return m / m.sum()\n",
        ),
        (
            "episodes without a counted token are in the mean",
            "losses.py",
            "holders = max(int((count > 0).sum()), 1)",
            "holders = max(n, 1) * (2 if bool((~counted).any()) else 1)",
        ),
    ),
    *of(
        "test_loss.py::test_denominator_of_the_micro_batch",
        (
            "each part is divided by its own tokens",
            "objective.py",
            "term.name: (term.loss(look) * weights[term.name][look.tokens].to(logprob.dtype)).sum()",
            "term.name: (term.loss(look) * weights[term.name][look.tokens].to(logprob.dtype)).sum()"
            " / weights[term.name][look.tokens].sum()",
        ),
        (
            "an episode is cut between two parts",
            "train/parts.py",
            "        groups[-1].append(tokens)\n        rows += height\n",
            "        groups[-1].append(tokens[:-1] if len(groups) > 1 else tokens)\n        rows += height\n",
        ),
    ),
    *of(
        "test_loss.py::test_denominator_of_the_micro_batch_in_imitation",
        (
            "each part is divided by its own tokens",
            "train/sft.py",
            "        (nll.sum() / count).backward()\n",
            "        (nll.sum() / learned(part)).backward()\n",
        ),
    ),
    *of(
        "test_loss.py::test_numerator_and_denominator_have_one_mask",
        (
            "the mean is over all tokens",
            "losses.py",
            "return m / max(float(m.sum()) + self.size, 1e-300)",
            "return m / max(float(len(m)) + self.size, 1e-300)",
        ),
        (
            "the mean of an episode is over all its tokens",
            "losses.py",
            "        count = seg_count(key, n, counted)\n",
            "        count = seg_count(key, n)\n",
        ),
    ),
    *of(
        "test_loss.py::test_sampler_and_learner_have_one_temperature",
        (
            "the learner forgets it",
            "train/parts.py",
            "scores_of(picked, part.targets, temperature, 0, entropy)",
            "scores_of(picked, part.targets, 1.0, 0, entropy)",
        ),
        (
            "the reference forgets it",
            "train/policy_gradient.py",
            'ours = [SampledLogprobs(learner.reference, "logprob_ref", plan.temperature)]',
            'ours = [SampledLogprobs(learner.reference, "logprob_ref")]',
        ),
        (
            "the sampler writes log-probs without it",
            "policy/hf.py",
            "chosen = logp.gather(1, tokens[:, None])[:, 0].tolist()",
            "chosen = logits.float().log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist()",
        ),
    ),
    *of(
        "test_loss.py::test_sampler_that_is_not_the_learner_is_said",
        (
            "nobody compares the two",
            "measure.py",
            "    if gap <= bound.gap and mean <= bound.mean:\n",
            "    if True:\n",
        ),
        (
            "log-probs of the whole distribution, not of the nucleus",
            "policy/hf.py",
            "            logp = log_distribution(logits, settings.temperature, settings.top_p)\n",
            "            logp = log_distribution(logits, settings.temperature)\n",
        ),
    ),
    *of(
        "test_loss.py::test_sequence_ratio_does_not_grow_with_length",
        (
            "the ratio of an episode is the product of its tokens'",
            "losses.py",
            '    mean = seg_mean(gap.detach() if through == "token" else gap, unit, size)\n',
            '    mean = torch.zeros(size).index_add(0, unit, gap.detach() if through == "token" else gap)\n',
        ),
        (
            "the method asks for token ratios",
            "recipes/outcome.py",
            'ratio="sequence"',
            'ratio="token"',
        ),
    ),
    *of(
        "test_loss.py::test_placeholder_log_prob",
        (
            "observed tokens may have log-probs",
            "trajectory/sequences.py",
            '            if self.origin != "sampled":\n',
            "            if False:\n",
        ),
        (
            "an unknown log-prob is 0",
            "rollouts.py",
            "known = [p is not None for p in logprob]",
            "known = [True for p in logprob]",
        ),
        (
            "unknown numbers of counted tokens are taken as 0",
            "objective.py",
            "    if bool(missing.any()):\n",
            "    if False:\n",
        ),
        (
            "the entropy of tokens without credit counts",
            "losses.py",
            "return m / max(float(m.sum()) + self.size, 1e-300)",
            "return torch.ones_like(m) / len(m)",
        ),
        (
            "unknown tokens are in the ratio of an episode",
            "losses.py",
            "return torch.where(look.known, unit, -1)",
            "return unit",
        ),
    ),
    *of(
        "test_loss.py::test_dropout_is_off",
        (
            "the learner looks with dropout",
            "train/plan.py",
            "    model.eval()  # dropout",
            "    model.train()  # dropout",
        ),
        (
            "layers that compute again do so with dropout",
            "train/student.py",
            "        layer.training = True\n",
            "        layer.train()\n",
        ),
        (
            "the sampler samples with dropout",
            "policy/hf.py",
            "    model.eval()\n    try:\n",
            "    model.train()\n    try:\n",
        ),
    ),
    *of(
        "test_loss.py::test_tokens_of_old_weights",
        (
            "weights have no version",
            "policy/hf.py",
            "            self._version += 1\n",
            "",
        ),
        (
            "keys of the old weights are used with the new ones",
            "policy/hf.py",
            "            self.tree.clear()\n            self._version",
            "            self._version",
        ),
        (
            "turns do not say what sampled them",
            "rollout/episode.py",
            "policy_version=(generation.policy_version, generation.policy_version),",
            "policy_version=(0, generation.policy_version),",
        ),
        (
            "the engine is not told of new weights",
            "train/policy_gradient.py",
            "        learner.policy.engine.load(None)  # the weights changed",
            "        pass  # the weights changed",
        ),
    ),
]

LOOP = [
    *of(
        "test_loop.py::test_all_groups_dropped",
        (
            "a step without credit is not said",
            "measure.py",
            'if row["dead_groups"] == 1.0 else None,',
            "if False else None,",
        ),
        (
            "groups that stay dropped are not said",
            "measure.py",
            '    if row["rounds"] <= 1 or not row["groups_dropped"]:\n',
            "    if True:\n",
        ),
        (
            "sampling again has another bound",
            "train/policy_gradient.py",
            "        if not recipe.refill or all(stays) or rounds == plan.refills:\n",
            "        if not recipe.refill or all(stays) or rounds + 1 >= plan.refills:\n",
        ),
        (
            "alarms reach nobody",
            "train/policy_gradient.py",
            "        if kind not in before:  # said once",
            "        if False:  # said once",
        ),
    ),
    *of(
        "test_loop.py::test_dropped_groups_are_replaced_not_kept",
        (
            "dropped groups stay in the batch",
            "train/policy_gradient.py",
            "live = used[stays] if any(stays) else Rollouts(())",
            "live = used",
        ),
        (
            "every refill plays the same tasks",
            "train/rounds.py",
            'seed_for("tasks", plan.seed, step, rounds)',
            'seed_for("tasks", plan.seed, step)',
        ),
    ),
    *of(
        "test_loop.py::test_no_rollout_took_a_turn",
        (
            "it is a step like any other",
            "train/rounds.py",
            "    if not seen and not any(t.has_tokens for t in found):\n",
            "    if False:\n",
        ),
    ),
    *of(
        "test_loop.py::test_everything_is_truncated",
        (
            "it is not said",
            "measure.py",
            "    if not all(t.truncated for t in rollouts) and (cut <= MANY or any(t.outcome for t in rollouts)):\n",
            "    if True:\n",
        ),
        (
            "an episode that ran out of turns is not truncated",
            "rollout/episode.py",
            'episode.outcome, episode.truncated, episode.stop_reason = outcome, True, "max_turns"',
            'episode.outcome, episode.truncated, episode.stop_reason = outcome, False, "max_turns"',
        ),
    ),
    *of(
        "test_loop.py::test_short_episodes_do_not_fill_the_batch",
        (
            "who is slow is left out",
            "rollout/rounds.py",
            "        while waiting or stepping:\n",
            "        while waiting:\n",
        ),
    ),
    *of(
        "test_loop.py::test_signature_swallows_nothing",
        (
            "a recipe takes what it does not know",
            "recipes/turns.py",
            'def matchtir(gamma: float = 0.9, reward: str = "match_turn_reward") -> Recipe:',
            'def matchtir(gamma: float = 0.9, reward: str = "match_turn_reward", **more: float) -> Recipe:',
        ),
        (
            "a stage takes what it does not know",
            "credit/accumulate.py",
            'def gae(gamma: Number, lam: Number, value: str = "value", within: Level = "trajectory") -> Stage:',
            'def gae(gamma: Number, lam: Number, value: str = "value", within: Level = "trajectory", **more) -> Stage:',
        ),
    ),
    *of(
        "test_loop.py::test_misspelt_argument",
        (
            "a recipe by name drops what it does not know",
            "train/command.py",
            "        if not equals or key not in inspect.signature(make).parameters:\n",
            "        if key not in inspect.signature(make).parameters:\n            continue\n        if not equals:\n",
        ),
        (
            "a world drops what it does not know",
            "envs/__init__.py",
            "    if unknown:\n",
            "    params = {k: v for k, v in params.items() if k in knobs}\n    if False:\n",
        ),
        (
            "a column that nothing makes is left out",
            "evidence/table.py",
            "    if hints:\n",
            "    if False:\n",
        ),
    ),
    *of(
        "test_loop.py::test_resume_to_the_bit",
        (
            "generators of the process are carried from step to step",
            "train/worker.py",
            "    torch.manual_seed(seed)\n",
            "",
        ),
        (
            "so is that of Python",
            "train/worker.py",
            "    random.seed(seed)  # ours",
            "    pass  # ours",
        ),
        (
            "the optimiser begins anew",
            "train/checkpoint.py",
            "    learner.optimiser.load_state_dict(optimiser)\n",
            "",
        ),
        (
            "evidence forgets",
            "train/checkpoint.py",
            '        one.load(kept["state"])\n',
            "        pass\n",
        ),
        (
            "a kept result leaves the memory of evidence as it was",
            "evidence/base.py",
            KEPT,
            KEPT.replace("not provider.state() and ", "").replace("if not provider.state():", "if True:"),
        ),
        (
            "versions of the weights begin anew",
            "train/checkpoint.py",
            '    while learner.policy.engine.version < state["version"]:',
            "    while False:",
        ),
        (
            "metrics of the half-made step stay",
            "train/worker.py",
            '    kept = [row for row in rows if row["step"] < step]\n',
            "    kept = rows\n",
        ),
        (
            "weights are not those of the checkpoint",
            "train/checkpoint.py",
            "        tensor.copy_(weights[name])\n",
            "        pass\n",
        ),
    ),
    *of(
        "test_loop.py::test_a_step_is_a_function_of_its_number",
        (
            "every step has the same tasks",
            "train/rounds.py",
            'seed_for("tasks", plan.seed, step, rounds)',
            'seed_for("tasks", plan.seed, rounds)',
        ),
        (
            "every sample of a task is the same",
            "rollout/episode.py",
            "return seed_for(table.seed, table.step, episode.task.id, episode.sample, len(episode.turns))",
            "return seed_for(table.seed, table.step, episode.task.id, len(episode.turns))",
        ),
        (
            "samples come from the generator of the process",
            "policy/hf.py",
            "noise = torch.stack([uniforms(seed, settings.max_new_tokens) for seed in seeds]).to(logits.device)",
            "noise = torch.rand(len(seeds), settings.max_new_tokens, dtype=torch.float64)",
        ),
    ),
]
