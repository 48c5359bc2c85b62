"""The folder: what is written comes back, bit for bit, whatever happens in between."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.rollouts import Rollouts
from workbench.store import Head, Writer, append, heads, read, read_manifest, scan, write, write_trajectories
from workbench.store.decode import from_line
from workbench.store.encode import to_line
from workbench.store.migrate import MIGRATIONS, migration
from workbench.trajectory import Message, Part, Prefix, RecordError, Sequence, Span, ToolCall, Trajectory, Turn

FORMATS = ("jsonl", "parquet")


def full() -> Trajectory:
    """One with every field off its default, and text that is hostile to files."""
    calls = (
        ToolCall("c1", "search", '{"q": "é"}', {"q": "é", "deep": [1, {"n": None}]}),
        ToolCall("c2", "", "{", error="not JSON"),
    )
    action = Message("a0", "assistant", "line\nbreak \u2028 \ud800 \x00", author="me", calls=calls, extra={"k": [1.5]})
    image = Message(
        "o0", "tool", (Part(text="see"), Part("image", "", "0" * 64, "image/png")), answers="c1", parent="a0"
    )
    turn = Turn(
        action,
        (image,),
        agent="worker",
        policy="m",
        policy_version=(1, 2),
        sampling={"temperature": 0.7},
        stop_reason="stop",
        trainable=False,
        why_not="forced",
        state_key="s",
        reward=-0.0,
        rewards={"prompt": 1e-300, "turns": None},
        extra={"n": 1},
    )
    spans = (
        Span((1, 2), "observation", -1, pieces=("a", ' "b\n')),
        Span((3, 4), "sampled", 0, "a0", (-0.1, None), ("x", "")),
        Span((5,), "template", 0),
    )
    return Trajectory(
        *("run/0/a b?/0", 'g",{"prompt":['),
        prompt=(Message("p", "system", ',"prompt":[{'),),
        turns=(turn,),
        sequences=(Sequence(spans, Prefix("other", 1, 7)),),
        parent=("other", 3),
        outcome=1e-17,
        rewards={"prompt": None, "f1": 0.1 + 0.2},
        gold={"answer": "ja\u00e9", "calls": [{"name": "f", "arguments": {}}]},
        truncated=True,
        stop_reason='limit "3"',
        extra={"unknown": {"a": [True, None]}},
    )


def plain(name: str, group: str = "g", turns: int = 1, outcome: float | None = None) -> Trajectory:
    made = tuple(Turn(Message(f"a{k}", "assistant", f"act {k}")) for k in range(turns))
    spans = tuple(Span((1, 2), "sampled", k, f"a{k}") for k in range(turns))
    return Trajectory(name, group, turns=made, sequences=(Sequence(spans),) if spans else (), outcome=outcome)


def lines(folder: Path) -> Path:
    return next(folder.glob("*.jsonl"))


# ---------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("format", FORMATS)
def test_everything_comes_back(tmp_path, format):
    several = [full(), plain("b"), Trajectory("c", "h")]
    write_trajectories(tmp_path / "r", several, format=format)
    assert list(scan(tmp_path / "r")) == several
    assert read(tmp_path / "r", strict=True).trajectories == tuple(several)


@settings(deadline=None, max_examples=60)
@given(
    st.text(st.characters(), min_size=1),
    st.text(st.characters()),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.one_of(st.none(), st.floats(-50, 0)), max_size=5),
)
def test_any_text_and_any_number_comes_back(name, text, number, logprobs):
    turn = Turn(Message("a", "assistant", text, extra={text: text}), reward=number)
    span = Span(tuple(range(len(logprobs))), "sampled", 0, "a", tuple(logprobs))
    t = Trajectory(name, name, turns=(turn,), sequences=(Sequence((span,)),), outcome=number, gold={"a": text})
    line = to_line(t).encode()
    assert b"\n" not in line
    assert from_line(line) == t


def test_a_line_is_compact_and_unknown_is_null():
    line = json.loads(to_line(plain("a")))
    assert line["outcome"] is None and line["turns"][0]["reward"] is None
    assert line["sequences"] == [{"spans": [["sampled", 0, "a0", [1, 2]]]}]
    assert set(line) == {*Head._fields, "prompt", "turns", "sequences"}  # what stands at its default is left out


def test_tuples_come_back_as_lists():
    assert from_line(to_line(Trajectory("a", "g", gold={"x": (1, 2)})).encode()).gold["x"] == [1, 2]


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ({"a": {1, 2}}, "extra.a"),
        ({"a": [0.0, float("nan")]}, r"extra.a\[1\]"),
        ({"a": {1: 2}}, "extra.a"),
        ({"a": b"x"}, "extra.a"),
    ],
)
def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path, extra, where):
    with Writer(tmp_path) as writer:
        writer.add(plain("a"))
        with pytest.raises(RecordError, match=where) as caught:
            writer.add(Trajectory("bad", "g", extra=extra))
        writer.add(plain("b"))
    assert caught.value.trajectory == "bad"
    assert [t.id for t in scan(tmp_path)] == ["a", "b"]


def test_fields_of_a_later_version_are_kept(tmp_path):
    record = json.loads(to_line(full()))
    record["mood"] = "good"
    record["unknown"] = "taken"  # stands in extra already
    record["turns"][0]["speed"] = 3
    record["turns"][0]["action"]["tone"] = [1]
    record["turns"][0]["action"]["calls"][1]["cost"] = 2
    record["sequences"][0]["device"] = "gpu"
    t = from_line(json.dumps(record).encode())
    assert t.extra["mood"] == "good" and t.extra["sequences[0].device"] == "gpu"
    assert t.extra["unknown_"] == "taken" and t.extra["unknown"] == {"a": [True, None]}
    assert t.turns[0].extra["speed"] == 3
    assert t.turns[0].action.extra["tone"] == [1] and t.turns[0].action.extra["calls[1].cost"] == 2
    assert from_line(to_line(t).encode()) == t


# ------------------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("format", FORMATS)
def test_heads_and_filters_do_not_need_the_body(tmp_path, format):
    several = [full(), plain("a", outcome=1.0), plain("b", "h", outcome=0.0), plain("c", "h", outcome=1.0)]
    write_trajectories(tmp_path / "r", several, format=format)
    assert [h.id for h in heads(tmp_path / "r")] == [t.id for t in several]
    first = next(iter(heads(tmp_path / "r")))
    assert first.parent == ("other", 3) and first.rewards == full().rewards and first.truncated
    found = list(scan(tmp_path / "r", lambda head: head.outcome == 1.0 and head.group == "h"))
    assert found == [several[3]]
    assert list(scan(tmp_path / "r", lambda head: head.parent is not None)) == [several[0]]


def test_a_line_in_another_order_is_filtered_all_the_same(tmp_path):
    write_trajectories(tmp_path / "r", [])
    record = json.loads(to_line(plain("a", outcome=1.0)))
    first = {name: record.pop(name) for name in ("id", "group", "prompt")}  # the outcome comes after the prompt
    for turned in ({**first, **record}, dict(reversed({**first, **record}.items()))):
        lines(tmp_path / "r").write_text(json.dumps(turned, separators=(",", ":")) + "\n")
        assert [t.id for t in scan(tmp_path / "r", lambda head: head.outcome == 1.0)] == ["a"]


# ---------------------------------------------------------------------------------------------------- appending


@pytest.mark.parametrize("format", FORMATS)
def test_appending_touches_nothing_that_is_there(tmp_path, format):
    folder = write_trajectories(tmp_path / "r", [plain("a")], format=format)
    before = {p.name: p.read_bytes() for p in folder.glob("trajectories*")}
    assert append(folder, [plain("b", turns=2), plain("c")]) == 2
    for name, data in before.items():
        assert (folder / name).read_bytes().startswith(data)
    assert [t.id for t in scan(folder)] == ["a", "b", "c"]
    manifest = read_manifest(folder)
    assert manifest.counts == {"trajectories": 3, "turns": 4, "sampled_tokens": 8}
    assert sum(manifest.shards.values()) == 3


def test_both_kinds_of_file_in_one_folder_keep_their_order(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a")])
    append(folder, [plain("b")], format="parquet")
    append(folder, [plain("c")])  # goes on as the last one began
    append(folder, [plain("d")], format="jsonl")
    assert [t.id for t in scan(folder)] == ["a", "b", "c", "d"]
    assert len(list(folder.glob("trajectories*"))) == 4


def test_an_id_is_written_once(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a")])
    with pytest.raises(RecordError, match="already in this folder") as caught:
        append(folder, [plain("b"), plain("a"), plain("c")])
    assert caught.value.trajectory == "a"
    assert [t.id for t in scan(folder)] == ["a", "b"]
    assert read_manifest(folder).counts["trajectories"] == 2


def test_a_writer_that_was_killed_leaves_all_its_whole_lines(tmp_path):
    """A process is killed while it writes: what it wrote whole is read, and appending goes on."""
    script = (
        "import os, sys; from workbench.store import Writer; from workbench.trajectory import Trajectory\n"
        "w = Writer(sys.argv[1])\n"
        "for i in range(100): w.add(Trajectory(f't{i}', 'g'))\n"
        'w._shard._out.write(b\'{"id": "torn\'); w._shard._out.flush(); os._exit(9)'
    )
    folder = tmp_path / "r"
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert done.returncode == 9 and not (folder / "manifest.json").exists()
    rollouts = read(folder)
    assert len(rollouts) == 100
    assert any("torn" in note for note in rollouts.notes) and any("no manifest" in note for note in rollouts.notes)
    append(folder, [Trajectory("after", "g")])
    assert [t.id for t in read(folder)][-2:] == ["t99", "after"]


def test_a_torn_last_line_is_reported_and_skipped(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a"), plain("b")])
    whole = lines(folder).read_bytes()
    for cut in (1, 30, len(whole.splitlines()[1]) - 3):
        lines(folder).write_bytes(whole + whole.splitlines()[1][:cut].replace(b'"b"', b'"c"'))
        with pytest.warns(UserWarning, match="line 3: the last line is torn"):
            assert [t.id for t in scan(folder)] == ["a", "b"]
        with pytest.warns(UserWarning, match="torn"):
            assert [h.id for h in heads(folder)] == ["a", "b"]  # its head may be whole
        with pytest.warns(UserWarning, match="torn"):
            assert [t.id for t in scan(folder, lambda head: head.id == "a")] == ["a"]


def test_a_last_line_without_its_break_counts(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a"), plain("b")])
    lines(folder).write_bytes(lines(folder).read_bytes().rstrip(b"\n"))
    assert [t.id for t in scan(folder)] == ["a", "b"]
    append(folder, [plain("c")])
    assert [t.id for t in scan(folder)] == ["a", "b", "c"]


# -------------------------------------------------------------------------------------------------- new folders


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a")])
    with pytest.raises(FileExistsError, match="append to it, choose another path or give overwrite=True"):
        write_trajectories(folder, [plain("b")])
    write_trajectories(folder, [plain("b")], overwrite=True)
    assert [t.id for t in scan(folder)] == ["b"]
    other = tmp_path / "letters"
    other.mkdir()
    (other / "diary.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="no folder of rollouts"):
        write_trajectories(other, [plain("b")], overwrite=True)
    assert (other / "diary.txt").read_text() == "dear"


def test_a_write_that_fails_leaves_the_old_folder(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a")])

    def breaks():
        yield plain("b")
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="power"):
        write_trajectories(folder, breaks(), overwrite=True)
    assert [t.id for t in scan(folder)] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["r"]  # nothing half-made is left lying about


def test_notes_are_kept(tmp_path):
    rollouts = Rollouts((plain("a"),)).with_notes("no log-probs of the sampled tokens")
    assert read(write(tmp_path / "r", rollouts)).notes == ("no log-probs of the sampled tokens",)


@pytest.mark.parametrize("format", FORMATS)
def test_one_file_of_a_folder_is_read_too(tmp_path, format):
    folder = write_trajectories(tmp_path / "r", [plain("a")], format=format)
    file = next(folder.glob("trajectories*"))
    assert [t.id for t in read(file, strict=True)] == ["a"]
    (folder / "manifest.json").unlink()
    assert [t.id for t in read(folder)] == ["a"]


def test_a_folder_may_be_moved(tmp_path):
    folder = write_trajectories(tmp_path / "with a space" / "r", [plain("a")])
    shutil.move(folder, tmp_path / "elsewhere")
    assert [t.id for t in read(tmp_path / "elsewhere")] == ["a"]


# ---------------------------------------------------------------------------------------------------- versions


def test_an_older_schema_is_brought_up_to_date(tmp_path):
    shutil.copytree(Path(__file__).parent.parent / "fixtures" / "schema_0", tmp_path / "old")
    rollouts = read(tmp_path / "old", strict=True)
    t = rollouts["run/0/task/0"]
    assert t.outcome == 1.0 and t.text == "[user] Question?\n\n[assistant] Answer: 4\n\n[tool] right"
    assert t.sampled(0)[0].logprobs == (-0.5, None) and t.sampled(0)[0].ids == (7, 8)
    assert [h.outcome for h in heads(tmp_path / "old")] == [1.0, None]
    assert [x.id for x in scan(tmp_path / "old", lambda head: head.outcome is None)] == ["run/0/task/1"]
    again = write(tmp_path / "new", rollouts)
    assert read_manifest(again).schema == 1 and read(again).trajectories == rollouts.trajectories
    with pytest.raises(RecordError, match="schema version 0; write it anew"):
        append(tmp_path / "old", [plain("a")])


def test_every_version_has_its_migration_and_changes_nothing_it_was_given():
    old = {"id": "a", "group": "g", "reward": 0.5, "prompt": [{"id": "p", "role": "user", "text": "?"}]}
    before = json.dumps(old)
    for version in MIGRATIONS:
        assert migration(version) is not None
    new = MIGRATIONS[0](old)
    assert json.dumps(old) == before and new["outcome"] == 0.5 and "reward" not in new
    assert migration(1) is None
    with pytest.raises(ValueError, match="newer than this package"):
        migration(2)


def test_a_folder_of_a_newer_version_is_refused(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a")])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(RecordError, match="schema version 99 is newer than this package"):
        read(folder)


def test_unknown_fields_of_a_manifest_survive_an_append(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a")])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "owner": "me"}))
    append(folder, [plain("b")])
    assert json.loads((folder / "manifest.json").read_text())["owner"] == "me"


# ------------------------------------------------------------------------------------------------------- weight


def test_scanning_needs_neither_torch_nor_pyarrow(tmp_path):
    folder = write_trajectories(tmp_path / "r", [plain("a")])
    script = (
        "import sys; from workbench.store import scan, append\n"
        "from workbench.trajectory import Trajectory\n"
        f"append({str(folder)!r}, [Trajectory('b', 'g')]); print(len(list(scan({str(folder)!r}))))\n"
        "print(sorted({'torch', 'pyarrow', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[:2] == ["2", "[]"]


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Twenty times the trajectories, the same peak: only the ids are kept."""
    import tracemalloc

    def peak(count: int, work) -> int:
        tracemalloc.start()
        work(count)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    def write_many(count: int) -> None:
        write_trajectories(tmp_path / f"r{count}", (plain(f"{i}", turns=2) for i in range(count)))

    def scan_all(count: int) -> None:
        assert sum(1 for _ in scan(tmp_path / f"r{count}")) == count

    for work, per_row in ((write_many, 250), (scan_all, 20)):
        few, many = peak(100, work), peak(2000, work)
        assert many - few < per_row * 1900 + 100_000, (work.__name__, few, many)
