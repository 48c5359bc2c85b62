"""Keys and values of a batch of rows in one buffer that has room to grow, as a cache of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from workbench.policy.prefixes import KV, join


class Shape(NamedTuple):
    """What keys and values of a model look like."""

    layers: int
    heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device

    def empty(self, rows: int, columns: int) -> KV:
        """Return buffers [layers, rows, heads, columns, dim] that hold anything."""
        make = (self.layers, rows, self.heads, columns)
        keys = torch.empty(*make, self.key_dim, dtype=self.dtype, device=self.device)
        return KV(keys, torch.empty(*make, self.value_dim, dtype=self.dtype, device=self.device))


def probe_shape(model: Any) -> Shape:
    """Run one token to see what the model caches.

    Raises:
        NotImplementedError: some layers remember otherwise (sliding windows, recurrent states).
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    training = model.training
    model.eval()
    with torch.no_grad():
        cache = DynamicCache(config=model.config)
        device = next(model.parameters()).device
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=cache, use_cache=True)
    model.train(training)
    layers: list[Any] = cache.layers
    kinds = {type(layer) for layer in layers}
    sizes = {(tuple(layer.keys.shape), tuple(layer.values.shape)) for layer in layers if hasattr(layer, "keys")}
    if kinds != {DynamicLayer} or len(sizes) != 1:
        raise NotImplementedError(
            f"{type(model).__name__} has layers that do not attend to all tokens alike "
            f"({sorted(k.__name__ for k in kinds)}); this engine needs full attention in every layer: use vLLM for it"
        )
    keys, values = layers[0].keys, layers[0].values
    return Shape(len(layers), keys.shape[1], keys.shape[-1], values.shape[-1], keys.dtype, keys.device)


