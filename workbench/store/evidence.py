"""Columns and unit maps beside the trajectories: added, read and merged without touching them.

A row of `evidence/<column>.parquet` is `(trajectory, unit, value)`: which trajectory, which of its units (own turns,
sampled tokens or named units, counted from 0 in the order of the batch), and the value, null where unknown. A group's
value stands under the group's id, a batch's under "". Level, dtype, shape and provenance are in the file's metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

import torch
from torch import Tensor

from workbench.batch import Batch, Column, Provenance, Unit
from workbench.store.encode import plain
from workbench.store.manifest import write_atomically
from workbench.store.report import OnProblem, Problem, raise_problem
from workbench.trajectory import RecordError

if TYPE_CHECKING:
    import pyarrow as pa

_META = b"workbench"


class _Address(NamedTuple):
    """Where the units of a level stand: unit i is number `number[i]` of `owners[owner[i]]`."""

    owners: tuple[str, ...]
    owner: Tensor
    number: Tensor


def _address(batch: Batch, level: str) -> _Address:
    """Address every unit of a level by the id of its trajectory (or group) and its number in it."""
    n = batch.count(level)
    if level == "batch":
        return _Address(("",), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    if level == "group":
        return _Address(batch.groups, torch.arange(n), torch.zeros(n, dtype=torch.int64))
    owner = batch.up(level, "trajectory")
    start = torch.searchsorted(owner, torch.arange(batch.count("trajectory")))  # units stand in trajectory order
    return _Address(batch.trajectories, owner, torch.arange(n) - start[owner])


# ----------------------------------------------------------------------------------------------------- columns


def column_path(folder: str | Path, name: str) -> Path:
    """Return the file of a column; what a file name cannot hold is escaped as in an address."""
    return Path(folder) / "evidence" / (quote(name, safe=" ") + ".parquet")


def write_column(folder: str | Path, name: str, column: Column, batch: Batch, *, replace: bool = False) -> Path:
    """Write one column of a batch beside its trajectories.

    Values that the file holds for other trajectories are kept, if they are of the same kind and origin.

    Args:
        folder: of the rollouts.
        name: of the column.
        column: values of the batch's units of `column.level`.
        batch: says which trajectory each unit is in.
        replace: forget what the file held.

    Raises:
        ValueError: the file holds a column of another level, dtype, shape or provenance and `replace` is False.
    """
    import pyarrow as pa

    meta = _column_meta(name, column)
    table = _rows(_address(batch, column.level), _to_arrow(column), meta)
    path = column_path(folder, name)
    if path.exists() and not replace:
        old = _read_table(path)
        _must_match(path, _meta_of(old, path), meta)
        table = pa.concat_tables([_without(old, table), table])
    _write_table(path, table)
    return path


def _column_meta(name: str, column: Column) -> dict[str, Any]:
    provenance = {**asdict(column.provenance), "parameters": dict(column.provenance.parameters)}
    dtype, shape = str(column.values.dtype).removeprefix("torch."), list(column.values.shape[1:])
    try:
        said = plain(provenance, "provenance")
    except RecordError as error:
        raise ValueError(f"column {name!r}: {error}") from None
    return {"name": name, "level": column.level, "dtype": dtype, "shape": shape, "provenance": said}


_COSTS = ("calls", "tokens", "seconds")


def _must_match(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Rows of one column have one origin; what they cost may differ."""
    for part in ("level", "dtype", "shape"):
        if old[part] != new[part]:
            raise ValueError(f"{path} holds {part} {old[part]!r}, not {new[part]!r}; give replace=True or another name")
    origin = [{k: v for k, v in m["provenance"].items() if k not in _COSTS} for m in (old, new)]
    if origin[0] != origin[1]:
        differ = sorted(k for k in origin[1] if origin[0].get(k) != origin[1][k])
        raise ValueError(f"{path} holds values of another origin ({', '.join(differ)} differ); give replace=True")


def _to_arrow(column: Column) -> pa.Array:
    """Values as an Arrow array, null where unknown; trailing axes as lists of fixed size."""
    import pyarrow as pa

    values = column.values.detach().cpu()
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()  # exact, and every reader knows float32
    unknown = ~column.known.cpu().numpy()
    if values.ndim == 1:
        return pa.array(values.contiguous().numpy(), mask=unknown)
    size = values[0].numel() if len(values) else int(torch.tensor(values.shape[1:]).prod())
    flat = pa.array(values.reshape(-1).contiguous().numpy())
    return pa.FixedSizeListArray.from_arrays(flat, size, mask=pa.array(unknown))


