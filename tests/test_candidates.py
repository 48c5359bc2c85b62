"""Candidates in a state: who is played on, whose tokens are whose, and VPR's second variant on them."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
import torch

from workbench import recipes
from workbench.envs.tictactoe import TicTacToe
from workbench.policy import Policy, ScriptedEngine, tiny_tokenizer
from workbench.policy.renderers import PlainText
from workbench.rollouts import full_ids
from workbench.search import branch, line, play_candidates


def player(env, wild=0.0) -> Policy:
    """Says a cell by the seed alone, or now and then what is no call."""
    renderer = PlainText(tiny_tokenizer.load(), tools=env.tools)

    def say(prompt, seed):
        rng = random.Random(seed)
        text = "Dance: now" if rng.random() < wild else f"Play: {rng.randint(1, 9)}"
        return renderer.encode(text + "\n")

    return Policy("seeded", ScriptedEngine(say), renderer)


@pytest.fixture(scope="module")
def grown():
    env = TicTacToe()
    return play_candidates(player(env, 0.1), env, env.tasks("train", 3), count=4, size=2, seed=1)


def states(rollouts):
    found = defaultdict(list)
    for t in rollouts:
        found[t.group, t.turns[0].state_key, t.parent or t.id.rpartition("/")[0]].append(t)
    return found


def test_every_state_has_its_candidates_and_the_best_is_played_on(grown):
    roots = [t for t in grown if t.parent is None]
    assert len(roots) == 3 * 2 * 4 and len({t.id for t in grown}) == len(grown) > 40
    parents = {t.parent[0] for t in grown if t.parent}
    for number in range(0, len(grown), 4):
        four = grown.trajectories[number : number + 4]
        assert len({(t.parent, t.turns[0].state_key) for t in four}) == 1 and all(len(t.turns) == 1 for t in four)
        values = [t.turns[0].rewards["oracle_value"] for t in four]
        played = [t for t in four if t.id in parents]
        assert len(played) <= 1
        first = four[values.index(max(values))]
        assert played == ([first] if first.stop_reason == "candidate: played" else [])
        for t in four:
            assert (t.outcome is None) == t.stop_reason.startswith("candidate")
    ends = [t for t in grown if t.outcome is not None]
    assert any(len(line(grown, t.id)) > 2 for t in ends)


def test_a_later_candidate_owns_its_own_tokens_only_and_reads_the_whole_story(grown):
    late = next(t for t in grown if t.parent and grown[t.parent[0]].parent)
    whole = late.path(grown.by_id)
    assert len(whole.turns) == 3 and len(late.turns) == 1
    ids = full_ids(grown, late, 0)
    above = grown[late.parent[0]]
    assert ids[: len(full_ids(grown, above, 0))] == full_ids(grown, above, 0)
    renderer = PlainText(tiny_tokenizer.load(), tools=TicTacToe().tools)
    said = [*whole.prompt, *(message for turn in whole.turns for message in turn.messages)]
    assert "".join(renderer.pieces(ids)) == "".join(renderer.line_of(message) for message in said)
    batch = grown.batch()
    assert int(batch["state"].known.sum()) == len(grown) == len(batch.turn_trajectory)
    assert batch.turn_index.tolist() == [len(t.path(grown.by_id).turns) - 1 for t in grown]


def test_the_same_seed_draws_the_same_and_a_branch_goes_on_from_a_candidate(grown):
    env = TicTacToe()
    again = play_candidates(player(env, 0.1), env, env.tasks("train", 3), count=4, size=2, seed=1)
    assert again == grown
    late = next(t for t in grown if t.parent and not t.outcome)
    more = branch(grown, player(env), env, late, 0, 2, max_turns=7)
    assert [t.turns[0].state_key for t in more.trajectories[-2:]] == [late.turns[0].state_key] * 2


@pytest.mark.parametrize("whiten", ["mean_then_batch_whiten", "group_whiten"])
def test_credit_of_candidates_compares_those_of_a_state(grown, whiten):
    credit = recipes.vpr_states(oracle="oracle_value", whiten=whiten, kl=0.0).credit(grown.batch(), to="turn")
    rows = {t.id: (float(v), bool(k)) for t, v, k in zip(grown, credit.values, credit.known, strict=True)}
    compared = 0
    by_state = defaultdict(list)
    for t in grown:
        by_state[t.group, t.turns[0].state_key].append(t)
    for alike in by_state.values():
        rewards = [t.turns[0].rewards["oracle_value"] for t in alike]
        got = [rows[t.id] for t in alike]
        if len(set(rewards)) == 1:
            assert not any(known for _, known in got)
            continue
        compared += 1
        assert all(known for _, known in got)
        order = sorted(range(len(alike)), key=lambda n: rewards[n])
        assert [got[n][0] for n in order] == sorted(v for v, _ in got)
        if whiten == "group_whiten":
            r = torch.tensor(rewards, dtype=torch.float64)
            expected = (r - r.mean()) / (r.std(unbiased=False) + 1e-8)
            torch.testing.assert_close(torch.tensor([v for v, _ in got], dtype=torch.float64), expected)
    assert compared > 5


def test_ties_at_random_are_decided_by_the_seed():
    env = TicTacToe(opening=0)

    def played(**knobs):
        grown = play_candidates(player(env), env, env.tasks("train", 6), count=6, **knobs)
        return [t.id for t in grown if t.stop_reason == "candidate: played"]

    assert played(ties="random") == played(ties="random") != played(ties="first")


def test_a_world_without_the_number_and_bad_counts_are_errors():
    env = TicTacToe()
    tasks = env.tasks("train", 1)
    with pytest.raises(ValueError, match="'oracle_worth'.*records.*oracle_value"):
        play_candidates(player(env), env, tasks, oracle="oracle_worth")
    for knobs in ({"count": 1}, {"size": 0}, {"ties": "last"}):
        with pytest.raises(ValueError, match=r"expected"):
            play_candidates(player(env), env, tasks, **knobs)
    with pytest.raises(ValueError, match="differ"):
        play_candidates(player(env), env, [*tasks, *tasks])
