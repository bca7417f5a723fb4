"""A trained model answering: hidden states of many rows at once, and exact scores over the allowed answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from ..model.batching import Batch, batches_by_length, collate
from ..model.recmodel import RecModel, read_states
from ..tasks.rows import Row
from .prefixes import LEAST, Prefix, PrefixCache, joined, prefix_of

States = Tensor  # hidden states (reads, width), float32
FEW = 8  # so many rows are read one by one, each after the part of it that is known
ROWS_AT_A_TIME = 65_536  # item rows computed at a time
SCORES_AT_A_TIME = 2**25  # scores held at a time: 128 MiB
COLD_SHARE = 0.1  # of the first of a list, about, at most


@dataclass(frozen=True)
class Ranking:
    """The best items of one state: catalogue index, score and probability, each (k,) or shorter, best first."""

    index: np.ndarray
    score: np.ndarray
    probability: np.ndarray


class Engine:
    """Scores rows with a model in evaluation mode; item rows are computed once and kept until `refresh`.

    prefix_bytes: memory for the histories read last. 0 reads every row anew, as evaluation does while a model trains.
    """

    def __init__(self, model: RecModel, batch_tokens: int = 4_096, prefix_bytes: int = 0) -> None:
        self.model = model
        self.batch_tokens = batch_tokens
        self.prefixes = PrefixCache(prefix_bytes)
        self._rows: dict[tuple[str, bool], tuple[Tensor, Tensor]] = {}

    def refresh(self) -> None:
        """Forget the item rows and the histories, since the model has changed."""
        self._rows.clear()
        self.prefixes.clear()

    def places(self, index: Sequence[int]) -> Tensor:
        """Catalogue indices as the model takes them."""
        return torch.as_tensor(index, device=self.model.device)

    def forget_rows(self, dataset: str) -> None:
        """Forget the item rows of a catalogue, since it has grown: no history that was read has its new items."""
        for key in [k for k in self._rows if k[0] == dataset]:
            del self._rows[key]

    @torch.inference_mode()
    def item_rows(self, dataset: str, text_alone: bool = False) -> tuple[Tensor, Tensor]:
        """Rows (items, width) and biases (items,) of a catalogue; text_alone: as if nobody had taken any of them."""
        if (dataset, text_alone) not in self._rows:
            catalogue = self.model.rows_of(dataset)
            n, width = catalogue.residual.shape
            keep = torch.zeros(n, device=catalogue.residual.device) if text_alone else None
            if n <= ROWS_AT_A_TIME:
                self._rows[dataset, text_alone] = catalogue(None, keep)
            else:
                rows, bias = catalogue.residual.new_empty(n, width), catalogue.bias.new_empty(n)
                for part in torch.arange(n, device=rows.device).split(ROWS_AT_A_TIME):
                    rows[part], bias[part] = catalogue(part, keep)
                self._rows[dataset, text_alone] = rows, bias
        return self._rows[dataset, text_alone]

    @torch.inference_mode()
    def states(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> States:
        """Hidden states (reads, width) float32 at every row's `target_at`, in the order of the rows.

        progress: called with the rows read so far and the rows in all.
        """
        if self.model.training:
            self.model.eval()
        if 0 < len(rows) <= FEW and self.remembers:
            return self.read_on(rows)
        return self.read_anew(rows, progress)

    @torch.inference_mode()
    def read_anew(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> States:
        """As `states`, whatever is known of the rows' histories, none of which are kept."""
        counts = np.asarray([len(r.target_at) for r in rows])
        starts = np.concatenate([[0], np.cumsum(counts)])
        width = self.model.outcome_rows.shape[1]
        out = torch.empty(int(starts[-1]), width, device=self.model.device)
        done = 0
        by_dataset: dict[str, list[int]] = {}
        for n, row in enumerate(rows):
            by_dataset.setdefault(row.dataset, []).append(n)
        for dataset, members in by_dataset.items():
            items = self.item_rows(dataset)[0] if dataset in self.model.catalogue_of else None
            lengths = [len(rows[n].tokens) for n in members]
            for group in batches_by_length(lengths, self.batch_tokens):
                chosen = [members[n] for n in group]
                fields = collate([rows[n] for n in chosen], self.model.names.index(dataset), self.model.split)
                batch = Batch.from_fields({k: v.to(self.model.device) for k, v in fields.items()})
                read = read_states(self.model.states(batch, items), batch).float()
                places = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in chosen])
                out[torch.as_tensor(places, device=out.device)] = read
                done += len(chosen)
                if progress is not None:
                    progress(done, len(rows))
        return out

    @property
    def remembers(self) -> bool:
        """Whether histories that were read are kept."""
        return self.prefixes.limit > 0 and can_read_on(self.model)

    def unread(self, row: Row) -> int:
        """Tokens of a row that must go through the backbone, since they are not known from before."""
        known, start = self._known(row)
        return 0 if known is not None and start == len(row.tokens) else len(row.tokens) - start

    @torch.inference_mode()
    def read_on(self, rows: Sequence[Row]) -> States:
        """As `states`; what is known of the rows' histories does not go through the backbone, and the histories are
        kept. Rows of like length are read together."""
        found: list[States | None] = [None] * len(rows)
        starts = []
        for n, row in enumerate(rows):
            known, start = self._known(row)
            starts.append(start)
            self.prefixes.hits += start > 0
            self.prefixes.misses += start == 0
            if known is not None and start == len(row.tokens):
                found[n] = known.last[None]  # the same bits as the first time
        by_dataset: dict[tuple[str, bool], list[int]] = {}
        for n, row in enumerate(rows):
            if found[n] is None:
                by_dataset.setdefault((row.dataset, starts[n] > 0), []).append(n)
        for members in by_dataset.values():
            for group in batches_by_length([len(rows[n].tokens) - starts[n] for n in members], self.batch_tokens):
                chosen = [members[n] for n in group]
                for n, own in zip(chosen, self._read_after([rows[n] for n in chosen]), strict=True):
                    found[n] = own
        return torch.cat([own for own in found if own is not None])

    def _known(self, row: Row) -> tuple[Prefix | None, int]:
        """What is known of a row's history, and how many tokens of the row need not be read; all of them where only the
        end of the history is asked for."""
        history = row.tokens[: row.segment.count(0)]
        known = self.prefixes.longest(row.dataset, history)
        if known is None:
            return None, 0
        if row.target_at == [known.length - 1] and known.length == len(row.tokens):
            return known, known.length
        return known, min(known.length, *row.target_from)

    def _read_after(self, rows: Sequence[Row]) -> list[States]:
        """States of rows of one data set, all or none of which begin with what is known; padded to one length of the
        known part and one of the part that is read."""
        dataset = rows[0].dataset
        items = self.item_rows(dataset)[0] if dataset in self.model.catalogue_of else None
        known, starts = zip(*(self._known(row) for row in rows), strict=True)
        fields = collate(rows, self.model.names.index(dataset))
        batch = Batch.from_fields({k: v.to(self.model.device) for k, v in fields.items()})
        tokens, position, mask, cache = batch.tokens, batch.position, batch.mask, DynamicCache()
        width = max(starts)
        if width:
            tokens, position, mask, cache = self._after(batch, [len(r.tokens) for r in rows], known, starts)
        hidden = self.model.hidden(
            self.model.embed(tokens, dataset, items), position, mask, cache=cache
        ).last_hidden_state
        begin = torch.as_tensor(starts, device=hidden.device)[batch.target_row]
        begun = replace(batch, target_from=batch.target_from - begin, target_at=batch.target_at - begin)
        read = read_states(hidden, begun).float().split([len(r.target_at) for r in rows])
        for n, (row, before, start) in enumerate(zip(rows, known, starts, strict=True)):
            history = row.tokens[: row.segment.count(0)]
            if len(history) >= LEAST and (before is None or before.length < len(history)):
                last = hidden[n, len(history) - 1 - start].float().clone()
                self.prefixes.keep(dataset, history, prefix_of(cache, n, start, width, len(history), last), before)
        return list(read)

    def _after(
        self, batch: Batch, lengths: Sequence[int], known: Sequence[Prefix], starts: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, DynamicCache]:
        """Tokens (rows, read), positions and mask (rows, 1, read, known + read) of what comes after the known parts,
        and these as a cache."""
        width, read = max(starts), max(n - s for n, s in zip(lengths, starts, strict=True))
        start = torch.as_tensor(starts, device=batch.tokens.device)[:, None]
        place = (start + torch.arange(read, device=start.device)).clamp(max=batch.tokens.shape[1] - 1)
        position = place if batch.position is None else batch.position.gather(1, place)
        if batch.mask is None:
            at = torch.arange(batch.tokens.shape[1], device=start.device)
            full = (at[:, None] >= at[None, :]).expand(len(starts), -1, -1)
        else:
            full = batch.mask[:, 0]
        rows = full.gather(1, place[:, :, None].expand(-1, -1, full.shape[2]))
        before = torch.arange(width, device=start.device)
        old = rows[:, :, :width] & (before < start)[:, None]
        new = rows.gather(2, place[:, None, :].expand(-1, read, -1))
        at = torch.arange(read, device=start.device)
        new &= at < torch.as_tensor(lengths, device=start.device)[:, None, None] - start[:, :, None]
        new |= at[:, None] == at  # what is padding looks at itself, lest nothing be looked at
        return batch.tokens.gather(1, place), position, torch.cat([old, new], 2)[:, None], joined(known, starts, width)

    @torch.inference_mode()
    def item_scores(
        self,
        states: States,
        dataset: str,
        histories: Sequence[np.ndarray] | None = None,
        question: str = "next_item",
    ) -> Tensor:
        """Exact scores (n, items) of the whole catalogue.

        histories: the items of each state's history (catalogue indices oldest first, -1 for none; with the question
        `basket` its items come last), whose neighbours add to the scores, and among whose other items the cold ones are
        placed (`place_cold`); None: the scores are those that are trained.
        """
        rows, bias = self.item_rows(dataset)
        catalogue = self.model.rows_of(dataset)
        scale = float(catalogue.log_scale.exp())
        scores = torch.addmm(bias, states, rows.t(), alpha=scale)
        if histories is None:
            return scores
        if catalogue.neighbours is not None and catalogue.neighbours.adds(question):
            scores += catalogue.neighbours(histories, question)
        if not catalogue.warm.all() and catalogue.warm.any():
            rows, bias = self.item_rows(dataset, text_alone=True)
            by_text = torch.addmm(bias, states, rows.t(), alpha=scale)
            place_cold(scores, by_text, catalogue.warm, histories)
        return scores

    @torch.inference_mode()
    def rank(
        self,
        states: States,
        dataset: str,
        k: int,
        closed: Sequence[np.ndarray],
        allowed: np.ndarray | None = None,
        temperature: float = 1.0,
        histories: Sequence[np.ndarray] | None = None,
        question: str = "next_item",
        items: int | None = None,
    ) -> list[Ranking]:
        """The k best items of the whole catalogue for each state (n, width); equal scores go by catalogue index.

        closed: per state the items that cannot appear; the probability is a softmax over the others. allowed: (items,)
        bool, further limits the list but not the probability; None: all. histories and question: as in `item_scores`.
        items: how many there were when the question was made, where some may have been added since.
        """
        found = []
        items = items or self.item_rows(dataset)[0].shape[0]
        barred = None if allowed is None else torch.as_tensor(~allowed, device=states.device)
        step = max(1, SCORES_AT_A_TIME // items)
        for start in range(0, len(states), step):
            known = None if histories is None else histories[start : start + step]
            scores = self.item_scores(states[start : start + step], dataset, known, question)[:, :items]
            for own, index in zip(scores, closed[start : start + step], strict=True):
                own[torch.as_tensor(index, device=own.device, dtype=torch.long)] = -torch.inf
            total = torch.logsumexp(scores / temperature if temperature != 1.0 else scores, 1).double().cpu().numpy()
            if barred is not None:
                scores.masked_fill_(barred, -torch.inf)
            for own, least, of in zip(scores, scores.topk(min(k, items), 1).values[:, -1], total, strict=True):
                among = torch.nonzero((own >= least) & (own > -torch.inf))[:, 0]  # more than k where scores are equal
                score = own[among].double().cpu().numpy()
                best = np.lexsort((among.cpu().numpy(), -score))[:k]
                found.append(Ranking(among.cpu().numpy()[best], score[best], np.exp(score[best] / temperature - of)))
        return found

    @torch.inference_mode()
    def outcome_scores(self, states: States, dataset: str, task: str) -> Tensor:
        """Scores (n, answers) of a task's answers."""
        return self.model.group_scores(states, self.model.vocabulary.group(dataset, task))


def place_cold(scores: Tensor, by_text: Tensor, warm: Tensor, histories: Sequence[np.ndarray]) -> None:
    """Give each cold item the place among a user's warm items that it has where all are judged by their texts alone.

    scores: (n, items), in which those of cold items are replaced. by_text: (n, items). warm: (items,) bool. Items of
    the history (catalogue indices, -1 for none) are not among those it is placed with. Quantile mapping: scores of the
    same rank correspond, with linear interpolation between them; beyond the first and the last, differences by text
    count. Texts alone spread scores less than what is known of items does: without this no cold item would come first.
    Where more than COLD_SHARE of the items are cold, places are lowered so that this is their share of the first.
    """
    among = warm.repeat(len(scores), 1)
    for own, history in zip(among, histories, strict=True):
        own[torch.as_tensor(history[history >= 0], device=own.device, dtype=torch.long)] = False
    among |= warm & ~among.any(1, keepdim=True)  # who has every warm item
    order_text = by_text.masked_fill(~among, -torch.inf).sort(1).values
    order = scores.masked_fill(~among, -torch.inf).sort(1).values
    cold = torch.nonzero(~warm)[:, 0]
    own = by_text[:, cold].contiguous()
    last = scores.shape[1] - 1
    first = (~among).sum(1, keepdim=True)  # place of the lowest of them

    above = torch.searchsorted(order_text, own).clamp(max=last).maximum(first)
    below = (above - 1).maximum(first)
    low, high = order_text.gather(1, below), order_text.gather(1, above)
    place = below + torch.where(high > low, (own - low) / (high - low), 0).clamp(0, 1).double()
    odds = len(cold) / int(warm.sum()) / (COLD_SHARE / (1 - COLD_SHARE))
    place = first + (last - first) * ((place - first) / (last - first).clamp(min=1)) ** max(1.0, odds)

    below = place.long()
    mapped = torch.lerp(order.gather(1, below), order.gather(1, (below + 1).clamp(max=last)), (place - below).float())
    beyond = (own - order_text[:, -1:]).clamp_min(0) + (own - order_text.gather(1, first)).clamp_max(0)
    scores[:, cold] = mapped + beyond


def can_read_on(model: RecModel) -> bool:
    """Whether reading on after a cached history gives what reading the whole row gives: so it is with attention, not
    with models that carry a state, nor with an encoder."""
    return model.split is None and not getattr(model.backbone, "_is_stateful", False)
