"""Scores of a catalogue = language model + neighbours + texts, cold items placed by texts; each part can be asked
alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..model.recmodel import RecModel
from .cold import place_cold
from .effects import Effects
from .engine import Engine, States
from .neighbours import Neighbours
from .texts import Texts

SCORES_AT_A_TIME = 2**25  # scores held at a time: 128 MiB

Part = Literal["language model", "neighbours", "texts", "cold items"]
PARTS: tuple[Part, ...] = ("language model", "neighbours", "texts", "cold items")


@dataclass
class Counts:
    """What is known of a data set's training part beside the language model: `neighbours` and `texts` add to the scores
    of items, `effects` to those of outcomes; None if there are none. attributes: those of items that `content_features`
    compares; None if answers have no such features."""

    neighbours: Neighbours | None = None
    effects: Effects | None = None
    texts: Texts | None = None
    attributes: tuple[str, ...] | None = None

    def to(self, device: torch.device) -> "Counts":
        """The counts on a device."""
        for part in (self.neighbours, self.effects, self.texts):
            if part is not None:
                part.to(device)
        return self

    def extend(self, n: int) -> None:
        """Add n items without training interactions."""
        for part in (self.neighbours, self.effects):
            if part is not None:
                part.extend(n)


@dataclass(frozen=True)
class Ranking:
    """The best items of one state: catalogue index, score and probability, each (k,) or shorter, best first."""

    index: np.ndarray
    score: np.ndarray
    probability: np.ndarray


class Scorer(Engine):
    """An Engine with the counts of each data set: scores and lists as they are served, whole or by part.

    counts: by data set; a missing one adds nothing.
    """

    def __init__(
        self,
        model: RecModel,
        counts: Mapping[str, Counts] | None = None,
        batch_tokens: int = 4_096,
        prefix_bytes: int = 0,
    ) -> None:
        super().__init__(model, batch_tokens, prefix_bytes)
        self.counts = {name: Counts() for name in model.names} | dict(counts or {})

    def extend(self, dataset: str, text: Tensor) -> None:
        """Add items to a catalogue that have nothing but texts: text vectors (n, width), not centred."""
        self.model.rows_of(dataset).extend(text)
        self.counts[dataset].extend(len(text))
        self.forget_rows(dataset)

    def reword(self, dataset: str, index: Sequence[int], text: Tensor) -> None:
        """Give items of a catalogue, by index, other texts: vectors (n, width), not centred."""
        self.model.rows_of(dataset).reword(self.places(index), text)
        self.refresh()  # histories that were read have the old rows of these items

    @torch.inference_mode()
    def item_scores(
        self,
        states: States,
        dataset: str,
        histories: Sequence[np.ndarray],
        question: str = "next_item",
        parts: Sequence[Part] = PARTS,
    ) -> Tensor:
        """Exact scores (n, items) of the whole catalogue, the sum of some parts.

        histories: the items of each state's history (catalogue indices oldest first, -1 for none; with the question
        `basket` its items come last), whose neighbours and texts add to the scores, and among whose other items the
        cold ones are placed (`place_cold`).
        """
        counts, catalogue = self.counts[dataset], self.model.rows_of(dataset)
        texts = counts.texts
        scores = self.added(counts, dataset, histories, question, parts)
        if model := "language model" in parts:
            scores += self.model_scores(states, dataset)
        if "cold items" in parts and not catalogue.warm.all() and catalogue.warm.any():
            by_text = self.model_scores(states, dataset, text_alone=True) if model else None
            cold = by_text
            if "texts" in parts and texts is not None:
                cold = texts.cold_scores(catalogue, histories, question, by_text)
            if cold is not None:
                place_cold(scores, cold, catalogue.warm, histories)
        return scores

    @torch.inference_mode()
    def added(
        self,
        counts: Counts,
        dataset: str,
        histories: Sequence[np.ndarray],
        question: str,
        parts: Sequence[Part] = PARTS,
    ) -> Tensor:
        """What neighbours and texts, those of them that are among the parts, add to the scores (n, items) of histories,
        as in `item_scores`."""
        catalogue = self.model.rows_of(dataset)
        scores = catalogue.bias.new_zeros(len(histories), len(catalogue.warm))
        if "neighbours" in parts and counts.neighbours is not None and counts.neighbours.adds(question):
            scores += counts.neighbours(histories, question)
        if "texts" in parts and counts.texts is not None and counts.texts.adds(question):
            scores += counts.texts(catalogue, histories, question)
        return scores

    @torch.inference_mode()
    def rank(
        self,
        states: States,
        dataset: str,
        k: int,
        excluded: Sequence[np.ndarray],
        histories: Sequence[np.ndarray],
        *,
        allowed: np.ndarray | None = None,
        temperature: float = 1.0,
        question: str = "next_item",
        items: int | None = None,
    ) -> list[Ranking]:
        """The k best items of the whole catalogue for each state (n, width); equal scores go by catalogue index.

        excluded: per state the items that cannot appear; the probability is a softmax over the others. histories and
        question: as in `item_scores`. allowed: (items,) bool, further limits the list but not the probability; None:
        all. items: how many there were when the question was made, since some may have been added later.
        """
        rankings = []
        items = items or self.item_rows(dataset)[0].shape[0]
        masked = None if allowed is None else torch.as_tensor(~allowed, device=states.device)
        step = max(1, SCORES_AT_A_TIME // items)
        for start in range(0, len(states), step):
            part = slice(start, start + step)
            scores = self.item_scores(states[part], dataset, histories[part], question)[:, :items]
            for row, index in zip(scores, excluded[part], strict=True):
                row[torch.as_tensor(index, device=row.device, dtype=torch.long)] = -torch.inf
            total = torch.logsumexp(scores / temperature if temperature != 1.0 else scores, 1).double().cpu().numpy()
            if masked is not None:
                scores.masked_fill_(masked, -torch.inf)
            for row, lowest, norm in zip(scores, scores.topk(min(k, items), 1).values[:, -1], total, strict=True):
                # more than k if scores are equal
                candidates = torch.nonzero((row >= lowest) & (row > -torch.inf))[:, 0]
                score = row[candidates].double().cpu().numpy()
                best = np.lexsort((candidates.cpu().numpy(), -score))[:k]
                probability = np.exp(score[best] / temperature - norm)
                rankings.append(Ranking(candidates.cpu().numpy()[best], score[best], probability))
        return rankings