def causal_mask(real: torch.Tensor, new: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what each of the last `new` columns may see of columns [B, C]: [B, 1, new, C], 0 or -inf.

    A column sees the tokens up to itself. One in a gap sees itself, so that its softmax is defined.
    """
    columns = torch.arange(real.shape[1], device=real.device)
    at = columns[-new:, None]
    seen = (real[:, None, :] & (columns <= at)) | (columns == at)
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, -torch.inf)[:, None]


class Rows:
    """Keys and values of B token sequences: a trunk they share, and side by side what is their own.

    Args:
        buffer: [layers, B, heads, columns, dim], the first `filled` columns in use; gaps hold zeros.
        real: [B, columns] bool, where a row has a token.
        filled: columns in use.
        trunk: the tokens all rows begin with, stored once; None if there are none.
        whole: the buffer with its spare rows at the end; None if it has none.
    """

    def __init__(self, buffer: KV, real: torch.Tensor, filled: int, trunk: KV | None = None, whole: KV | None = None):
        self.buffer, self.real, self.filled, self.trunk = buffer, real, filled, trunk
        self.whole = buffer if whole is None else whole

    @classmethod
    def gather(
        cls, parts: Sequence[Sequence[KV]], shape: Shape, room: int, trunk: KV | None = None, spare: int = 0
    ) -> Rows:
        """Lay what follows the trunk side by side, ending in the same column.

        Args:
            parts: of each row, in order.
            shape: of the keys and values.
            room: columns that may follow.
            trunk: what all rows begin with.
            spare: copies of rows that may follow (`with_copies`).
        """
        lengths = [sum(kv.tokens for kv in row) for row in parts]
        filled = max(lengths)
        whole = shape.empty(len(parts) + spare, filled + room)
        buffer = KV(*(t[:, : len(parts)] for t in whole)) if spare else whole
        real = torch.zeros(len(parts), filled + room, dtype=torch.bool, device=shape.device)
        for n, row in enumerate(parts):
            at = filled - lengths[n]
            real[n, at:filled] = True
            if at:
                buffer.keys[:, n, :, :at] = 0
                buffer.values[:, n, :, :at] = 0
            for kv in row:
                buffer.keys[:, n, :, at : at + kv.tokens] = kv.keys
                buffer.values[:, n, :, at : at + kv.tokens] = kv.values
                at += kv.tokens
        return cls(buffer, real, filled, trunk, whole)

    @classmethod
    def stack(cls, batches: Sequence[Rows]) -> Rows:
        """Put batches with the same trunk below each other; narrower ones get a gap on the left."""
        if len(batches) == 1:
            return batches[0]
        filled = max(b.filled for b in batches)
        rows = sum(len(b) for b in batches)
        first = batches[0].buffer
        buffer = KV(*(t.new_zeros(t.shape[0], rows, t.shape[2], filled, t.shape[4]) for t in first))
        real = batches[0].real.new_zeros(rows, filled)
        at = 0
        for b in batches:
            place = (slice(None), slice(at, at + len(b)), slice(None), slice(filled - b.filled, filled))
            for mine, theirs in zip(buffer, b.buffer, strict=True):
                mine[place] = theirs[:, :, :, : b.filled]
            real[at : at + len(b), filled - b.filled :] = b.real[:, : b.filled]
            at += len(b)
        return cls(buffer, real, filled, batches[0].trunk)

    def __len__(self) -> int:
        return self.real.shape[0]

    def with_copies(self, rows: Sequence[int], room: int) -> Rows:
        """Return all rows, and behind them copies of the named ones, with room for `room` more columns.

        Where the buffer was made for it, only the copies are copied.
        """
        count, columns = len(self) + len(rows), self.real.shape[1]
        if self.whole.keys.shape[1] < count or columns < self.filled + room:
            return self.take([*range(len(self)), *rows], room)
        used, index = slice(0, self.filled), torch.tensor(rows, dtype=torch.long, device=self.real.device)
        buffer = KV(*(t[:, :count] for t in self.whole))
        if rows:
            for t in buffer:
                t[:, len(self) :, :, used] = t[:, index, :, used]
        real = torch.cat([self.real, self.real[index]])
        return Rows(buffer, real, self.filled, self.trunk)

    def take(self, rows: Sequence[int], room: int) -> Rows:
        """Return the named rows (also several times) with room for `room` more columns than now."""
        index = torch.tensor(rows, device=self.real.device)
        columns = self.real.shape[1] if room == 0 else self.filled + room
        used = slice(0, self.filled)
        fresh = [t.new_empty(t.shape[0], len(rows), t.shape[2], columns, t.shape[4]) for t in self.buffer]
        for new, old in zip(fresh, self.buffer, strict=True):
            new[:, :, :, used] = old[:, index, :, used]
        real = self.real.new_zeros(len(rows), columns)
        real[:, used] = self.real[index, used]
        return Rows(KV(*fresh), real, self.filled, self.trunk)

    def extend(self, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Announce columns that are about to be computed.

        Args:
            real: [B, n] bool, which of them hold a token.

        Returns:
            their positions [B, n], and which columns hold a token [B, columns in use + n].
        """
        n = real.shape[1]
        before = self.real[:, : self.filled].sum(1, keepdim=True) + self.trunk_tokens
        positions = (before + real.long().cumsum(1) - 1).clamp(min=0)
        self.real[:, self.filled : self.filled + n] = real
        return positions, self.real[:, : self.filled + n]

    def cache(self) -> Any:
        """Return these rows as a cache of transformers; a forward pass with it writes into this buffer."""
        from transformers.cache_utils import Cache

        layer = _layer_class()
        layers = [layer(self, k) for k in range(self.buffer.keys.shape[0])]
        return Cache(layers=layers)

    def read(self, row: int, start: int, stop: int) -> KV:
        """Return a copy of the tokens of a row (the trunk's count) from its `start`-th to its last, the `stop`-th."""
        first = self.filled - (stop - max(start, self.trunk_tokens))
        if bool(self.real[row, first : self.filled].all()):  # no gap among them
            own = KV(*(t[:, row, :, first : self.filled].clone() for t in self.buffer))
        else:
            columns = self.real[row, : self.filled].nonzero()[:, 0][max(0, start - self.trunk_tokens) :]
            own = KV(*(t[:, row][:, :, columns] for t in self.buffer))
        if self.trunk is None or start >= self.trunk_tokens:
            return own
        return join([self.trunk.part(start, self.trunk_tokens), own])

    @property
    def trunk_tokens(self) -> int:
        """Length of the trunk."""
        return 0 if self.trunk is None else self.trunk.tokens


@lru_cache(maxsize=1)
def _layer_class() -> type:
    """Make the cache layer on first use: transformers is imported only when it is needed."""
    from transformers.cache_utils import DynamicLayer

    class BufferLayer(DynamicLayer):
        """One layer of `Rows`: writes new columns behind the filled ones instead of copying all of them."""

        def __init__(self, rows: Rows, layer: int):
            super().__init__()
            self._buffer = KV(rows.buffer.keys[layer], rows.buffer.values[layer])
            self._rows, self._last = rows, layer == rows.buffer.keys.shape[0] - 1
            self._filled = rows.filled
            self.is_initialized = True
            self.keys, self.values = (t[:, :, : self._filled] for t in self._buffer)

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            stop = self._filled + key_states.shape[2]
            self._buffer.keys[:, :, self._filled : stop] = key_states
            self._buffer.values[:, :, self._filled : stop] = value_states
            self._filled = stop
            if self._last:  # the whole model has run
                self._rows.filled = stop
            self.keys, self.values = (t[:, :, :stop] for t in self._buffer)
            return self.keys, self.values

        def get_seq_length(self) -> int:
            return self._filled

    return BufferLayer
