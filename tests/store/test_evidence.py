"""Columns and units beside the trajectories: added later, merged, read for other selections."""

from __future__ import annotations

import pytest
import torch

from workbench.batch import Provenance
from workbench.rollouts import Rollouts
from workbench.store import append, blob, evidence, read, read_report, write, write_column
from workbench.store import blobs as blob_store
from workbench.trajectory import Message, Part, Sequence, Span, Trajectory, Turn


def trajectory(name: str, turns: int, group: str = "g") -> Trajectory:
    made = tuple(Turn(Message(f"a{k}", "assistant", f"act {k}")) for k in range(turns))
    spans = tuple(Span((1, 2), "sampled", k, f"a{k}") for k in range(turns))
    return Trajectory(name, group, turns=made, sequences=(Sequence(spans),) if spans else ())


def three() -> Rollouts:
    """Turns 2, 0, 1; tokens 4, 0, 2."""
    return Rollouts((trajectory("a", 2), trajectory("b", 0, "h"), trajectory("c", 1)))


SEEN = Provenance("judge", {"model": "j", "votes": 3}, "abc", 2, "def", ("future", "gold"), 5, 60, 0.5)


def rich() -> Rollouts:
    r = three().with_unit("phase", "turn", [0, 0, 1]).with_unit("piece", "token", [0, 1, -1, 2, 3, 3])
    r = r.with_column("gain", "turn", [0.5, None, -0.25], provenance=SEEN)
    r = r.with_column("entropy", "token", torch.arange(6, dtype=torch.float32), [True] * 5 + [False])
    r = r.with_column("passed", "trajectory", [True, False, True], [True, True, False])
    r = r.with_column("hard", "group", torch.tensor([3, 4], dtype=torch.int8))
    r = r.with_column("pool", "batch", [0.125])
    r = r.with_column("top/k: §", "token", torch.arange(12.0).bfloat16().reshape(6, 1, 2), [False] + [True] * 5)
    r = r.with_column("size", "piece", [1, 2, 3, 4])
    return r.with_column("work", "phase", [[1.0], [2.0]])


def same(a, b) -> bool:
    known = torch.equal(a.known, b.known) and a.values.dtype == b.values.dtype and a.level == b.level
    return known and torch.equal(a.values[a.known], b.values[b.known]) and a.provenance == b.provenance


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_every_level_dtype_and_shape_comes_back(tmp_path, format):
    rollouts = rich()
    again = read(write(tmp_path / "r", rollouts, format=format), strict=True)
    assert set(again.columns) == set(rollouts.columns)
    for name, column in rollouts.columns.items():
        assert same(again.columns[name], column), name
        assert again.columns[name].values.shape == column.values.shape
    for name, unit in rollouts.units.items():
        assert torch.equal(again.units[name].of, unit.of), name


