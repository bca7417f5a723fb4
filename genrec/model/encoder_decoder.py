"""Rows for an encoder-decoder backbone (T5): words go to the encoder, the history to the decoder.

    encoder   </s> age 24, technician | What comes next?
    decoder   <start> <item 302> <rated 3> <item 377> <rated 1> | <start> | <item 51>

The user's header and every question are encoded each by itself. In the decoder a question is one token, at the position
where it is asked, that attends to the question and the header; a history and a bare candidate attend to the latter. The
states of a question are the same alone and beside others: T5 encodes distances only, in the encoder those within a
question, in the decoder those between positions, which restart where a branch is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..rows.row import Row

ENCODER_DECODERS = ("t5", "mt5")  # model types whose first block holds the position bias of its whole stack


@dataclass(frozen=True)
class Split:
    """How to split a row: tokens below `n_words` are words, `start` begins what is decoded."""

    n_words: int
    start: int


@dataclass(frozen=True)
class Encoded:
    """The encoder's half of a row: its tokens with their segments, and per token of the decoder the segment that it
    attends to, and whether it also attends to the user's header."""

    tokens: np.ndarray
    segment: np.ndarray
    reads: np.ndarray
    sees_user: np.ndarray


def split_of(config: PreTrainedConfig, n_words: int) -> Split | None:
    """How a backbone's rows are split; None if it reads them whole."""
    if not config.is_encoder_decoder:
        return None
    start = getattr(config, "decoder_start_token_id", None)
    return Split(n_words, config.pad_token_id if start is None else start)


def split_row(row: Row, split: Split) -> tuple[Row, Encoded]:
    """A row as the decoder reads it, its targets moved along, and the encoder's half of it.

    A branch that does not see the user attends to nothing before it in the decoder: its first token has attended to the
    header.
    """
    tokens, segment, limit = (np.asarray(values) for values in (row.tokens, row.segment, row.limit))
    first = np.searchsorted(segment, segment)  # where each token's segment begins
    is_word = tokens < split.n_words
    encoded = is_word | ((segment > 0) & np.isin(segment, segment[is_word]))
    begins = encoded & (first == np.arange(len(tokens)))
    decoded = ~encoded | begins
    count = np.append(0, np.cumsum(decoded))
    index = count[1:] - 1
    sees_user = limit > 1
    sees = np.where(sees_user, count[limit], 0)
    position = np.where(segment == 0, index, sees + index - index[first])
    decoder_row = replace(
        row,
        tokens=np.where(begins, split.start, tokens)[decoded].tolist(),
        position=position[decoded].tolist(),
        segment=segment[decoded].tolist(),
        limit=sees[decoded].tolist(),
        target_from=index[row.target_from].tolist(),
        target_at=index[row.target_at].tolist(),
    )
    reads = np.where(encoded, segment, 0)[decoded]
    return decoder_row, Encoded(tokens[encoded], segment[encoded], reads, sees_user[decoded])


def encoder_fields(rows: Sequence[Encoded], length: int, pad: int) -> dict[str, Tensor]:
    """The encoder's fields of a Batch whose decoder rows are padded to `length`."""
    longest = max(len(r.tokens) for r in rows)

    def padded(values: Sequence[np.ndarray], length: int, fill: int) -> Tensor:
        return torch.as_tensor(np.stack([np.pad(v, (0, length - len(v)), constant_values=fill) for v in values]))

    segment = padded([r.segment for r in rows], longest, -1)
    reads = padded([r.reads for r in rows], length, 0)
    sees_user = padded([r.sees_user for r in rows], length, False)
    of_user = (segment == 0)[:, None, :] & sees_user[:, :, None]
    return {
        "encoder_tokens": padded([r.tokens for r in rows], longest, pad),
        "encoder_mask": (segment[:, :, None] == segment[:, None, :]).unsqueeze(1),
        "cross_mask": ((segment[:, None, :] == reads[:, :, None]) | of_user).unsqueeze(1),
    }


def bias_by_position(model: PreTrainedModel) -> None:
    """Let a T5's decoder take its position bias from `position_ids`, if given, not from the indices of the tokens."""
    attention: Any = model.get_submodule("decoder.block.0.layer.0.SelfAttention")  # whose bias later blocks use
    original_forward = attention.forward

    def forward(*args: Any, position_ids: Tensor | None = None, **kwargs: Any) -> Any:
        if position_ids is not None:
            kwargs["position_bias"] = position_bias(attention, position_ids)
        return original_forward(*args, **kwargs)

    attention.forward = forward


def position_bias(attention: Any, position: Tensor) -> Tensor:
    """T5's bias (batch, heads, length, length) at these positions (batch, length); Raffel et al. 2020."""
    bucket = attention._relative_position_bucket(
        position[:, None, :] - position[:, :, None],
        bidirectional=not attention.is_decoder,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    bias: Tensor = attention.relative_attention_bias(bucket).permute(0, 3, 1, 2)
    return bias
