"""Guards of returns and credit, and what the code looks like without them; see `mutations`."""

from __future__ import annotations

from mutations import of

RETURNS = [
    *of(
        "test_returns.py::test_return_scan_is_not_reset_by_observations",
        (
            "a return ends with its turn",
            "credit/accumulate.py",
            '    owner = batch.up(credit.level, "trajectory")\n    y = _scan(',
            '    owner = batch.up(credit.level, "turn")\n    y = _scan(',
        ),
        (
            "an advantage ends with its turn",
            "credit/accumulate.py",
            "    owner = batch.up(credit.level, within)[use]\n",
            '    owner = batch.up(credit.level, "turn")[use]\n',
        ),
        (
            "gaps of position are steps of time",
            "credit/accumulate.py",
            "return torch.as_tensor(number(gamma, batch, level), dtype=torch.float64).expand(n)",
            "g = torch.as_tensor(number(gamma, batch, level), dtype=torch.float64).expand(n)\n"
            "    gap = torch.diff(batch.token_position, append=torch.tensor([0])).clamp_min(1)\n"
            '    return g ** gap if level == "token" else g',
        ),
    ),
    *of(
        "test_returns.py::test_return_steps_over_what_is_unknown",
        (
            "an unknown turn discounts once more",
            "credit/accumulate.py",
            '    if gap == "zero":\n',
            "    if True:\n",
        ),
        (
            "an unknown reward is a reward of 0 to an advantage",
            "credit/accumulate.py",
            "use = torch.nonzero(credit.known & v.known).flatten()",
            "use = torch.nonzero(v.known).flatten()",
        ),
    ),
    *of(
        "test_returns.py::test_reward_on_a_masked_last_token",
        (
            "the outcome goes to the last turn, trained or not",
            "credit/levels.py",
            "    ends = _last_trained(batch, to, credit.level)\n",
            "    ends = batch.last(to, credit.level)\n",
        ),
        (
            "an episode whose last turn is masked gets nothing",
            "credit/levels.py",
            "    return torch.where(found >= 0, found, ends)\n",
            "    return torch.where(found == ends, found, -1)\n",
        ),
    ),
    *of(
        "test_returns.py::test_turn_boundary_is_not_where_a_reward_is",
        (
            "a reward of 0 is no reward",
            "rollouts.py",
            "return torch.tensor([v is not None for v in values], dtype=torch.bool), Provenance",
            "return torch.tensor([bool(v) for v in values], dtype=torch.bool), Provenance",
        ),
        (
            "turns without a reward are no turns",
            "rollouts.py",
            "    turns = [(n, k) for n, t in enumerate(ts) for k in range(len(t.turns))]\n",
            "    turns = [(n, k) for n, t in enumerate(ts) for k, turn in enumerate(t.turns) if turn.reward]\n",
        ),
    ),
    *of(
        "test_returns.py::test_gamma_is_per_turn",
        (
            "a turn discounts as often as it has tokens",
            "credit/accumulate.py",
            "return torch.as_tensor(number(gamma, batch, level), dtype=torch.float64).expand(n)",
            "g = torch.as_tensor(number(gamma, batch, level), dtype=torch.float64).expand(n)\n"
            '    return g ** torch.bincount(batch.token_turn, minlength=n) if level == "turn" else g',
        ),
    ),
    *of(
        "test_returns.py::test_baseline_per_turn_index_is_biased_by_stopping",
        (
            "turns are centred before they are summed (state groups)",
            "recipes/turns.py",
            '    turn = chain(_step_return(gamma, reward), _normed(same_state, norm, "zero"))\n'
            '    credit = chain(mix(episode, turn, weights=(1.0, turn_weight)), spread("token"))\n'
            '    return Recipe("gigpo", ',
            '    turn = chain(read(reward, "turn"), _normed(same_state, norm, "zero"), reward_to_go(gamma))\n'
            '    credit = chain(mix(episode, turn, weights=(1.0, turn_weight)), spread("token"))\n'
            '    return Recipe("gigpo", ',
        ),
        (
            "turns are centred before they are summed (turn groups)",
            "recipes/turns.py",
            'turn = chain(read(reward, "turn"), reward_to_go(gamma), zscore(task_and_turn, **z))',
            'turn = chain(read(reward, "turn"), zscore(task_and_turn, **z), reward_to_go(gamma))',
        ),
    ),
    *of(
        "test_returns.py::test_long_episodes_count_once_in_the_statistics_of_a_group",
        (
            "every turn is a row of the group",
            "recipes/outcome.py",
            'return chain(read("outcome"), zscore(task, ddof=ddof, eps=eps, singleton=singleton))',
            'return chain(read("outcome"), spread("turn"), zscore(task, ddof=ddof, eps=eps, singleton=singleton))',
        ),
        (
            "the same of state groups",
            "recipes/turns.py",
            'episode = chain(read("outcome"), _normed(task, norm, "keep"), spread("turn"))',
            'episode = chain(read("outcome"), spread("turn"), _normed(task, norm, "keep"))',
        ),
        (
            "an episode weighs by its length in the loss",
            "losses.py",
            'inside = count[key.clamp_min(0)].clamp_min(1) if self.name == "trajectory_mean" else 1',
            "inside = 1",
        ),
    ),
    *of(
        "test_returns.py::test_broadcast_of_a_masked_vector",
        (
            "the mask of the last turn is that of all",
            "recipes/base.py",
            "    return ONLY_TRAINABLE(credit, batch)\n",
            '    last = batch.last("turn", "trajectory")\n'
            '    of = batch.up(credit.level, "trajectory")\n'
            "    return Credit(credit.values, credit.level, credit.known & flag.values[last][of])\n",
        ),
        (
            "turns get the number of the episode beside theirs",
            "batch/maps.py",
            'return repeat(self.down(values, high, "turn"), self._tokens_per_turn)',
            'return repeat(self.down(values, high, "turn").roll(1), self._tokens_per_turn)',
        ),
    ),
    *of(
        "test_returns.py::test_group_key_is_the_task",
        (
            "episodes that ask the same words are one group",
            "rollout/episode.py",
            "        group=task.id,\n",
            "        group=task.question,\n",
        ),
        (
            "a task may be played under one id twice",
            "rollout/rounds.py",
            "    if twice is not None:\n",
            "    if False:\n",
        ),
        (
            "everything is one group",
            "credit/peers.py",
            '    return batch.up(level, "group")\n',
            '    return batch.up(level, "batch")\n',
        ),
        (
            "a lone member is credited unasked",
            "recipes/outcome.py",
            'credit = chain(_group_z(ddof, eps, "zero"), spread("token"))',
            'credit = chain(_group_z(ddof, eps, "keep"), spread("token"))',
        ),
        (
            "a group of one is not told from one that all solved",
            "compare.py",
            'out.append("unknown" if n == 0 else "single survivor" if n == 1 else equal)',
            'out.append("unknown" if n == 0 else equal)',
        ),
    ),
    *of(
        "test_returns.py::test_groups_without_spread",
        (
            "the mean of equal values is rounded",
            "segments.py",
            "    top = seg_max(x.detach(), key, size)\n    shifted",
            "    top = torch.zeros(size, dtype=x.dtype)\n    shifted",
        ),
        (
            "leaving one out rounds",
            "credit/normalise.py",
            "    return credit.values - _gather(seg_max(credit.values, key, size, credit.known), key, 0.0)\n",
            "    return credit.values\n",
        ),
        (
            "no tolerance: rounding becomes a spread",
            "credit/normalise.py",
            "    return torch.where(root <= least, torch.ones_like(root), root + eps)\n",
            "    return torch.where(root <= 0, torch.ones_like(root), root)\n",
        ),
        (
            "credit 0 leaves the KL, too",
            "objective.py",
            '        if self.over == "credited":\n            return credit.known\n',
            '        if self.over == "credited":\n            return credit.known & (credit.values != 0)\n',
        ),
        (
            "the spread of the population",
            "recipes/outcome.py",
            "kl: float = 0.04, ddof: int = 1, eps: float = 1e-6) -> Recipe:",
            "kl: float = 0.04, ddof: int = 0, eps: float = 1e-6) -> Recipe:",
        ),
    ),
    *of(
        "test_returns.py::test_variance_of_shaping_only",
        (
            "the filter looks behind the penalty",
            "recipes/outcome.py",
            'credit = chain(*signal, *penalty, zscore(task, eps=eps), spread("token"))',
            'credit = chain(signal[0], *penalty, signal[1], zscore(task, eps=eps), spread("token"))',
        ),
        (
            "credit from shaping alone is not said",
            "outcomes.py",
            'if lit and c not in ("varied", "unknown")])',
            'if lit and c not in ("varied", "unknown", "all failed")])',
        ),
    ),
    *of(
        "test_returns.py::test_rewards_that_are_not_finite",
        (
            "a record takes them",
            "trajectory/records.py",
            "if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):",
            "if isinstance(value, bool) or not isinstance(value, (int, float)):",
        ),
        (
            "a column takes them",
            "batch/columns.py",
            "        if bool(bad.any()):\n",
            "        if False:\n",
        ),
        (
            "a column is refused for what it says is unknown",
            "batch/columns.py",
            "bad = ~torch.isfinite(v).reshape(count, v[:1].numel() if count else 0).all(1) & k",
            "bad = ~torch.isfinite(v).reshape(count, v[:1].numel() if count else 0).all(1)",
        ),
        (
            "one bad episode ends them all",
            "rollout/episode.py",
            "        _check_sound(episode, whole, reply)\n",
            "",
        ),
    ),
    *of(
        "test_returns.py::test_rewards_that_are_missing",
        (
            "a missing outcome is a failure",
            "rollouts.py",
            "return torch.tensor([v is not None for v in values], dtype=torch.bool), Provenance",
            "return torch.tensor([True for v in values], dtype=torch.bool), Provenance",
        ),
        (
            "missing outcomes are in the count of a group",
            "credit/normalise.py",
            "_gather(seg_count(key, size, credit.known), key, 1) <= 1)",
            "_gather(seg_count(key, size), key, 1) <= 0)",
        ),
        (
            "the cause counts members, not known outcomes",
            "compare.py",
            "        seg_count(group, size, column.known),\n",
            "        seg_count(group, size),\n",
        ),
    ),
    *of(
        "test_returns.py::test_unknown_is_not_zero",
        (
            "0 is no reward",
            "rollouts.py",
            "return torch.tensor([v is not None for v in values], dtype=torch.bool), Provenance",
            "return torch.tensor([bool(v) for v in values], dtype=torch.bool), Provenance",
        ),
        (
            "unknown counts in the loss as 0",
            "objective.py",
            '        if self.over == "credited":\n            return credit.known\n',
            '        if self.over == "credited":\n            return torch.ones_like(credit.known)\n',
        ),
        (
            "credit 0 does not count in the loss",
            "objective.py",
            '        if self.over == "credited":\n            return credit.known\n',
            '        if self.over == "credited":\n            return credit.known & (credit.values != 0)\n',
        ),
        (
            "unknown is written as 0",
            "credit/core.py",
            "return [v if k else None for v, k in zip(self.values.tolist(), self.known.tolist(), strict=True)]",
            "return self.values.tolist()",
        ),
        (
            "evidence that says nothing says 0",
            "evidence/base.py",
            "return cls(values, torch.tensor(known, dtype=torch.bool))",
            "return cls(values, torch.ones(len(known), dtype=torch.bool))",
        ),
    ),
]