def test_a_column_is_added_without_touching_the_trajectories(tmp_path):
    folder = write(tmp_path / "r", three())
    before = {p: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    write_column(folder, rich(), "gain")
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
    assert same(read(folder).columns["gain"], rich().columns["gain"])
    assert not list(folder.rglob("*.part"))


def test_a_column_reaches_as_far_as_it_was_made(tmp_path):
    folder = write(tmp_path / "r", rich())
    append(folder, [trajectory("d", 2)])
    rollouts = read(folder)
    assert rollouts.columns["gain"].known.tolist() == [True, False, True, False, False]
    later = rollouts[["d"]].with_column("gain", "turn", [7.0, 8.0], provenance=SEEN)
    write_column(folder, later, "gain")
    merged = read(folder).columns["gain"]
    assert merged.values.tolist() == [0.5, 0.0, -0.25, 7.0, 8.0]
    assert merged.known.tolist() == [True, False, True, True, True]
    again = read(folder)[["a"]].with_column("gain", "turn", [1.0, 2.0], provenance=SEEN)
    write_column(folder, again, "gain")  # newer values of the same trajectory win
    assert read(folder).columns["gain"].values.tolist() == [1.0, 2.0, -0.25, 7.0, 8.0]


def test_columns_of_another_kind_or_origin_are_not_mixed(tmp_path):
    folder = write(tmp_path / "r", rich())
    for other, what in (
        (three().with_column("gain", "turn", [1, 2, 3], provenance=SEEN), "dtype"),
        (three().with_column("gain", "trajectory", [1.0, 2.0, 3.0], provenance=SEEN), "level"),
        (three().with_column("gain", "turn", [1.0, 2.0, 3.0], provenance=Provenance("rule")), "origin .*provider"),
    ):
        with pytest.raises(ValueError, match=what):
            write_column(folder, other, "gain")
        write_column(tmp_path / "r", other, "gain", replace=True)
        assert same(read(folder).columns["gain"], other.columns["gain"])
        write_column(tmp_path / "r", rich(), "gain", replace=True)
    with pytest.raises(ValueError, match="no column .'gone'."):
        write_column(folder, rich(), "gone")


def test_order_and_selection_of_the_reader_do_not_matter(tmp_path):
    folder = write(tmp_path / "r", rich())
    turned = rich()[["c", "a"]]
    column = evidence.read_column(folder, "gain", turned.batch())
    assert same(column, turned.columns["gain"])
    unit = evidence.read_unit(folder, "piece", turned.batch())
    assert unit.of.tolist() == [0, 0, 1, 2, -1, 3]


def test_rows_that_fit_no_unit_are_told_and_left_out(tmp_path):
    folder = write(tmp_path / "r", rich())
    shorter = write(tmp_path / "s", Rollouts((trajectory("a", 1), trajectory("c", 1))))
    (shorter / "evidence").mkdir()
    (shorter / "evidence" / "gain.parquet").write_bytes((folder / "evidence" / "gain.parquet").read_bytes())
    report = read_report(shorter)
    assert [p.id for p in report.problems] == ["a"]
    assert "value for unit 1, but the trajectory has 1 of them" in str(report.problems[0])
    column = read(shorter).columns["gain"]
    assert column.values.tolist() == [0.5, -0.25] and column.known.tolist() == [True, True]


def test_a_broken_column_costs_only_itself(tmp_path):
    folder = write(tmp_path / "r", rich())
    (folder / "evidence" / "gain.parquet").write_bytes(b"PAR1 not really")
    (folder / "evidence" / "other.parquet").write_bytes((folder / "evidence" / "hard.parquet").read_bytes()[:90])
    rollouts = read(folder)
    assert len(rollouts) == 3 and "gain" not in rollouts.columns and "entropy" in rollouts.columns
    assert any("evidence/gain.parquet: not a Parquet file" in note for note in rollouts.notes)
    with pytest.raises(ValueError, match="not a Parquet file"):
        read(folder, strict=True)


def test_a_column_whose_unit_is_gone_is_told(tmp_path):
    folder = write(tmp_path / "r", rich())
    (folder / "units" / "piece.parquet").unlink()
    report = read_report(folder)
    assert ["no level or unit 'piece'" in str(p) for p in report.problems] == [True]
    assert "size" not in read(folder).columns


# ------------------------------------------------------------------------------------------------------- bytes


def test_bytes_travel_with_the_rollouts(tmp_path):
    name = blob_store.keep(b"\x89PNG not really")
    picture = Message("p", "user", (Part("image", "", name, "image/png"),))
    rollouts = Rollouts((Trajectory("a", "g", (picture,)),))
    folder = write(tmp_path / "r", rollouts)
    assert (folder / "blobs" / name).read_bytes() == b"\x89PNG not really"
    blob_store._IN_MEMORY.pop(name)
    assert read(folder) and blob(name) == b"\x89PNG not really"
    (folder / "blobs" / name).write_bytes(b"other")
    with pytest.raises(ValueError, match="another hash than the name"):
        blob(name)


def test_bytes_that_are_nowhere_are_a_note(tmp_path):
    picture = Message("p", "user", (Part("image", "", "f" * 64, "image/png"),))
    rollouts = read(write(tmp_path / "r", Rollouts((Trajectory("a", "g", (picture,)),))))
    assert any("bytes of 1 images or files were not at hand" in note for note in rollouts.notes)
    with pytest.raises(KeyError, match="no bytes with sha256 fff"):
        blob("f" * 64)
