"""An engine on a causal language model of transformers: sampling with shared prefixes, scoring, new weights.

What a prompt shares with another prompt of the call, or with anything the engine saw since its weights changed, is not
computed again: the worked examples of a group once, the question once, and in a later turn only what came since.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from workbench.policy.attention import attend_with, works_on
from workbench.policy.base import Generation, Scores, Settings
from workbench.policy.kv import Rows, Shape, causal_mask, probe_shape
from workbench.policy.prefixes import KV, PrefixTree, common, join, stems
from workbench.policy.sampling import draw, log_distribution, uniforms
from workbench.policy.scoring import check_spans, scores_of, token_logprobs

__all__ = ["HFEngine", "token_logprobs"]

LEAST_STEM = 48
"""A shared prefix gets a pass of its own if that spares this many tokens: about what a pass costs beside its tokens."""

CROWDED = 7 / 8
"""Finished rows leave when no more than this share goes on: to leave, the others are copied."""


class HFEngine:
    """Sample from and score with a causal model of transformers, in this process.

    Args:
        model: e.g. from `AutoModelForCausalLM`; its layers attend to all tokens before (no sliding windows).
        reuse: keep keys and values of prefixes, across turns and within a call.
        cache_bytes: memory for those kept across calls; the least recently used go first.
        max_tokens: at most this many tokens (padding included) in one forward pass.
        max_rows: at most this many samples at once; more are taken in turn.
        version: version of the weights it starts with.

    Example:
        >>> engine = HFEngine(model)                                                      # doctest: +SKIP
        >>> await engine.generate([[1, 2, 3]], Settings(max_new_tokens=8), seeds=[0])     # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        *,
        reuse: bool = True,
        cache_bytes: int = 1 << 30,
        max_tokens: int = 8192,
        max_rows: int = 128,
        version: int = 0,
    ):
        self.model = model
        self.reuse = reuse
        self.max_tokens, self.max_rows = max_tokens, max_rows
        self.tree = PrefixTree(cache_bytes if reuse else 0)
        self.shape: Shape = probe_shape(model)
        self.shares_trunk = reuse and works_on(model)
        self._version = version
        self.lock = threading.RLock()

    @property
    def version(self) -> int:
        """Version of the weights; `load` raises it."""
        return self._version

    @property
    def positions(self) -> int | None:
        """Most tokens of a sequence the model can read, those it samples included; None where it has no limit."""
        return getattr(self.model.config, "max_position_embeddings", None)

    # -- sampling ----------------------------------------------------------------------------------------

    async def generate(
        self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]
    ) -> list[Generation]:
        """Sample one continuation a prompt; the event loop goes on meanwhile (slow tools of other episodes).

        Args:
            prompts: token ids, at least one each.
            settings: temperature, nucleus, length, stop ids.
            seeds: one a prompt. Equal prompt and seed give an equal sample, whatever the batch, up to rounding: another
                batch sums in another order, which moves log-probs by 1e-6 to 4e-5 in float32 (more in bfloat16)
                and so decides a token now and then, in float32 less than once in 10,000.

        Returns:
            one Generation a prompt, in order.
        """
        return await asyncio.to_thread(self.sample, prompts, settings, seeds)

    def sample(self, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int]) -> list[Generation]:
        """Do what `generate` does, without an event loop."""
        whole = [tuple(int(i) for i in prompt) for prompt in prompts]
        _check(whole, settings, seeds, self.model.config)
        if not whole or settings.max_new_tokens == 0:
            return [Generation((), (), "length", self._version) for _ in whole]
        made: list[Generation] = []
        with self.lock, _inference(self.model):
            for start in range(0, len(whole), self.max_rows):
                few = slice(start, start + self.max_rows)
                made += self._sample(whole[few], settings, seeds[few])
        return made

    def _sample(self, whole: list[tuple[int, ...]], settings: Settings, seeds: Sequence[int]) -> list[Generation]:
        """Compute each different prompt once, then sample all rows behind them."""
        count, order, index = len(whole), list(range(len(whole))), list(range(len(whole)))
        if self.reuse:
            first = {prompt: n for n, prompt in reversed(list(enumerate(whole)))}
            index = [first[prompt] for prompt in whole]
            order = [n for n in order if index[n] == n]  # the different ones in front, copies of them behind
            count = len(order)
            order += [n for n in range(len(whole)) if index[n] != n]
        place = {n: at for at, n in enumerate(order)}
        copies = [place[index[n]] for n in order[count:]]
        logits, rows = self._prefill([whole[n] for n in order[:count]], copies, settings.max_new_tokens)
        sampled = self._decode([whole[n] for n in order], logits, rows, settings, [seeds[n] for n in order])
        return [sampled[place[n]] for n in range(len(whole))]

    def _prefill(self, prompts: list[tuple[int, ...]], copies: list[int], room: int) -> tuple[torch.Tensor, Rows]:
        """Compute what is not known of each prompt.

        Args:
            prompts: different ones, if anything is reused.
            copies: which of them are needed once more.
            room: tokens that will follow.

        Returns:
            the logits after each prompt and each copy [n, V], and their keys and values.
        """
        trunk = self._prefill_stems(prompts)
        logits, batches, again = [], [], set(copies)
        parts = _parts([len(p) for p in prompts], self.max_tokens)
        spare = (len(copies), room) if len(parts) == 1 else (0, 0)
        for part in parts:
            chosen = [prompts[n] for n in part]
            rows, suffixes = self._known([p[:-1] for p in chosen], chosen, trunk, *spare)
            logits.append(self._forward(rows, suffixes, keep=1)[:, -1])
            batches.append(rows)
            for row, n in enumerate(part):
                if n in again:  # the others are remembered with what is sampled behind them
                    self._remember(prompts[n], rows, row)
        whole = torch.cat(logits)
        return torch.cat([whole, whole[copies]]), Rows.stack(batches).with_copies(copies, room)

    def _prefill_stems(self, prompts: list[tuple[int, ...]]) -> KV | None:
        """Compute prefixes that several prompts share, once each, shortest first; return what all share."""
        for _ in range(4 if self.reuse else 0):  # examples, question, turns: deeper sharing is rare, each costs a pass
            known = [self.tree.known(p) for p in prompts]
            found = stems(prompts, known, LEAST_STEM)
            found = [stem for stem in found if self.tree.known(stem) < len(stem)]
            if not found:
                break
            trunk = self._trunk(found)
            rows, suffixes = self._known([s[:-1] for s in found], found, trunk)
            self._forward(rows, suffixes, keep=1)
            for n, stem in enumerate(found):
                self._remember(stem, rows, n)
        return self._trunk(prompts)

    def _trunk(self, prompts: list[tuple[int, ...]]) -> KV | None:
        """Return keys and values of what all prompts begin with, as far as it is known."""
        if not self.shares_trunk or len(prompts) < 2:
            return None
        shared = min(min(common(prompts[0], p), len(p) - 1) for p in prompts)
        length, parts = self.tree.find(prompts[0][:shared])
        return join(parts) if length else None

    def _known(
        self,
        heads: list[tuple[int, ...]],
        prompts: list[tuple[int, ...]],
        trunk: KV | None,
        spare: int = 0,
        room: int = 0,
    ) -> tuple[Rows, list[tuple[int, ...]]]:
        """Gather what the tree knows of each head behind the trunk; return what is left of each prompt to compute.

        `spare` rows and `room` columns more may follow.
        """
        skip = trunk.tokens if trunk else 0
        found = [self.tree.find(head) for head in heads]
        suffixes = [p[max(skip, length) :] for p, (length, _) in zip(prompts, found, strict=True)]
        own = [list(_behind(parts, skip)) for _, parts in found]
        return Rows.gather(own, self.shape, max(len(s) for s in suffixes) + room, trunk, spare), suffixes

    def _forward(self, rows: Rows, suffixes: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Run the suffixes behind the rows (which grow by them); return the logits of the last `keep` tokens."""
        device = self.shape.device
        width = max(len(s) for s in suffixes)
        gaps = [width - len(s) for s in suffixes]  # on the left, so that all end in the same column
        ids = torch.tensor([[0] * gap + list(s) for gap, s in zip(gaps, suffixes, strict=True)], dtype=torch.long)
        real = torch.arange(width) >= torch.tensor(gaps)[:, None]
        positions, columns = rows.extend(real.to(device))
        mask = causal_mask(columns, width, self.shape.dtype) if self.shares_trunk else columns.long()
        with attend_with(self.model, rows.trunk) if self.shares_trunk else nullcontext():
            out = self.model(
                input_ids=ids.to(device),
                attention_mask=mask,
                position_ids=positions,
                past_key_values=rows.cache(),
                use_cache=True,
                logits_to_keep=keep,
            )
        return out.logits

    def _remember(self, tokens: Sequence[int], rows: Rows, row: int) -> None:
        if self.reuse:
            self.tree.add(tokens, lambda start: rows.read(row, start, len(tokens)))

    def _decode(
        self,
        prompts: list[tuple[int, ...]],
        logits: torch.Tensor,
        rows: Rows,
        settings: Settings,
        seeds: Sequence[int],
    ) -> list[Generation]:
        """Sample token by token; who is finished leaves the batch, once enough others are."""
        noise = torch.stack([uniforms(seed, settings.max_new_tokens) for seed in seeds]).to(logits.device)
        stops = set(settings.stop_ids)
        samples = [_Sample([], []) for _ in prompts]
        whose = going = list(range(len(prompts)))  # sample of each row; rows that go on
        for step in range(settings.max_new_tokens):
            logp = log_distribution(logits, settings.temperature, settings.top_p)
            alive = [whose[n] for n in going]
            tokens = draw(logp, noise[alive, step])
            chosen = logp.gather(1, tokens[:, None])[:, 0].tolist()
            for who, token, lp in zip(alive, tokens.tolist(), chosen, strict=True):
                samples[who].ids.append(token)
                samples[who].logprobs.append(min(lp, 0.0))
            last = step + 1 == settings.max_new_tokens
            for n, who in zip(going, alive, strict=True):
                if last or samples[who].ids[-1] in stops:
                    self._remember((*prompts[who], *samples[who].ids[:-1]), rows, n)
            going = [n for n, who in zip(going, alive, strict=True) if samples[who].ids[-1] not in stops]
            if last or not going:
                break
            if len(going) <= CROWDED * len(rows):
                rows, whose = rows.take(going, room=0), [whose[n] for n in going]
                going = list(range(len(going)))
            read = [samples[who].ids[-1:] if n in set(going) else [] for n, who in enumerate(whose)]
            logits = self._forward(rows, read, keep=1)[going, -1]
        return [s.finish(stops, self._version) for s in samples]

    # -- scoring and weights -----------------------------------------------------------------------------

    def score(
        self,
        sequences: Sequence[Sequence[int]],
        spans: Sequence[tuple[int, int]],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        entropy: bool = False,
    ) -> list[Scores]:
        """Score tokens [start, stop) of each sequence given all tokens before each.

        With `reuse`, what the sequences share before their spans, or what is still known of them, is not
        computed again.

        Args:
            sequences: token ids.
            spans: [start, stop) a sequence, start >= 1 (the first token has nothing before it).
            temperature: > 0; the logits are divided by it.
            top_k: also return the k most likely tokens and their log-probs.
            entropy: also return the entropy, in nats.
        """
        check_spans(sequences, spans)
        if temperature <= 0:
            raise ValueError(f"expected a temperature > 0, got {temperature}: a point mass has no scores")
        whole = [tuple(s[:stop]) for s, (_, stop) in zip(sequences, spans, strict=True)]  # nothing behind it counts
        starts = [start for start, _ in spans]
        results: dict[int, Scores] = {}
        with self.lock, _inference(self.model):
            trunk = self._prefill_stems([s[:start] for s, start in zip(whole, starts, strict=True)])
            for part in _parts([len(s) for s in whole], self.max_tokens):
                logits = self._span_logits([whole[n] for n in part], [starts[n] for n in part], trunk)
                for n, rows in zip(part, logits, strict=True):
                    ids = torch.tensor(whole[n][starts[n] :], dtype=torch.long, device=rows.device)
                    results[n] = scores_of(rows, ids, temperature, top_k, entropy)
        return [results[n] for n in range(len(whole))]

    def _span_logits(
        self, sequences: list[tuple[int, ...]], starts: list[int], trunk: KV | None
    ) -> Iterator[torch.Tensor]:
        """Yield the logits [n, V] from which the tokens of each sequence from its start on are predicted."""
        rows, suffixes = self._known(
            [s[: start - 1] for s, start in zip(sequences, starts, strict=True)], sequences, trunk
        )
        counts = [len(s) - start for s, start in zip(sequences, starts, strict=True)]
        logits = self._forward(rows, suffixes, keep=max(counts) + 1)
        for row, count in enumerate(counts):
            yield logits[row, logits.shape[1] - 1 - count : logits.shape[1] - 1]

    def load(self, weights: Mapping[str, torch.Tensor] | None) -> int:
        """Take new weights; what was computed with the old ones is forgotten.

        Args:
            weights: a whole state dict (tied weights once or twice); None if the model was changed in place.
        """
        with self.lock:
            if weights is not None:
                _check_weights(self.model, weights)
                self.model.load_state_dict(weights, strict=False)
            self.tree.clear()
            self._version += 1
            return self._version


@dataclass
class _Sample:
    ids: list[int]
    logprobs: list[float]

    def finish(self, stops: set[int], version: int) -> Generation:
        reason: Literal["stop", "length"] = "stop" if self.ids[-1] in stops else "length"
        return Generation(tuple(self.ids), tuple(self.logprobs), reason, version)


def _behind(parts: Sequence[KV], skip: int) -> Iterator[KV]:
    """Yield what follows the first `skip` tokens."""
    for part in parts:
        if skip < part.tokens:
            yield part.part(skip, part.tokens)
        skip = max(0, skip - part.tokens)


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    """No gradient, no dropout; the model's mode comes back."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _parts(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Cut a batch into parts whose padded size fits."""
    parts: list[list[int]] = [[]] if lengths else []
    longest = 0
    for n, length in enumerate(lengths):
        longest = max(longest, length)
        if parts[-1] and (len(parts[-1]) + 1) * longest > max_tokens:
            parts.append([])
            longest = length
        parts[-1].append(n)
    return parts


def _check(prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int], config: Any) -> None:
    if len(prompts) != len(seeds):
        raise ValueError(f"expected one seed a prompt: {len(prompts)} prompts, {len(seeds)} seeds")
    limit = getattr(config, "max_position_embeddings", None)
    for n, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {n} is empty; begin it with at least one token")
        if limit and len(prompt) + settings.max_new_tokens > limit:
            raise ValueError(
                f"prompt {n} has {len(prompt)} tokens; with max_new_tokens={settings.max_new_tokens} that is more "
                f"than the {limit} positions of the model; shorten the context or lower max_new_tokens"
            )


def _check_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse a state dict that is not this model's; the second name of a tied weight may be missing."""
    own = model.state_dict()
    given = {own[name].data_ptr() for name in weights if name in own}
    missing = [name for name, value in own.items() if name not in weights and value.data_ptr() not in given]
    strange = [name for name in weights if name not in own]
    if missing or strange:
        raise ValueError(
            f"expected the whole state dict of {type(model).__name__}: {len(missing)} missing (first {missing[:3]}), "
            f"{len(strange)} unknown (first {strange[:3]}); merge adapters before loading, or change the model in "
            "place and call load(None)"
        )
