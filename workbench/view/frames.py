"""Data frames of whatever text there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def framed(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return columns as a data frame; text with halves of surrogate pairs, which Arrow cannot hold, as objects.

    Args:
        columns: values by name of the column.

    Example:
        >>> framed({"id": [chr(0xD800)], "n": [1]})["n"].sum()
        np.int64(1)
    """
    import pandas as pd

    try:
        return pd.DataFrame(dict(columns))
    except UnicodeEncodeError:
        kept = [pd.Series(list(values), dtype=_kind(values)) for values in columns.values()]
        out = pd.DataFrame(dict(enumerate(kept)))
        out.columns = pd.Index(list(columns), dtype=object)
        return out


def _kind(values: Sequence[Any]) -> type | None:
    return object if any(isinstance(v, str) for v in values) else None
