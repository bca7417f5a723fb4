"""SASRec (Kang and McAuley 2018) whose items start from their texts, so that it can score items that nobody took.

An item's vector is a linear map of its text's, which is learned, and for items of the training part a residual that
starts at 0 (as UniSRec and WhitenRec add texts to ids). Softmax over the items of the training part.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from genrec.cli.output import progress_bar

WIDTH, BLOCKS, HEADS, LENGTH = 128, 2, 2, 50
DROPOUT, RATE, DECAY, BATCH = 0.3, 1e-3, 1e-2, 128
EPOCHS, PATIENCE = 30, 3


class ContentSASRec(nn.Module):
    """The model on texts (items, width) of which `warm` (items,) are in training."""

    def __init__(self, text: Tensor, warm: Tensor) -> None:
        super().__init__()
        self.text, self.warm = text, warm
        self.map = nn.Linear(text.shape[1], WIDTH, bias=False)
        self.residual = nn.Parameter(torch.zeros(len(text), WIDTH))
        self.place = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.dropout = nn.Dropout(DROPOUT)
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, WIDTH * 2, DROPOUT, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(block, BLOCKS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def items(self) -> Tensor:
        """Vectors (items, WIDTH); of an item outside training by its text alone."""
        vectors: Tensor = self.map(self.text) + self.residual * self.warm[:, None]
        return vectors

    def forward(self, histories: Tensor, vectors: Tensor) -> Tensor:
        """States (histories, length, WIDTH) of histories (n, length) of item indices, -1 behind their end."""
        length = histories.shape[1]
        embedded = vectors[histories.clamp_min(0)] * WIDTH**0.5 + self.place[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        states: Tensor = self.body(self.dropout(embedded), mask=mask, is_causal=True)
        return states


def padded(histories: Sequence[np.ndarray]) -> Tensor:
    """The last LENGTH items of histories as one tensor, -1 behind their end."""
    cut = [torch.as_tensor(h[-LENGTH:]) for h in histories]
    return nn.utils.rnn.pad_sequence(cut, batch_first=True, padding_value=-1)


def scores_of(model: ContentSASRec, histories: Sequence[np.ndarray]) -> np.ndarray:
    """Scores (histories, items) of the whole catalogue after histories of at least one item."""
    model.eval()
    with torch.no_grad():
        vectors, batch = model.items(), padded(histories)
        last = (batch >= 0).sum(1) - 1
        states = model(batch, vectors)[torch.arange(len(batch)), last]
        return (states @ vectors.t()).numpy()


def trained(
    text: np.ndarray, train: Sequence[np.ndarray], valid: Sequence[tuple[np.ndarray, int]], seed: int = 0
) -> ContentSASRec:
    """A model trained on the histories of the training part, kept as it was at the best NDCG@10 on validation.

    text: (items, width). train: item indices of each user. valid: history and next item of each user.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rows = [h for h in train if len(h) > 1]
    warm = torch.zeros(len(text))
    warm[np.concatenate(rows)] = 1
    model = ContentSASRec(torch.as_tensor(text / np.sqrt((text**2).mean())), warm)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    candidates = warm.nonzero().flatten()
    number = torch.full((len(text),), -1)
    number[candidates] = torch.arange(len(candidates))
    chosen = [valid[n] for n in rng.permutation(len(valid))[:4_000]]
    best, kept, worse = -1.0, model.state_dict(), 0
    with progress_bar() as progress:
        for epoch in range(EPOCHS):
            model.train()
            order = rng.permutation(len(rows))
            for start in range(0, len(rows), BATCH):
                batch = padded([rows[n] for n in order[start : start + BATCH]])
                vectors = model.items()
                states, targets = model(batch[:, :-1], vectors), batch[:, 1:]
                asked = targets >= 0
                logits = states[asked] @ vectors[candidates].t()
                loss = nn.functional.cross_entropy(logits, number[targets[asked]])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                progress.update(f"SASRec, epoch {epoch + 1}", start, len(rows))
            quality = ndcg(model, chosen)
            worse += 1
            if quality > best:
                best, kept, worse = quality, {k: v.clone() for k, v in model.state_dict().items()}, 0
            if worse == PATIENCE:
                break
    model.load_state_dict(kept)
    return model


def ndcg(model: ContentSASRec, cases: Sequence[tuple[np.ndarray, int]]) -> float:
    """NDCG@10 among the items of the training part, those of the history removed."""
    gained = 0.0
    for start in range(0, len(cases), 256):
        part = cases[start : start + 256]
        scores = scores_of(model, [h for h, _ in part])
        scores[:, model.warm.numpy() == 0] = -np.inf
        for own, (history, target) in zip(scores, part, strict=True):
            value = own[target]
            own[history] = -np.inf
            rank = 1 + (own > value).sum()
            gained += 1 / np.log2(1 + rank) if rank <= 10 and target not in history else 0
    return gained / max(len(cases), 1)
