"""UFO and ARTIST on numbers by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workbench import recipes
from workbench.batch import Batch
from workbench.evidence.retries import tries
from workbench.recipes.artist import answer_reward, calling_reward
from workbench.recipes.ufo import feedback, retry_reward


def tried(*rollouts: list[str | None], gold: str | None = "7") -> Batch:
    found = [tries(answers, None if gold is None else [gold]) for answers in rollouts]
    batch = Batch.of_maps([i for i, row in enumerate(found) for _ in row], ["g"] * len(found))
    for name in ("valid", "correct", "repeated", "broken"):
        values = [getattr(one, name) for row in found for one in row]
        batch = batch.with_column(f"try_{name}", "turn", [None if v is None else float(v) for v in values])
    return batch


def reward(answers: list[str | None], invalid: float = 0.0, count: str = "answers") -> float:
    return retry_reward(0.5, 0.5, invalid, count)(None, tried(answers)).tolist()[0]  # type: ignore[arg-type,return-value]


def test_the_cards_numbers() -> None:
    assert reward(["7"]) == 1.0
    assert reward(["3", "3 ", "7"]) == pytest.approx(0.25 - 0.5 / 3)
    assert reward(["3"] * 5) == pytest.approx(-0.4)
    assert reward(["3"] * 4 + ["7"]) == pytest.approx(1 / 16 - 0.3)  # worse than five different wrong ones:
    assert reward(["1", "2", "3", "4", "5"]) == 0.0


def test_paper_and_release_differ_where_a_turn_gave_no_answer() -> None:
    assert reward(["3", None, "7"], 0.1, "answers") == pytest.approx(0.5 - 0.1)
    assert reward(["3", None, "7"], 0.1, "turns") == pytest.approx(0.25 - 0.1)


def test_no_answer_at_all_is_charged_and_never_divides_by_zero() -> None:
    assert reward([None, ""], 0.1) == pytest.approx(-0.2)
    assert retry_reward(0.5, 0.5, 0.1, "turns")(None, tried(["3"], gold=None)).tolist() == [None]


def test_a_branch_is_paid_for_its_whole_story() -> None:
    """Two answers, then a branch that says one of them again and finds the right one: as if played in one go."""
    answers = ["3", "5", "3", "7"]
    found = tries(answers, ["7"])
    batch = Batch.of_maps([0, 0, 1, 1], ["g", "g"], turn_index=[0, 1, 2, 3], turn_parent=[-1, 0, 1, 2])
    for name in ("valid", "correct", "repeated", "broken"):
        batch = batch.with_column(f"try_{name}", "turn", [float(getattr(one, name)) for one in found])
    got = retry_reward(0.5, 0.5, 0.1, "answers")(None, batch).tolist()
    assert got == pytest.approx([0.0, 1 / 8 - 0.5 / 4])
    assert got == pytest.approx([reward(answers[:2]), reward(answers)])
    alone = batch.select([1])  # its parent is left out: nobody knows what was tried before
    assert retry_reward(0.5, 0.5, 0.1, "turns")(None, alone).tolist() == [None]


def test_what_the_user_says() -> None:
    assert feedback(False, 1) == ("Incorrect. Please think again.", False)
    assert feedback(True, 1) == ("Correct!", True) == feedback(False, 5)


def test_ufo_compares_within_a_group_when_asked_to() -> None:
    credit = recipes.ufo(host="grpo").credit(tried(["7"], ["3", "7"], ["3", "3"]), to="trajectory").values
    rewards = [1.0, 0.5, -0.25]
    mean = sum(rewards) / 3
    spread = (sum((r - mean) ** 2 for r in rewards) / 2) ** 0.5
    assert credit.tolist() == pytest.approx([(r - mean) / (spread + 1e-6) for r in rewards])
    with pytest.raises(ValueError, match="expected host='ppo' or 'grpo'"):
        recipes.ufo(host="dpo")  # type: ignore[arg-type]


def of_tasks(*tasks: list[list[str | None]]) -> Batch:
    """Rollouts of several tasks, with what a critic and a reference would say of a token a turn."""
    rows = [answers for task in tasks for answers in task]
    batch = tried(*rows)
    groups = [f"g{n}" for n, task in enumerate(tasks) for _ in task]
    bare = Batch.of_maps(batch.turn_trajectory, groups, range(batch.count("turn")))
    bare = replace(bare, columns=batch.columns)
    draw = torch.Generator().manual_seed(0)
    for name in ("value", "logprob_old", "logprob_ref"):
        bare = bare.with_column(name, "token", -torch.rand(batch.count("turn"), generator=draw, dtype=torch.float64))
    return bare


WIDE, WIDER, NARROW, FLAT = [["7"], ["3", "3"]], [["7"], ["3"] * 5], [["7"], ["3", "7"]], [["3"], ["1"]]


@pytest.mark.parametrize("host", ["grpo", "ppo"])
def test_the_release_trains_on_the_quarter_of_the_tasks_whose_rewards_differ_most(host) -> None:
    tasks = [NARROW, FLAT, WIDER, NARROW, FLAT, WIDE, NARROW, FLAT]  # spreads 0.35, 0, 0.99, ..., 0.88, ...
    batch, recipe = of_tasks(*tasks), recipes.ufo_released(host=host, entropy=0.0)
    credit = recipe.credit(batch)
    at = batch.up("token", "group")
    chosen = (at == 2) | (at == 5)
    assert torch.equal(credit.known, chosen) and credit.reasons == ("the rewards of other tasks differ more",)
    # the others are gone as if they had never been sampled: from the statistics, and from what a value head learns
    kept = torch.nonzero(torch.isin(batch.up("trajectory", "group"), torch.tensor([2, 5]))).flatten()
    alone = recipes.ufo_released(host=host, entropy=0.0, share=1.0)
    expected = alone.credits(batch.select(kept))
    for name, one in recipe.credits(batch).items():
        torch.testing.assert_close(one.values[chosen], expected[name].values)
        assert not one.known[~chosen].any()


def test_of_few_tasks_one_is_kept_and_a_lone_rollout_does_not_differ() -> None:
    few = of_tasks(NARROW, [["7"]], WIDE, WIDE)
    credit = recipes.ufo_released(host="grpo", entropy=0.0).credit(few, to="trajectory")
    assert credit.known.tolist() == [False] * 3 + [True] * 2 + [False] * 2  # of equal ones the first
    half = recipes.ufo(host="grpo", entropy=0.0, share=0.5).credit(few, to="trajectory")
    assert half.known.tolist() == [False] * 3 + [True] * 4
    lone = recipes.ufo_released().credit(of_tasks([["7"]], [["3"]]), to="trajectory")
    assert lone.known.all()  # nothing to choose by, and PPO needs no siblings
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="widest: expected a share"):
            recipes.ufo(share=share)


def artist_batch(outcome: list[float | None], form: list[float | None], calls: list[float | None]) -> Batch:
    batch = Batch.of_maps(range(len(outcome)), ["g"] * len(outcome))
    for name, values in (("outcome", outcome), ("format_score", form), ("tool_success", calls)):
        batch = batch.with_column(name, "trajectory", values)
    return batch


def test_artist_by_hand_and_its_unknowns() -> None:
    batch = artist_batch([1.0, 0.0, 1.0, None], [1.0, 0.5, 1.0, 1.0], [0.75, 1.0, None, 1.0])
    assert answer_reward(2.0)(None, batch).tolist() == [3.75, 1.5, 3.0, None]
    credit = recipes.artist().credit(batch, to="trajectory").tolist()
    assert credit[:3] == pytest.approx([1.069045, -1.336306, 0.267261], abs=1e-6) and credit[3] is None


def test_the_form_of_function_calling_is_worth_a_tenth() -> None:
    """A state reached in bad form is worth more than a good form that reached half of it."""
    batch = Batch.of_maps([0, 1], ["g", "g"])
    for name, values in (("state_match", [1.0, 0.5]), ("call_match", [0.5, 0.5]), ("format_score", [0.0, 1.0])):
        batch = batch.with_column(name, "trajectory", values)
    assert calling_reward(0.5, 0.5, 0.1)(None, batch).tolist() == pytest.approx([0.75, 0.6])
    assert recipes.artist_calls().credit(batch, to="trajectory").tolist() == pytest.approx([1.0, -1.0], abs=1e-6)
    assert recipes.artist_calls(form=1.0).credit(batch, to="trajectory").tolist() == pytest.approx([-1, 1], abs=1e-6)


def test_calling_a_useless_tool_pays() -> None:
    """The trap of the sum: a call that works is worth 1, whatever it was for."""
    with_call, without = answer_reward(2.0)(None, artist_batch([0.0, 0.0], [1.0, 1.0], [1.0, None])).tolist()
    assert with_call == 2.0 and without == 1.0
