"""Texts of items as vectors: mean words of the backbone, weighted by rarity, or a text encoder's; then whitened."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

CHARACTERS = 1_000  # of an attribute, its end is cut
LEAST_ITEMS = 3  # with texts, below which there is no covariance to whiten by


def item_texts(items: pl.DataFrame) -> list[str]:
    """`Toy Story (1995) Animation, Children's` for each item: title, year, then attributes of text; empty if nothing
    is known."""
    texts = []
    columns = [c for c in items.columns if c not in ("item_id", "title", "year")]
    for record in items.iter_rows(named=True):
        parts = [record["title"] or ""]
        if record.get("year") is not None:
            parts.append(f"({record['year']})")
        for column in columns:
            value = record[column]
            if isinstance(value, list):
                parts.append(", ".join(str(v) for v in value if v))
            elif isinstance(value, str):
                parts.append(value[:CHARACTERS])
        texts.append(" ".join(p for p in parts if p))
    return texts


def rarity(token_ids: Sequence[Sequence[int]], n_words: int) -> Tensor:
    """The root of the inverse document frequency log((1 + texts) / (1 + texts with the word)) of every word (n_words,):
    of the frequency itself, its root and neither, the best for content kNN on Amazon Beauty."""
    count = np.zeros(n_words)
    for ids in token_ids:
        count[np.unique(np.asarray(ids, dtype=np.int64))] += 1
    texts = sum(1 for ids in token_ids if len(ids))
    return torch.as_tensor(np.sqrt(np.log((1 + texts) / (1 + count))), dtype=torch.float32)


def mean_words(token_ids: Sequence[Sequence[int]], words: Tensor, weight: Tensor) -> Tensor:
    """Mean of each text's word embeddings, each times its weight: (texts, width) float32, zero for a text without
    tokens.

    token_ids: of each text. words: (vocabulary, width) embeddings. weight: (vocabulary,), such as `rarity`.
    """
    lengths = np.asarray([len(ids) for ids in token_ids])
    flat = torch.as_tensor(
        np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids] or [np.zeros(0, np.int64)])
    )
    offsets = torch.as_tensor(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64))
    sums = nn.functional.embedding_bag(
        flat, words.float(), offsets, mode="sum", per_sample_weights=weight.float()[flat]
    )
    return sums / torch.as_tensor(lengths).clamp_min(1)[:, None]


def mean_norm(words: Tensor) -> Tensor:
    """Mean norm of the word embeddings."""
    return words.float().norm(dim=1).mean()


class TextSpace(nn.Module):
    """Vectors of texts in the space of one catalogue: less its centre, and as long as words; and whitened.

    rarity: (words,) weights of words in a mean; all 1 for a text encoder's vectors. centre: (width,). basis: (width,
    width) of the whitening, symmetric, so that vectors of words stay near the words that they are made of.
    """

    rarity: Tensor
    centre: Tensor
    basis: Tensor
    length: Tensor

    def __init__(self, rarity: Tensor, centre: Tensor, basis: Tensor, length: Tensor) -> None:
        super().__init__()
        self.register_buffer("rarity", rarity)
        self.register_buffer("centre", centre)
        self.register_buffer("basis", basis)
        self.register_buffer("length", length)

    @staticmethod
    def plain(n_words: int, width: int, length: float = 1.0) -> "TextSpace":
        """The space that leaves vectors as they are, but for their length."""
        return TextSpace(torch.ones(n_words), torch.zeros(width), torch.eye(width), torch.tensor(length))

    def forward(self, vectors: Tensor, seed: int = 0) -> Tensor:
        """Vectors (n, width) less the centre, of norm `length`; one of zeros, of an item without text, and one at the
        very centre become random directions, drawn by seed."""
        has_text = (vectors != 0).any(1)  # (n,)
        moved = torch.where(has_text[:, None], vectors.to(self.basis) - self.centre, 0.0)
        noise = torch.randn(moved.shape, generator=torch.Generator().manual_seed(seed)).to(moved)
        moved = torch.where((moved.norm(dim=1) < 1e-6)[:, None], noise, moved)
        return nn.functional.normalize(moved, dim=1) * self.length

    def whitened(self, text: Tensor) -> Tensor:
        """What `forward` gives, whitened, of the same norm (n, width)."""
        return nn.functional.normalize(text @ self.basis, dim=1) * self.length


def whitening(vectors: Tensor, warm: Tensor, rarity: Tensor, length: Tensor) -> TextSpace:
    """The space in which the texts of the warm items have the identity as covariance, so that a cosine counts what two
    texts share and others do not (WhitenRec, arXiv 2402.10602).

    vectors: (items, width), zero for an item without text. warm: (items,) bool. The covariance is shrunk as by Ledoit
    and Wolf (2004), since a catalogue may have fewer items than dimensions.
    """
    from sklearn.covariance import ledoit_wolf

    known = vectors[warm & (vectors != 0).any(1)].double()
    if len(known) < LEAST_ITEMS:
        known = vectors[(vectors != 0).any(1)].double()
    width = vectors.shape[1]
    centre = known.mean(0) if len(known) else torch.zeros(width, dtype=torch.float64)
    basis = torch.eye(width, dtype=torch.float64)
    if len(known) >= LEAST_ITEMS and float((known - centre).abs().max()) > 1e-6:
        covariance, _ = ledoit_wolf((known - centre).numpy(), assume_centered=True)
        variance, directions = torch.linalg.eigh(torch.as_tensor(covariance))
        basis = directions @ torch.diag((variance / variance.mean()).clamp_min(1e-6).rsqrt()) @ directions.T
    return TextSpace(rarity, centre.float(), basis.float(), length.float())
