"""Texts to vectors by a BERT-style encoder, and those vectors in the width of a backbone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .batching import batches_by_length

MAX_TOKENS = 256  # of a text; its end is cut
BATCH_TOKENS = 4_096  # of a batch, padding included


@torch.inference_mode()
def encode_texts(encoder: Backbone, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Tensor:
    """Mean of each text's last hidden states, of length 1 (Reimers and Gurevych 2019): (texts, width of the encoder)
    float32 on the CPU, zero for an empty text.

    progress: called with the texts encoded and the texts in all.
    """
    vectors = torch.zeros(len(texts), encoder.source.hidden_size)
    nonempty = [n for n, text in enumerate(texts) if text]
    if not nonempty:
        return vectors
    options = {"truncation": True, "max_length": MAX_TOKENS}
    ids = [torch.as_tensor(i) for i in encoder.tokenizer([texts[n] for n in nonempty], **options)["input_ids"]]
    done = 0
    for group in batches_by_length([len(i) for i in ids], BATCH_TOKENS):
        tokens = nn.utils.rnn.pad_sequence([ids[n] for n in group], True, encoder.tokenizer.pad_token_id or 0)
        lengths = torch.as_tensor([len(ids[n]) for n in group])
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        tokens, mask = tokens.to(encoder.model.device), mask.to(encoder.model.device)
        states = encoder.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        vectors[[nonempty[n] for n in group]] = nn.functional.normalize(mean.float(), dim=1).cpu()
        done += len(group)
        if progress is not None:
            progress(done, len(nonempty))
    return vectors


def to_width(vectors: Tensor, width: int, seed: int) -> Tensor:
    """The vectors (n, their width) in another width, by a seeded orthonormal map: inner products stay as they are, or
    nearly so (Johnson and Lindenstrauss 1984) if `width` is smaller than theirs."""
    current = vectors.shape[1]
    draw = torch.randn(max(current, width), min(current, width), generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(draw)[0]
    return vectors @ (basis.T if width >= current else basis)