def _rows(address: _Address, values: pa.Array, meta: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    owners = pa.DictionaryArray.from_arrays(pa.array(address.owner.numpy()), pa.array(address.owners, pa.string()))
    index = pa.array(address.number.numpy(), pa.int64())
    schema = pa.schema(
        [("trajectory", pa.string()), ("unit", pa.int64()), ("value", values.type)],
        metadata={_META: json.dumps(meta).encode()},
    )
    return pa.Table.from_arrays([owners.cast(pa.string()), index, values], schema=schema)


def _without(old: pa.Table, new: pa.Table) -> pa.Table:
    """The rows of trajectories that the new table has none for."""
    import pyarrow.compute as pc

    there = pc.is_in(old["trajectory"], value_set=pc.unique(new["trajectory"]))
    return old.filter(pc.invert(there)).cast(new.schema).replace_schema_metadata(new.schema.metadata)


def _write_table(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"not a Parquet file: {error}") from None
    missing = {"trajectory", "unit", "value"} - set(table.column_names)
    if missing:
        raise ValueError(f"expected columns trajectory, unit, value, got {table.column_names}")
    return table


def _meta_of(table: pa.Table, path: Path) -> dict[str, Any]:
    raw = (table.schema.metadata or {}).get(_META)
    if raw is None:
        raise ValueError(f"{path}: no metadata {_META.decode()!r}: level and dtype of the column are not known")
    meta: dict[str, Any] = json.loads(raw)
    return meta


def column_names(folder: str | Path) -> list[str]:
    """Return the names of the columns of a folder, sorted."""
    return sorted(unquote(p.stem) for p in (Path(folder) / "evidence").glob("*.parquet"))


def read_column(folder: str | Path, name: str, batch: Batch, *, on_problem: OnProblem = raise_problem) -> Column:
    """Return a column for the units of a batch; unknown where the file has no row.

    Args:
        folder: of the rollouts.
        name: of the column.
        batch: whose units are wanted; it may hold fewer or more trajectories than the file.
        on_problem: told of rows that fit no unit of a trajectory that is here; they are left out.

    Raises:
        ValueError: the file is no column.
    """
    path = column_path(folder, name)
    table = _read_table(path)
    meta = _meta_of(table, path)
    address = _address(batch, meta["level"])
    at, row = _join(table, address, path.name, on_problem)
    dtype = getattr(torch, meta["dtype"])
    n = len(address.owner)
    values, known = torch.zeros((n, *meta["shape"]), dtype=dtype), torch.zeros(n, dtype=torch.bool)
    there, found = _from_arrow(table["value"].combine_chunks(), meta["shape"])
    at, row = at[there[row]], row[there[row]]
    values[at], known[at] = found[row].to(dtype), True
    return Column(meta["level"], values, known, _provenance(meta["provenance"]))


def _provenance(said: Mapping[str, Any]) -> Provenance:
    """Provenance as written; what a later version added is kept among its parameters."""
    names = {f.name for f in fields(Provenance)}
    unknown = {k: v for k, v in said.items() if k not in names}
    known = {k: v for k, v in said.items() if k in names}
    parameters = {**known.get("parameters", {}), **unknown}
    return Provenance(**{**known, "parameters": parameters, "sees": tuple(known.get("sees", ()))})


def _from_arrow(values: pa.Array, shape: list[int]) -> tuple[Tensor, Tensor]:
    """(known [n], values [n, ...]) of an Arrow array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = torch.from_numpy(values.is_valid().to_numpy(zero_copy_only=False).copy())
    if not shape:
        filled = pc.fill_null(values, False if pa.types.is_boolean(values.type) else 0)
        return known, torch.from_numpy(filled.to_numpy(zero_copy_only=False).copy())
    flat = torch.from_numpy(values.flatten().to_numpy(zero_copy_only=False).copy())  # null lists are left out of it
    out = torch.zeros((len(values), *shape), dtype=flat.dtype)
    out[known] = flat.reshape(-1, *shape)
    return known, out


def _join(table: pa.Table, address: _Address, file: str, on_problem: OnProblem) -> tuple[Tensor, Tensor]:
    """Match rows with units -> (position of the unit, row), without rows of trajectories that are not here."""
    coded = table["trajectory"].combine_chunks().dictionary_encode()
    place = {name: i for i, name in enumerate(address.owners)}
    here = torch.tensor([place.get(name, -1) for name in coded.dictionary.to_pylist()], dtype=torch.int64)
    owner = here[torch.from_numpy(coded.indices.to_numpy(zero_copy_only=False).astype("int64"))] if len(here) else here
    unit = torch.from_numpy(table["unit"].to_numpy().astype("int64"))
    size = torch.bincount(address.owner, minlength=len(address.owners))
    start = torch.searchsorted(address.owner, torch.arange(len(address.owners)))
    fits = (owner >= 0) & (unit >= 0) & (unit < size[owner.clamp_min(0)])
    for name, number, n in _first_misfits(coded, owner, unit, fits, size):
        problem = f"has a value for unit {number}, but the trajectory has {n} of them; the row is left out"
        on_problem(Problem(f"evidence/{file}", None, name, problem))
    row = torch.nonzero(fits).flatten()
    return start[owner[row]] + unit[row], row


def _first_misfits(
    coded: Any, owner: Tensor, unit: Tensor, fits: Tensor, size: Tensor
) -> Iterable[tuple[str, int, int]]:
    """The first misfit of each trajectory."""
    wrong = torch.nonzero((owner >= 0) & ~fits).flatten().tolist()
    first: dict[int, int] = {}
    for i in wrong:
        first.setdefault(int(owner[i]), i)
    return [(coded[i].as_py(), int(unit[i]), int(size[o])) for o, i in first.items()]


# ------------------------------------------------------------------------------------------------------- units


def unit_path(folder: str | Path, name: str) -> Path:
    """Return the file of a unit map."""
    return Path(folder) / "units" / (quote(name, safe=" ") + ".parquet")


def unit_names(folder: str | Path) -> list[str]:
    """Return the names of the unit maps of a folder, sorted."""
    return sorted(unquote(p.stem) for p in (Path(folder) / "units").glob("*.parquet"))


def write_unit(folder: str | Path, name: str, unit: Unit, batch: Batch) -> Path:
    """Write a unit map: for each turn or token of a trajectory the number of its unit there, null where none."""
    import pyarrow as pa

    address = _address(batch, unit.base)
    first = torch.full((len(address.owners),), torch.iinfo(torch.int64).max)
    use = unit.of >= 0
    first.scatter_reduce_(0, address.owner[use], unit.of[use], "amin")
    local = unit.of - torch.where(use, first[address.owner], 0)
    values = pa.array(local.numpy(), mask=(~use).numpy())
    path = unit_path(folder, name)
    table = _rows(address, values, {"name": name, "base": unit.base})
    if path.exists():
        table = pa.concat_tables([_without(_read_table(path), table), table])
    _write_table(path, table)
    return path


def read_unit(folder: str | Path, name: str, batch: Batch, *, on_problem: OnProblem = raise_problem) -> Unit:
    """Return a unit map for a batch; -1 where the file says nothing."""
    path = unit_path(folder, name)
    table = _read_table(path)
    base = _meta_of(table, path)["base"]
    address = _address(batch, base)
    at, row = _join(table, address, path.name, on_problem)
    there, found = _from_arrow(table["value"].combine_chunks(), [])
    local = torch.full((len(address.owner),), -1, dtype=torch.int64)
    at, row = at[there[row]], row[there[row]]
    local[at] = found[row].to(torch.int64)
    count = torch.zeros(len(address.owners), dtype=torch.int64)
    count.scatter_reduce_(0, address.owner, local + 1, "amax")
    before = torch.cumsum(count, 0) - count
    return Unit(base, torch.where(local >= 0, local + before[address.owner], local))


def read_all(
    folder: str | Path, batch: Batch, on_problem: Callable[[Problem], None]
) -> tuple[dict[str, Column], dict[str, Unit]]:
    """Return every column and unit map of a folder for a batch; a file that cannot be read is a problem."""
    units: dict[str, Unit] = {}
    for name in unit_names(folder):
        try:
            unit = read_unit(folder, name, batch, on_problem=on_problem)
            batch = batch.with_unit(name, unit.base, unit.of)
            units[name] = unit
        except (ValueError, KeyError) as error:
            on_problem(Problem(f"units/{unit_path(folder, name).name}", None, None, str(error)))
    columns: dict[str, Column] = {}
    for name in column_names(folder):
        try:
            columns[name] = read_column(folder, name, batch, on_problem=on_problem)
        except (ValueError, KeyError, AttributeError) as error:
            on_problem(Problem(f"evidence/{column_path(folder, name).name}", None, None, str(error)))
    return columns, units
