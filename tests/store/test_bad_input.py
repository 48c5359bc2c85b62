"""Files that are not as they should be: a clear error with id and line, and the good records all the same."""

from __future__ import annotations

import json

import pytest

from workbench.store import append, read, read_report, scan, write_trajectories
from workbench.store.encode import to_record
from workbench.trajectory import Message, Prefix, RecordError, Sequence, Span, Trajectory, Turn

NAN = float("nan")


def good(name: str) -> Trajectory:
    turns = (Turn(Message("a0", "assistant", "go"), (Message("o0", "user", "seen"),), reward=0.5),)
    spans = (Span((1,), "prompt"), Span((2, 3), "sampled", 0, "a0", (-0.5, None)))
    return Trajectory(name, "g", turns=turns, sequences=(Sequence(spans),), outcome=1.0)


def changed(*path, to) -> dict:
    """The record of a good trajectory with one value changed."""
    record = json.loads(json.dumps(to_record(good("bad"))))
    at = record
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return record


SPAN = ("sequences", 0, "spans", 1)
WRONG = {
    # name: (record, turn, what the message says)
    "outcome is text": (changed("outcome", to="high"), None, "field 'outcome'"),
    "outcome is NaN": (changed("outcome", to=NAN), None, "expected a finite number or None (unknown), got nan"),
    "outcome is true": (changed("outcome", to=True), None, "field 'outcome'"),
    "rewards is a list": (changed("rewards", to=[1]), None, "expected an object, got a list"),
    "turns is text": (changed("turns", to="two"), None, "expected a list, got text ('two')"),
    "turn is a number": (changed("turns", 0, to=3), 0, "expected an object, got an integer (3)"),
    "turn without an action": (changed("turns", 0, to={}), 0, "the turn has no `action`"),
    "action without text of the right type": (changed("turns", 0, "action", "content", to=5), 0, "field 'content'"),
    "action of a user": (changed("turns", 0, "action", "role", to="user"), 0, "expected an assistant message"),
    "part without a hash": (
        changed("turns", 0, "action", "content", to=[{"kind": "image", "mime": "image/png"}]),
        0,
        "64 hex digits",
    ),
    "truncated is a word": (changed("truncated", to="yes"), None, "expected true or false, got text ('yes')"),
    "group is missing": ({"id": "bad"}, None, "expected text, got nothing"),
    "parent is text": (changed("parent", to="r"), None, "expected a list, got text"),
    "parent is half": (changed("parent", to=["r"]), None, "expected [trajectory id, turn index]"),
    "span is an object": (changed(*SPAN, to={"ids": [1]}), None, "expected [origin, turn, message, ids"),
    "span is short": (changed(*SPAN, to=["sampled", 0]), None, "sequences[0].spans[1]"),
    "span of an unknown turn": (changed(*SPAN, 1, to=7), None, "span points to turn 7; the trajectory has 1"),
    "ids are text": (changed(*SPAN, 3, to=["a", "b"]), 0, "field 'ids'"),
    "ids are fractions": (changed(*SPAN, 3, to=[1.5, 2]), 0, "expected integers, got 1.5"),
    "log-prob is NaN": (changed(*SPAN, 4, to=[-0.5, NAN]), 0, "token 1: expected a finite number <= 0 or None"),
    "log-probs do not fit": (changed(*SPAN, 4, to=[-0.5]), 0, "expected one per token (2), got 1"),
    "reward of a turn is a list": (changed("turns", 0, "reward", to=[1]), 0, "field 'reward'"),
    "answers a call nobody made": (
        changed("turns", 0, "observations", 0, to={"id": "o", "role": "tool", "answers": "c9"}),
        0,
        "answers call 'c9', which nobody made",
    ),
    "message id twice": (
        changed("turns", 0, "observations", 0, to={"id": "a0", "role": "user"}),
        0,
        "message id 'a0' is used twice",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_record_that_cannot_be_right_is_named_and_the_others_are_read(tmp_path, case):
    record, turn, says = WRONG[case]
    folder = write_trajectories(tmp_path / "r", [good("a"), good("b")])
    file = next(folder.glob("*.jsonl"))
    first, second = file.read_text().splitlines()
    file.write_text("\n".join([first, json.dumps(record), second]) + "\n")
    rollouts, report = read(folder), read_report(folder)
    assert [t.id for t in rollouts] == ["a", "b"] and report.good == 2
    (problem,) = report.problems
    assert (problem.file, problem.line, problem.id) == (file.name, 2, "bad")
    assert says in problem.problem and (turn is None or f"turn {turn}" in problem.problem)
    assert any(f"{file.name}, line 2, trajectory 'bad'" in note and says in note for note in rollouts.notes)
    with pytest.raises(RecordError, match="line 2") as caught:
        read(folder, strict=True)
    assert caught.value.trajectory == "bad" and says in str(caught.value)
    with pytest.raises(RecordError, match="'bad'"):
        list(scan(folder))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"id": "bad", "group"', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[1, 2]", "expected an object, got a list"),
        (b"null", "expected an object, got null"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"id": 1, "group": "g"}', "field 'id': expected text, got an integer"),
        (b"{}", "field 'id': expected text, got nothing"),
        (b'{"id": "x", "group": "g", "outcome": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_line_that_is_no_record_is_named_and_the_others_are_read(tmp_path, line, says):
    folder = write_trajectories(tmp_path / "r", [good("a"), good("b")])
    file = next(folder.glob("*.jsonl"))
    first, second = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([line, first, line, b"", second]) + b"\n")
    rollouts = read(folder)
    assert [t.id for t in rollouts] == ["a", "b"]
    problems = read_report(folder).problems
    assert [p.line for p in problems] == [1, 3] and all(says in p.problem for p in problems)


def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path):
    folder = write_trajectories(tmp_path / "r", [good(f"t{i}") for i in range(3)])
    file = next(folder.glob("*.jsonl"))
    whole = file.read_bytes()
    for cut in range(0, len(whole) + 1, 7):
        file.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
        rollouts = read(folder)
        assert len(rollouts) == complete, cut
        torn = [note for note in rollouts.notes if "torn" in note]
        assert len(torn) == (0 if whole[:cut].endswith(b"\n") or whole[cut : cut + 1] == b"\n" or cut == 0 else 1)


def test_ids_used_twice_name_both_places(tmp_path):
    folder = write_trajectories(tmp_path / "r", [good("a"), good("b")])
    file = next(folder.glob("*.jsonl"))
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    rollouts = read(folder)
    assert [t.id for t in rollouts] == ["a", "b"]
    (problem,) = read_report(folder).problems
    assert (problem.line, problem.id) == (3, "a") and "used twice, first at trajectories-00000.jsonl, line 1" in str(
        problem
    )
    with pytest.raises(RecordError, match="used twice"):
        read(folder, strict=True)


def branch(**more) -> Trajectory:
    turns = (Turn(Message("b0", "assistant", "left")),)
    spans = Sequence((Span((9,), "sampled", 0),), more.pop("prefix", Prefix("a", 0, 1)))
    return Trajectory("branch", "g", turns=turns, sequences=(spans,), parent=more.pop("parent", ("a", 0)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (branch(parent=("a", 4)), "branches after turn 4 of 'a', which has 1 turns"),
        (branch(parent=("a", -2)), "branches after turn -2"),
        (branch(prefix=Prefix("a", 2, 1)), "'a' has 1 sequences, no number 2"),
        (branch(prefix=Prefix("a", 0, 99)), "99 tokens, but that sequence of 'a' has 3"),
        (branch(prefix=Prefix("z", 0, 1)), "'z' is not among its ancestors"),
        (branch(parent=("branch", 0), prefix=Prefix("branch", 0, 0)), "run in a circle"),
    ],
)
def test_a_branch_that_does_not_fit_is_named_and_the_others_are_read(tmp_path, wrong, says):
    folder = write_trajectories(tmp_path / "r", [good("a"), wrong, good("z")])
    rollouts = read(folder)
    assert [t.id for t in rollouts] == ["a", "z"] and rollouts.batch().count("turn") == 2
    (problem,) = read_report(folder).problems
    assert problem.id == "branch" and says in problem.problem
    with pytest.raises(RecordError, match="branch"):
        read(folder, strict=True)


def test_a_branch_that_fits_or_whose_parent_is_elsewhere_is_read(tmp_path):
    folder = write_trajectories(tmp_path / "r", [good("a"), branch()])
    assert read(folder, strict=True).batch().turn_parent.tolist() == [-1, 0]
    alone = write_trajectories(tmp_path / "s", [branch()])
    assert len(read(alone, strict=True)) == 1


def test_a_shard_of_the_manifest_that_is_gone_is_told(tmp_path):
    folder = write_trajectories(tmp_path / "r", [good("a")])
    append(folder, [good("b")], format="parquet")
    next(folder.glob("*.parquet")).unlink()
    rollouts = read(folder)
    assert [t.id for t in rollouts] == ["a"]
    assert any("trajectories-00001.parquet: named in the manifest, but not there" in note for note in rollouts.notes)


def test_a_broken_parquet_shard_costs_only_itself(tmp_path):
    folder = write_trajectories(tmp_path / "r", [good("a")])
    append(folder, [good("b")], format="parquet")
    next(folder.glob("*.parquet")).write_bytes(b"PAR1")
    assert [t.id for t in read(folder)] == ["a"]
    assert "trajectories-00001.parquet" in str(read_report(folder).problems[0])
    with pytest.raises(RecordError, match="trajectories-00001.parquet"):
        read(folder, strict=True)


@pytest.mark.parametrize(
    "manifest", ["", "[]", '{"format": "other"}', '{"format": "workbench.rollouts", "schema": "x"}']
)
def test_a_broken_manifest_is_one_clear_error(tmp_path, manifest):
    folder = write_trajectories(tmp_path / "r", [good("a")])
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(RecordError, match=r"manifest\.json"):
        read(folder)


# -------------------------------------------------------------------------------------------------- chat files


def said(*texts: str | None) -> list[dict]:
    return [{"role": "user", "content": "?"}, *({"role": "assistant", "content": text} for text in texts)]


def test_a_turn_without_text_is_kept_and_named(tmp_path):
    path = tmp_path / "chats.jsonl"
    records = [{"messages": said("a", "b")}, {"id": "quiet", "messages": said("a", None)}]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    rollouts = read(path)
    assert rollouts["quiet"].turns[1].action.text == ""
    note = next(n for n in rollouts.notes if "neither text nor tool calls" in n)
    assert "turn 1" in note and "'quiet'" in note and "line 2" in note


def test_bad_chat_records_are_named_and_the_others_are_read(tmp_path):
    tokens = {"input_ids": [1, 2], "loss_mask": [0, 1]}
    lines = [
        '{"messages": [{"role": "user"',
        json.dumps({"id": "a", "messages": said("x")}),
        json.dumps({"id": "n", "messages": said("x"), **tokens, "logprobs": [NAN]}),
        json.dumps({"id": "l", "messages": said("x"), **tokens, "logprobs": [-1, -2, -3]}),
        json.dumps({"id": "m", "messages": said("x"), "input_ids": [1], "loss_mask": [1, 0]}),
        json.dumps({"id": "r", "messages": said("x"), "reward": "much"}),
        json.dumps({"id": "t", "messages": said("x"), "truncated": "maybe"}),
        json.dumps({"id": "a", "messages": said("x")}),
        json.dumps({"id": "z", "rows": 3}),
        json.dumps({"id": "b", "messages": said("y"), "reward": NAN}),
        '{"id": "c", "messages": [{"ro',
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(lines))
    rollouts, report = read(path), read_report(path)
    assert [t.id for t in rollouts] == ["a", "b"] and rollouts["b"].outcome is None
    told = {p.line: (p.id, p.problem) for p in report.problems}
    assert {line: name for line, (name, _) in told.items()} == {
        **{1: None, 3: "n", 4: "l", 5: "m", 6: "r", 7: "t", 8: "a", 9: "z", 11: None},
    }
    for line, says in {
        1: "not JSON",
        3: "turn 0, field 'logprobs': token 0: expected a finite number",
        4: "expected one per token (2) or per sampled token (1), got 3",
        5: "expected one per token (1), got 2",
        6: "field 'reward': expected a number, got str 'much'",
        7: "field 'truncated': expected true or false",
        8: "used twice, first at chats.jsonl, line 2",
        9: "expected a list of messages",
        11: "torn",
    }.items():
        assert says in told[line][1], (line, told[line])
    assert any("reward: NaN or infinite values are read as unknown" in note for note in rollouts.notes)


def test_an_observation_of_50_MB_is_read_and_written(tmp_path):
    big = "x" * 50_000_000
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"id": "big", "messages": [*said("go"), {"role": "user", "content": big}]}) + "\n")
    rollouts = read(path, strict=True)
    folder = write_trajectories(tmp_path / "r", rollouts)
    assert len(read(folder)["big"].turns[0].observations[0].text) == 50_000_000
    assert [t.id for t in scan(folder, lambda head: head.id == "other")] == []


def test_many_problems_do_not_flood_the_notes(tmp_path):
    folder = write_trajectories(tmp_path / "r", [good("a")])
    file = next(folder.glob("*.jsonl"))
    file.write_text("{}\n" * 100 + file.read_text())
    rollouts = read(folder)
    assert len(rollouts) == 1 and len(rollouts.notes) == 21 and "and 80 more problems" in rollouts.notes[-1]
    assert len(read_report(folder).problems) == 100
