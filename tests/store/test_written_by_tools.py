"""Files that TRL, datasets and transformers really wrote (see tests/fixtures/make_trl.py and make_chat.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

import workbench
from workbench import recipes, show
from workbench.store import read, read_report, write
from workbench.view import CreditMap

FIXTURES = Path(__file__).parent.parent / "fixtures"
ALL = sorted(p.name for p in FIXTURES.iterdir() if p.suffix in (".parquet", ".jsonl"))


@pytest.mark.parametrize("name", ALL)
def test_it_is_read_whole_shown_credited_and_kept(tmp_path, name):
    rollouts = workbench.read(FIXTURES / name, strict=True)
    assert len(rollouts) in (4, 8) and read_report(FIXTURES / name).problems == ()
    credit = recipes.grpo().credit(rollouts.batch(), to="turn")
    assert len(credit.values) == rollouts.batch().count("turn") and bool(torch.isfinite(credit.values).all())
    page = show.html_page(rollouts, tmp_path / "page.html")
    assert rollouts[0].turns[-1].action.text[:5] in page.read_text() or name == "trl_text.parquet"
    drawn = CreditMap(rollouts, 0, [recipes.grpo(), recipes.rloo()]).html()
    assert "grpo" in drawn and "rloo" in drawn
    again = read(write(tmp_path / "r", rollouts), strict=True)
    assert again.trajectories == rollouts.trajectories and again.notes == rollouts.notes


def table(name: str) -> pd.DataFrame:
    return pd.read_parquet(FIXTURES / name)


def test_texts_and_rewards_are_those_of_the_table():
    rollouts, frame = read(FIXTURES / "trl_text.parquet"), table("trl_text.parquet")
    assert [t.turns[0].action.text for t in rollouts] == frame["completion"].tolist()
    assert [t.prompt[0].text for t in rollouts] == frame["prompt"].tolist()
    assert [t.outcome for t in rollouts] == [None if pd.isna(v) else v for v in frame["length"]]
    assert frame["length"].isna().any()  # a reward function returned None: unknown, not 0
    assert [t.rewards["trl_advantage"] for t in rollouts] == frame["advantage"].tolist()
    assert len(rollouts.groups) == frame["prompt"].nunique() == 2


def test_several_rewards_are_summed_and_it_is_said():
    path, frame = FIXTURES / "trl_chat.parquet", table("trl_chat.parquet")
    rollouts = read(path)
    assert [t.outcome for t in rollouts] == pytest.approx(frame[["length", "vowels"]].sum(axis=1).tolist())
    assert [t.rewards["vowels"] for t in rollouts] == frame["vowels"].tolist()
    assert [t.extra["length_class"] for t in rollouts] == frame["length_class"].tolist()
    assert any("plain sum of length, vowels" in note for note in rollouts.notes)
    named = read(path, fields={"outcome": "vowels"})
    assert [t.outcome for t in named] == frame["vowels"].tolist()
    assert not any("plain sum" in note for note in named.notes)


def test_tool_calls_tool_messages_and_second_turns():
    rollouts = read(FIXTURES / "trl_tools.parquet", strict=True)
    assert [len(t.turns) for t in rollouts] == [2] * 8
    first = rollouts[0].turns[0]
    assert first.calls[0].name == "capital" and dict(first.calls[0].arguments) == {"country": "France"}
    assert first.observations[0].answers == first.calls[0].id and first.observations[0].text == "Paris"
    assert rollouts[0].turns[1].action.text == "It is Paris."


def test_arguments_of_different_tools_do_not_mix(tmp_path):
    """Parquet gives each call the arguments of all the others, as nulls."""
    calls = [{"function": {"name": n, "arguments": a}} for n, a in (("add", {"x": 1}), ("say", {"text": "hi"}))]
    said = [{"role": "assistant", "content": None, "tool_calls": calls}]
    row = {"step": 1, "prompt": "?", "completion": said, "right": 1.0, "advantage": 0.0}
    pd.DataFrame([row]).to_parquet(tmp_path / "completions_00001.parquet")
    rollouts = read(tmp_path, strict=True)
    assert [dict(c.arguments) for c in rollouts[0].turns[0].calls] == [{"x": 1}, {"text": "hi"}]
    assert any("null in the table are taken as not given" in note for note in rollouts.notes)


def test_grpo_on_a_group_gives_the_advantage_trl_logged():
    rollouts = read(FIXTURES / "trl_tools.parquet")[:4]  # one generation group: TRL's table has them in order
    credit = recipes.grpo(eps=1e-4).credit(rollouts.batch(), to="turn")
    logged = torch.tensor([t.rewards["trl_advantage"] for t in rollouts for _ in t.turns], dtype=torch.float64)
    assert torch.allclose(credit.values, logged, atol=1e-6)


def test_the_output_folder_of_a_trainer_is_read_in_the_order_of_its_steps(tmp_path):
    folder = tmp_path / "run" / "completions"
    folder.mkdir(parents=True)
    for step, name in ((2, "chat"), (10, "text")):
        shutil.copy(FIXTURES / f"trl_{name}.parquet", folder / f"completions_{step:05d}.parquet")
    for path in (tmp_path / "run", folder):
        rollouts = read(path, strict=True)
        assert [t.id for t in rollouts][::8] == ["completions_00002/1", "completions_00010/1"]
    (folder / "completions_00011.parquet").write_bytes(b"PAR1 cut short")
    rollouts = read(tmp_path / "run")
    assert len(rollouts) == 16 and any("completions_00011.parquet: not a whole" in note for note in rollouts.notes)


def test_a_parquet_of_something_else_is_refused(tmp_path):
    pd.DataFrame({"prompt": ["a"], "text": ["b"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="has no column step, completion, advantage; it has .'prompt', 'text'."):
        read(tmp_path / "x.parquet")


def test_nulls_that_columns_bring_are_not_taken_for_values():
    rollouts = read(FIXTURES / "chat_datasets.jsonl", strict=True)
    table_ = read(FIXTURES / "trl_tools.parquet", strict=True)
    assert [t.text for t in rollouts] == [t.text for t in table_]
    assert all(not m.extra for t in rollouts for m in t.messages)
    assert rollouts[0].extra["right"] == 1.0
    assert any("not interpreted: advantage, right, step" in note for note in rollouts.notes)
    assert read(FIXTURES / "chat_datasets.jsonl", fields={"outcome": "right"})[0].outcome == 1.0


def test_the_mask_of_a_chat_template_gives_every_turn_its_tokens():
    path = FIXTURES / "chat_tokens.jsonl"
    rollouts = read(path, strict=True)
    for t, line in zip(rollouts, path.read_text().splitlines(), strict=True):
        record = json.loads(line)
        assert t.sequences[0].ids == tuple(record["input_ids"])
        own = [i for i, m in zip(record["input_ids"], record["assistant_masks"], strict=True) if m]
        assert [i for k in range(2) for span in t.sampled(k) for i in span.ids] == own
        assert all(t.sampled(k) for k in range(2))
    assert any("no log-probs" in note for note in rollouts.notes)
    assert any("or the text tokenised again" in note for note in rollouts.notes)
    assert recipes.grpo().credit(rollouts.batch()).level == "token"
