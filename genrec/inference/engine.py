"""A trained model answering: hidden states of many rows at once, and exact scores over the allowed answers."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..model.batching import Batch, batches_by_length, collate
from ..model.recmodel import RecModel
from ..tasks.rows import Row

States = Tensor  # hidden states (reads, width), float32


class Engine:
    """Scores rows with a model in evaluation mode; item rows are computed once and kept until `refresh`."""

    def __init__(self, model: RecModel, batch_tokens: int = 4_096) -> None:
        self.model = model
        self.batch_tokens = batch_tokens
        self._rows: dict[str, tuple[Tensor, Tensor]] = {}

    def refresh(self) -> None:
        """Forget the item rows, since the model has changed."""
        self._rows.clear()

    def item_rows(self, dataset: str) -> tuple[Tensor, Tensor]:
        """Rows (items, width) and biases (items,) of a catalogue."""
        if dataset not in self._rows:
            with torch.inference_mode():
                self._rows[dataset] = self.model.rows_of(dataset)()
        return self._rows[dataset]

    @torch.inference_mode()
    def states(self, rows: Sequence[Row], progress: Callable[[int, int], None] | None = None) -> States:
        """Hidden states (reads, width) float32 at every row's `target_at`, in the order of the rows.

        progress: called with the rows read so far and the rows in all.
        """
        self.model.eval()
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
                read = self.model.states(batch, items)[batch.target_row, batch.target_at].float()
                places = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in chosen])
                out[torch.as_tensor(places, device=out.device)] = read
                done += len(chosen)
                if progress is not None:
                    progress(done, len(rows))
        return out

    @torch.inference_mode()
    def item_scores(self, states: States, dataset: str, index: Tensor | None = None) -> Tensor:
        """Exact scores (n, items) of the whole catalogue, or of the items at `index`."""
        rows, bias = self.item_rows(dataset)
        if index is not None:
            rows, bias = rows[index], bias[index]
        return self.model.rows_of(dataset).log_scale.exp() * (states @ rows.t()) + bias

    @torch.inference_mode()
    def outcome_scores(self, states: States, dataset: str, task: str) -> Tensor:
        """Scores (n, answers) of a task's answers."""
        return self.model.group_scores(states, self.model.vocabulary.group(dataset, task))
