"""The gold-answer probe in one packed pass, against re-forwarding every prefix: SmolLM2, float32.

    python benchmarks/probe.py [--turns 4 8 16] [--repeats 5] [--threads 2] [--tables a b]

(a) one rollout: 120-token prompt, 60 tokens a turn, a 4-token answer after the prompt and after every turn. The plain
    way is one causal forward a prefix. Both ways run the same model and compute only the logits they need.
(b) a group: rollouts that share a 260-token prompt. Ways to share it: packed with the group; packed rollout by
    rollout; everything in one dense masked pass; the prompt's keys cached once and the rollouts behind it as
    rows of a padded batch.
(c) the same group by the engine, with nothing known, and with the keys it still has right after sampling the group.

Prints; asserts nothing about time. The ways take turns within one process. A time is the best of the repeats; `cpu` is
processor time, which says more where others use the machine too. A token is one that goes through the model.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from workbench.policy.base import Settings
from workbench.policy.hf import HFEngine
from workbench.policy.packed import packed_logprobs, reforward_logprobs
from workbench.policy.token_tree import Pack, pack, tree_mask

Scores = list[torch.Tensor]
ANSWER = 4


class Job(NamedTuple):
    """Sequences to score, and which rollout each belongs to."""

    sequences: list[list[int]]
    spans: list[tuple[int, int]]
    owner: list[int]
    prompt: int

    def of(self, rollout: int) -> tuple[list[list[int]], list[tuple[int, int]]]:
        """Return the sequences and spans of one rollout."""
        own = [n for n, one in enumerate(self.owner) if one == rollout]
        return [self.sequences[n] for n in own], [self.spans[n] for n in own]


def make_job(vocab: int, prompt: int, rollouts: Sequence[Sequence[int]], seed: int = 0) -> Job:
    """Return rollouts (the token counts of their turns) of random tokens, probed after the prompt and every turn."""
    draw = random.Random(seed)
    words: Callable[[int], list[int]] = lambda n: [draw.randrange(3, vocab) for _ in range(n)]  # noqa: E731
    head, answer = words(prompt), words(ANSWER)
    sequences, owner = [], []
    for number, turns in enumerate(rollouts):
        trunk = list(head)
        for size in (0, *turns):
            trunk = trunk + words(size)
            sequences.append(trunk + answer)
            owner.append(number)
    return Job(sequences, [(len(s) - ANSWER, len(s)) for s in sequences], owner, prompt)


def expanded_logprobs(model: Any, job: Job) -> Scores:
    """Score a group with its prompt cached once: the rollouts' own trees are the rows of one padded batch."""
    from transformers import DynamicCache

    skip = job.prompt - 1  # the prompt's last token predicts, so every row computes it
    groups = [job.of(n) for n in range(max(job.owner) + 1)]
    trees = [pack([s[skip:] for s in ids], [(a - skip, b - skip) for a, b in spans]) for ids, spans in groups]
    width = max(map(len, trees))
    ids, places, mask = _rows(trees, width, skip)
    with torch.inference_mode():
        cache = DynamicCache()
        model(torch.tensor([job.sequences[0][:skip]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(trees))
        hidden = model.get_decoder()(
            ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
        ).last_hidden_state
        scores: Scores = []
        for row, tree in enumerate(trees):
            logits = model.get_output_embeddings()(hidden[row, tree.row]).float()
            picked = torch.log_softmax(logits, -1)[torch.arange(len(tree.row)), tree.target]
            scores += picked.split(tree.counts)
    return scores


def _rows(trees: list[Pack], width: int, skip: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids, places = torch.zeros(len(trees), width, dtype=torch.long), torch.zeros(len(trees), width, dtype=torch.long)
    mask = torch.full((len(trees), 1, width, skip + width), torch.finfo(torch.float32).min)
    mask[..., :skip] = 0
    for row, tree in enumerate(trees):
        n = len(tree)
        ids[row, :n], places[row, :n] = tree.tokens, tree.depth + skip
        own = tree_mask(tree.end, torch.arange(0), 0, n, torch.float32)
        mask[row, 0, :n, skip : skip + n] = own[0, 0]
    return ids, places, mask


# ---------------------------------------------------------------------------------------------- measuring


class Way(NamedTuple):
    """One way to score: a name, the tokens it forwards, the work, and what is done before it, unmeasured."""

    name: str
    tokens: int
    work: Callable[[], Scores]
    before: Callable[[], Any] = lambda: None


class Timed(NamedTuple):
    """Best of the repeats, in seconds, and the largest difference from the first way."""

    wall: float
    cpu: float
    difference: float


def measure(ways: Sequence[Way], repeats: int) -> list[Timed]:
    """Run the ways in turn, `repeats` times, after one unmeasured round of all but the first (the slow one)."""
    for way in ways[1:]:
        way.before()
        way.work()
    walls: list[list[float]] = [[] for _ in ways]
    cpus: list[list[float]] = [[] for _ in ways]
    scores: list[Scores] = [[] for _ in ways]
    for _ in range(repeats):
        for n, way in enumerate(ways):
            way.before()
            wall, cpu = time.perf_counter(), time.process_time()
            scores[n] = way.work()
            walls[n].append(time.perf_counter() - wall)
            cpus[n].append(time.process_time() - cpu)
    gap = [max(float((a - b).abs().max()) for a, b in zip(scores[0], one, strict=True)) for one in scores]
    return [Timed(min(w), min(c), g) for w, c, g in zip(walls, cpus, gap, strict=True)]


def one_rollout(model: Any, turns: Sequence[int], repeats: int) -> None:
    """Print table (a)."""
    print("(a) one rollout, every turn probed")
    print(
        f"{'turns':>6} {'plain':>9} {'tokens':>7} {'packed':>8} {'tokens':>7} {'time x':>7} {'cpu x':>7} "
        f"{'token x':>8} {'time/token':>11} {'cpu/token':>10} {'difference':>11}"
    )
    for count in turns:
        job = make_job(model.config.vocab_size, 120, [[60] * count])
        plain, ours = _plain(model, job), _packed(model, job)
        slow, fast = measure([plain, ours], repeats)
        ratio, time_x, cpu_x = plain.tokens / ours.tokens, slow.wall / fast.wall, slow.cpu / fast.cpu
        print(
            f"{count:>6} {slow.wall:>7.2f} s {plain.tokens:>7,} {fast.wall:>6.2f} s {ours.tokens:>7,} {time_x:>7.2f} "
            f"{cpu_x:>7.2f} {ratio:>8.2f} {time_x / ratio:>11.2f} {cpu_x / ratio:>10.2f} {fast.difference:>11.1e}",
            flush=True,
        )


def groups(model: Any, repeats: int) -> None:
    """Print tables (b) and (c)."""
    draw = random.Random(1)
    ragged = [[draw.randint(20, 100) for _ in range(draw.randint(1, 4))] for _ in range(8)]
    shapes = {"4 rollouts x 3 turns of 60": [[60] * 3] * 4, "8 ragged: 1-4 turns of 20-100": ragged}
    for name, rollouts in shapes.items():
        job = make_job(model.config.vocab_size, 260, rollouts)
        ways = _group_ways(model, job)
        print(
            f"(b, c) {name}, 260-token prompt shared\n{'':>28} {'seconds':>8} {'cpu':>7} {'tokens':>7} {'plain x':>8} "
            f"{'token x':>8} {'difference':>11}"
        )
        found = measure(ways, repeats)
        for way, timed in zip(ways, found, strict=True):
            print(
                f"{way.name:>28} {timed.wall:>8.2f} {timed.cpu:>7.2f} {way.tokens:>7,} "
                f"{found[0].wall / timed.wall:>8.2f} {ways[0].tokens / way.tokens:>8.2f} {timed.difference:>11.1e}",
                flush=True,
            )


def _plain(model: Any, job: Job) -> Way:
    tokens = sum(stop - 1 for _, stop in job.spans)
    return Way("plain, prefix by prefix", tokens, lambda: reforward_logprobs(model, job.sequences, job.spans))


def _packed(model: Any, job: Job, name: str = "packed", **settings: Any) -> Way:
    tokens = len(pack(job.sequences, job.spans))
    return Way(name, tokens, lambda: packed_logprobs(model, job.sequences, job.spans, **settings))


def _group_ways(model: Any, job: Job) -> list[Way]:
    alone = [job.of(n) for n in range(max(job.owner) + 1)]
    rows = [len(pack(*one)) for one in alone]
    return [
        _plain(model, job),
        Way(
            "packed, rollout by rollout", sum(rows), lambda: [s for one in alone for s in packed_logprobs(model, *one)]
        ),
        _packed(model, job, "one dense pass", limit=1 << 20),
        Way(
            "prompt cached, padded rows",
            job.prompt - 1 + len(rows) * (max(rows) - job.prompt + 1),
            lambda: expanded_logprobs(model, job),
        ),
        _packed(model, job),
        _by_engine(model, job, known=False),
        _by_engine(model, job, known=True),
    ]


def _by_engine(model: Any, job: Job, *, known: bool) -> Way:
    """Score by an engine that knows nothing, or the rollouts' own tokens and no forced answer."""
    engine = HFEngine(model)
    contexts = [s[:-ANSWER] for s in job.sequences]

    def prepare() -> None:
        engine.tree.clear()
        if known:
            engine.sample([[*c, 0] for c in contexts], Settings(max_new_tokens=1), [0] * len(contexts))

    tokens = ANSWER * len(contexts) if known else len(pack(job.sequences, job.spans))
    name = "engine, keys known" if known else "engine, nothing known"
    return Way(name, tokens, lambda: [s.logprobs for s in engine.score(job.sequences, job.spans)], prepare)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="*", default=[4, 8, 16])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--tables", nargs="*", choices=["a", "b"], default=["a", "b"], help="b prints c as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    from workbench import policy

    model = policy.load(options.policy).engine.model  # type: ignore[attr-defined]
    print(f"{options.policy}, {model.dtype}, {options.threads} threads, best of {options.repeats}")
    if "a" in options.tables:
        one_rollout(model, options.turns, options.repeats)
    if "b" in options.tables:
        groups(model, options.repeats)


if __name__ == "__main__":
    main()
