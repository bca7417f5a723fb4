"""A trained model reading: hidden states of many rows at once, and what the language model alone scores by them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from ..model.batching import Batch, batches_by_length, collate
from ..model.recmodel import RecModel, read_states
from ..rows.row import Row
from .prefixes import LEAST, Prefix, PrefixCache, joined, prefix_of

States = Tensor  # hidden states (reads, width), float32
FEW = 8  # so many rows are read one by one, each after the part of it that is known
ROWS_AT_A_TIME = 65_536  # item rows computed at a time


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
    def model_scores(self, states: States, dataset: str, text_alone: bool = False) -> Tensor:
        """Exact scores (n, items) of the whole catalogue by the language model: scale <h, row> + bias.

        text_alone: by rows that are made of the items' texts, as those of items that nobody took.
        """
        rows, bias = self.item_rows(dataset, text_alone)
        scale = float(self.model.rows_of(dataset).log_scale.exp())
        return torch.addmm(bias, states, rows.t(), alpha=scale)

    @torch.inference_mode()
    def outcome_scores(self, states: States, dataset: str, task: str) -> Tensor:
        """Scores (n, answers) of a task's answers."""
        return self.model.group_scores(states, self.model.vocabulary.group(dataset, task))


def can_read_on(model: RecModel) -> bool:
    """Whether reading on after a cached history gives what reading the whole row gives: so it is with attention, not
    with models that carry a state, nor with an encoder."""
    return model.split is None and not getattr(model.backbone, "_is_stateful", False)
