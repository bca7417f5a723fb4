"""Rows to padded tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..rows.row import Row
from .encoder_decoder import Split, encoder_fields, split_row


@dataclass(frozen=True)
class Batch:
    """Rows of one data set, padded at the end.

    position, mask: None if no row has branches. Masks are true where a token may attend. encoder_* are read by
    the encoder of an encoder-decoder, cross_mask is its decoder's for them; all else is then of the decoder.
    """

    dataset: int
    tokens: Tensor  # (batch, length)
    target_row: Tensor  # (targets,) row of the batch
    target_from: Tensor  # (targets,) first token that the target is read from
    target_at: Tensor  # (targets,) last token that the target is read from
    target_task: Tensor  # (targets,)
    target_id: Tensor  # (targets,) index of the answer in its group
    target_weight: Tensor  # (targets,) float32
    target_allowed: Tensor  # (targets,) condition whose items compete, -1 for all
    position: Tensor | None = None  # (batch, length)
    mask: Tensor | None = None  # (batch, 1, length, length) bool
    encoder_tokens: Tensor | None = None  # (batch, encoder length)
    encoder_mask: Tensor | None = None  # (batch, 1, encoder length, encoder length) bool
    cross_mask: Tensor | None = None  # (batch, 1, length, encoder length) bool

    @staticmethod
    def from_fields(fields: Mapping[str, Tensor]) -> "Batch":
        """The batch of a collated mapping."""
        rest: dict[str, Any] = {k: v for k, v in fields.items() if k != "dataset"}
        return Batch(dataset=int(fields["dataset"]), **rest)


def batch_mask(segment: Tensor, limit: Tensor) -> Tensor:
    """Attention mask: causal for the history; of a branch the first `limit` history tokens and, causally, itself.

    segment, limit: (batch, length), segment -1 on padding. Returns (batch, 1, length, length) bool.
    """
    length = segment.shape[1]
    index = torch.arange(length)  # (length,)
    causal = index[:, None] >= index[None, :]  # (length, length)
    same = segment[:, :, None] == segment[:, None, :]  # (batch, length, length)
    history = (segment[:, None, :] == 0) & (index[None, None, :] < limit[:, :, None])  # (batch, length, length)
    return ((same | history) & causal).unsqueeze(1)


def collate(rows: Sequence[Row], dataset: int, split: Split | None = None, pad: int = 0) -> dict[str, Tensor]:
    """The fields of a Batch. Rows without branches need neither mask nor positions: padding comes last and
    attention is causal. split: for an encoder-decoder."""
    split_rows = [split_row(row, split) for row in rows] if split is not None else []
    if split_rows:
        rows = [decoded for decoded, _ in split_rows]
    length = max(len(r.tokens) for r in rows)
    shape = (len(rows), length)
    tokens = np.full(shape, pad, dtype=np.int64)  # (batch, length)
    for n, row in enumerate(rows):
        tokens[n, : len(row.tokens)] = row.tokens
    counts = [len(r.target_at) for r in rows]

    def flat(name: str, dtype: Any) -> Tensor:  # (targets,)
        return torch.as_tensor(np.concatenate([np.asarray(getattr(r, name), dtype=dtype) for r in rows]))

    fields = {
        "dataset": torch.tensor(dataset),
        "tokens": torch.as_tensor(tokens),
        "target_row": torch.as_tensor(np.repeat(np.arange(len(rows)), counts)),
        "target_from": flat("target_from", np.int64),
        "target_at": flat("target_at", np.int64),
        "target_task": flat("target_task", np.int64),
        "target_id": flat("target_id", np.int64),
        "target_weight": flat("target_weight", np.float32),
        "target_allowed": flat("target_allowed", np.int64),
    }
    if any(len(r.segment) and r.segment[-1] > 0 for r in rows):
        segment, limit = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        position = np.zeros(shape, dtype=np.int64)
        for n, row in enumerate(rows):
            segment[n, : len(row.tokens)] = row.segment
            limit[n, : len(row.tokens)] = row.limit
            position[n, : len(row.tokens)] = row.position
        fields["position"] = torch.as_tensor(position)
        fields["mask"] = batch_mask(torch.as_tensor(segment), torch.as_tensor(limit))
    if split_rows:
        fields |= encoder_fields([encoded for _, encoded in split_rows], length, pad)
    return fields


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices grouped so that rows of like length share a batch of at most `batch_tokens` padded tokens (one row at
    least)."""
    batches: list[list[int]] = []
    current: list[int] = []
    for index in np.argsort(np.asarray(lengths), kind="stable")[::-1].tolist():
        longest = lengths[current[0]] if current else lengths[index]
        if current and longest * (len(current) + 1) > batch_tokens:
            batches.append(current)
            current = []
        current.append(index)
    return [*batches, current] if current else batches
