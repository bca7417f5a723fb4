"""A trained model in evaluation: hidden states of many rows at once, and the scores of the language model alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from ..model.batching import Batch, batches_by_length, collate
from ..model.recmodel import RecModel, read_states
from ..rows.row import Row
from .prefixes import MIN_TOKENS, Prefix, PrefixCache, joined, prefix_of

States = Tensor  # hidden states (reads, width), float32
FEW = 8  # up to so many rows are read after their cached histories
ROWS_AT_A_TIME = 65_536  # item rows computed at a time


class Engine:
    """Scores rows with a model in evaluation mode; item rows are computed once and kept until `refresh`.

    prefix_bytes: memory for the histories read last. 0 reads every row anew, as evaluation does during training.
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
        """Catalogue indices (n,) on the model's device."""
        return torch.as_tensor(index, device=self.model.device)

    def forget_rows(self, dataset: str) -> None:
        """Forget the item rows of a catalogue, since it has grown: no history that was read has its new items."""
        for key in [k for k in self._rows if k[0] == dataset]:
            del self._rows[key]

    @torch.inference_mode()
    def item_rows(self, dataset: str, text_alone: bool = False) -> tuple[Tensor, Tensor]:
        """Rows (items, width) and biases (items,) of a catalogue; text_alone: as if none had training interactions, and
        without biases, since texts do not tell how popular an item will be."""
        if (dataset, text_alone) not in self._rows:
            catalogue = self.model.rows_of(dataset)
            n, width = catalogue.residual.shape
            if text_alone:
                self._rows[dataset, text_alone] = catalogue.by_text(), torch.zeros_like(catalogue.bias)
            elif n <= ROWS_AT_A_TIME:
                self._rows[dataset, text_alone] = catalogue()
            else:
                rows, bias = catalogue.residual.new_empty(n, width), catalogue.bias.new_empty(n)
                for part in torch.arange(n, device=rows.device).split(ROWS_AT_A_TIME):
                    rows[part], bias[part] = catalogue(part)
                self._rows[dataset, text_alone] = rows, bias
        return self._rows[dataset, text_alone]

    @torch.inference_mode()
    def cold_rows(self, dataset: str) -> Tensor:
        """Rows (items, width) that the items of a catalogue would be read as if they were cold."""
        catalogue = self.model.rows_of(dataset)
        return catalogue.cold(catalogue.text)

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
        """As `states`, without cached histories; none is kept."""
        counts = np.asarray([len(r.target_at) for r in rows])
        starts = np.concatenate([[0], np.cumsum(counts)])
        width = self.model.outcome_rows.shape[1]
        out = torch.empty(int(starts[-1]), width, device=self.model.device)  # (reads, width)
        done = 0
        by_dataset: dict[str, list[int]] = {}
        for n, row in enumerate(rows):
            by_dataset.setdefault(row.dataset, []).append(n)
        for dataset, members in by_dataset.items():
            items = self.item_rows(dataset)[0] if dataset in self.model.catalogue_of else None
            lengths = [len(rows[n].tokens) for n in members]
            for group in batches_by_length(lengths, self.batch_tokens):
                numbers = [members[n] for n in group]
                fields = collate([rows[n] for n in numbers], self.model.names.index(dataset), self.model.split)
                batch = Batch.from_fields({k: v.to(self.model.device) for k, v in fields.items()})
                target_states = read_states(self.model.states(batch, items), batch).float()  # (reads, width)
                indices = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in numbers])
                out[torch.as_tensor(indices, device=out.device)] = target_states
                done += len(numbers)
                if progress is not None:
                    progress(done, len(rows))
        return out

    @property
    def remembers(self) -> bool:
        """Whether histories that were read are kept."""
        return self.prefixes.limit > 0 and can_read_on(self.model)

    def unread(self, row: Row) -> int:
        """Tokens of a row that must go through the backbone, since no cached history covers them."""
        prefix, start = self._cached(row)
        return 0 if prefix is not None and start == len(row.tokens) else len(row.tokens) - start

    @torch.inference_mode()
    def read_on(self, rows: Sequence[Row]) -> States:
        """As `states` (reads, width); cached parts of the rows' histories do not go through the backbone, and the
        histories are cached. Rows of like length share a batch."""
        states: list[States | None] = [None] * len(rows)
        starts = []
        for n, row in enumerate(rows):
            prefix, start = self._cached(row)
            starts.append(start)
            self.prefixes.hits += start > 0
            self.prefixes.misses += start == 0
            if prefix is not None and start == len(row.tokens):
                states[n] = prefix.last[None]  # the same bits as the first time
        by_dataset: dict[tuple[str, bool], list[int]] = {}
        for n, row in enumerate(rows):
            if states[n] is None:
                by_dataset.setdefault((row.dataset, starts[n] > 0), []).append(n)
        for members in by_dataset.values():
            for group in batches_by_length([len(rows[n].tokens) - starts[n] for n in members], self.batch_tokens):
                numbers = [members[n] for n in group]
                for n, row_states in zip(numbers, self._read_uncached([rows[n] for n in numbers]), strict=True):
                    states[n] = row_states
        return torch.cat([row_states for row_states in states if row_states is not None])

    def _cached(self, row: Row) -> tuple[Prefix | None, int]:
        """The cached prefix of a row's history, and how many tokens of the row it covers; all of them if only the end
        of the history is asked for."""
        history = row.tokens[: row.segment.count(0)]
        prefix = self.prefixes.longest(row.dataset, history)
        if prefix is None:
            return None, 0
        if row.target_at == [prefix.length - 1] and prefix.length == len(row.tokens):
            return prefix, prefix.length
        return prefix, min(prefix.length, *row.target_from)

    def _read_uncached(self, rows: Sequence[Row]) -> list[States]:
        """States (reads of the row, width) of rows of one data set, all or none of which have a cached prefix; padded
        to one length of the prefix and one of the rest."""
        dataset = rows[0].dataset
        items = self.item_rows(dataset)[0] if dataset in self.model.catalogue_of else None
        prefixes, starts = zip(*(self._cached(row) for row in rows), strict=True)
        fields = collate(rows, self.model.names.index(dataset))
        batch = Batch.from_fields({k: v.to(self.model.device) for k, v in fields.items()})
        tokens, position, mask, cache = batch.tokens, batch.position, batch.mask, DynamicCache()
        prefix_length = max(starts)
        if prefix_length:
            tokens, position, mask, cache = self._after_prefixes(batch, [len(r.tokens) for r in rows], prefixes, starts)
        embedded = self.model.embed(tokens, dataset, items)  # (rows, length, width)
        hidden = self.model.hidden(embedded, position, mask, cache=cache).last_hidden_state  # (rows, length, width)
        begin = torch.as_tensor(starts, device=hidden.device)[batch.target_row]  # (reads,)
        shifted = replace(batch, target_from=batch.target_from - begin, target_at=batch.target_at - begin)
        states = read_states(hidden, shifted).float().split([len(r.target_at) for r in rows])
        for n, (row, prefix, start) in enumerate(zip(rows, prefixes, starts, strict=True)):
            history = row.tokens[: row.segment.count(0)]
            if len(history) >= MIN_TOKENS and (prefix is None or prefix.length < len(history)):
                last = hidden[n, len(history) - 1 - start].float().clone()
                self.prefixes.keep(
                    dataset, history, prefix_of(cache, n, start, prefix_length, len(history), last), prefix
                )
        return list(states)

    def _after_prefixes(
        self, batch: Batch, lengths: Sequence[int], prefixes: Sequence[Prefix], starts: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, DynamicCache]:
        """Tokens after the cached prefixes, their positions and mask, and the prefixes as one cache."""
        prefix_length, length = max(starts), max(n - s for n, s in zip(lengths, starts, strict=True))
        start = torch.as_tensor(starts, device=batch.tokens.device)[:, None]  # (rows, 1)
        index = (start + torch.arange(length, device=start.device)).clamp(max=batch.tokens.shape[1] - 1)
        position = index if batch.position is None else batch.position.gather(1, index)  # (rows, length)
        if batch.mask is None:
            column = torch.arange(batch.tokens.shape[1], device=start.device)
            full = (column[:, None] >= column[None, :]).expand(len(starts), -1, -1)
        else:
            full = batch.mask[:, 0]  # (rows, whole length, whole length)
        rows = full.gather(1, index[:, :, None].expand(-1, -1, full.shape[2]))  # (rows, length, whole length)
        prefix_column = torch.arange(prefix_length, device=start.device)
        old = rows[:, :, :prefix_length] & (prefix_column < start)[:, None]  # (rows, length, prefix length)
        new = rows.gather(2, index[:, None, :].expand(-1, length, -1))  # (rows, length, length)
        column = torch.arange(length, device=start.device)
        new &= column < torch.as_tensor(lengths, device=start.device)[:, None, None] - start[:, :, None]
        new |= column[:, None] == column  # padding attends to itself so that no softmax is empty
        mask = torch.cat([old, new], 2)[:, None]  # (rows, 1, length, prefix length + length)
        return batch.tokens.gather(1, index), position, mask, joined(prefixes, starts, prefix_length)

    @torch.inference_mode()
    def model_scores(self, states: States, dataset: str, text_alone: bool = False) -> Tensor:
        """Exact scores (n, items) of the whole catalogue by the language model: scale <h, row> + bias.

        text_alone: by rows that are made of the items' texts, as those of items without training interactions.
        """
        rows, bias = self.item_rows(dataset, text_alone)  # (items, width), (items,)
        catalogue = self.model.rows_of(dataset)
        scale = float((catalogue.text_log_scale if text_alone else catalogue.log_scale).exp())
        return torch.addmm(bias, states, rows.t(), alpha=scale)

    @torch.inference_mode()
    def outcome_scores(self, states: States, dataset: str, task: str) -> Tensor:
        """Scores (n, answers) of a task's answers."""
        return self.model.group_scores(states, self.model.vocabulary.group(dataset, task))


def can_read_on(model: RecModel) -> bool:
    """Whether reading on after a cached history gives the states of the whole row: true of attention, not of
    models that carry a state, nor of an encoder."""
    return model.split is None and not getattr(model.backbone, "_is_stateful", False)
