"""Which rows go into which step, decided before training so that a resumed run repeats an uninterrupted one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from ..model.batching import collate
from ..model.encoder_decoder import Split
from ..rows.row import Row
from ..rows.stored import ROW_FIELDS


@dataclass(frozen=True)
class RowIndex:
    """Index of the stored rows for planning: data set, length and targets per task of each."""

    dataset: np.ndarray
    length: np.ndarray
    targets: np.ndarray  # (rows, tasks) summed weights


def index_rows(rows: object, names: Sequence[str], n_tasks: int) -> RowIndex:
    """Read the index columns of an Arrow dataset of rows."""
    table = rows.data  # type: ignore[attr-defined]
    code = {name: n for n, name in enumerate(names)}
    dataset = np.asarray([code[d] for d in table["dataset"].to_pylist()], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in table["target_task"]])]).astype(np.int64)
    length = np.asarray([len(t) for t in table["tokens"]], dtype=np.int64)
    tasks = np.concatenate([np.asarray(c.flatten()) for c in table["target_task"].chunks])
    weights = np.concatenate([np.asarray(c.flatten()) for c in table["target_weight"].chunks])
    owner = np.repeat(np.arange(len(length)), np.diff(offsets))
    targets = np.zeros((len(length), n_tasks))
    np.add.at(targets, (owner, tasks), weights)
    return RowIndex(dataset, length, targets)


def plan_epoch(index: RowIndex, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """One epoch of batches: each of one data set, of rows of like length, at most `batch_tokens` padded tokens, in
    random order."""
    rng = np.random.default_rng([seed, 9, epoch])
    batches: list[np.ndarray] = []
    for dataset in np.unique(index.dataset):
        members = np.nonzero(index.dataset == dataset)[0]
        noisy = index.length[members] * rng.uniform(0.9, 1.1, len(members))
        members = members[np.argsort(noisy, kind="stable")]
        start, longest = 0, 0
        for n, length in enumerate(index.length[members]):
            longest = max(longest, int(length))
            if n > start and longest * (n - start + 1) > batch_tokens:
                batches.append(members[start:n])
                start, longest = n, int(length)
        batches.append(members[start:])
    return [batches[n] for n in rng.permutation(len(batches))]


class PlannedBatches(TorchDataset[dict[str, torch.Tensor]]):
    """Step i of a training: its planned batch, and `number` (), from which the draws in the step are seeded, so that
    they are the same whatever was drawn before, and in whichever process."""

    def __init__(self, rows: object, index: RowIndex, plan: Sequence[np.ndarray], split: Split | None = None) -> None:
        self.rows, self.index, self.plan, self.split = rows, index, plan, split

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        return self.batch(step) | {"number": torch.tensor(step)}

    def batch(self, number: int) -> dict[str, torch.Tensor]:
        """A batch of the plan, collated (the fields of `batching.Batch`)."""
        chosen = self.plan[number]
        columns = self.rows[chosen.tolist()]  # type: ignore[index]
        rows = [Row(**{name: columns[name][n] for name in ROW_FIELDS}) for n in range(len(chosen))]
        return collate(rows, int(self.index.dataset[chosen[0]]), self.split)
