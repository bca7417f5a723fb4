"""Item rows, and the vectors they start from: an item's text, and co-occurrence in the training part."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

WINDOW = 5  # co-occurrence reaches this many events
RANK = 192  # dimensions of the collaborative vectors


def item_texts(items: pl.DataFrame) -> list[str]:
    """`Toy Story (1995) Animation, Children's` for each item: title, year, then short attributes; empty if
    nothing is known."""
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
                parts.append(value[:200])
        texts.append(" ".join(p for p in parts if p))
    return texts


def mean_words(encode_ids: Sequence[Sequence[int]], words: Tensor) -> Tensor:
    """Mean word embedding of each text (items, width) float32, zero for one without tokens.

    encode_ids: token ids of each text. words: (vocabulary, width) embeddings.
    """
    lengths = np.asarray([len(ids) for ids in encode_ids])
    flat = torch.as_tensor(
        np.concatenate([np.asarray(ids, dtype=np.int64) for ids in encode_ids] or [np.zeros(0, np.int64)])
    )
    offsets = torch.as_tensor(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64))
    return nn.functional.embedding_bag(flat, words.float(), offsets, mode="mean")


def text_vectors(vectors: Tensor, norm: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Vectors of the items' texts (items, width), centred over the catalogue and scaled to `norm`, and the centre
    (width,)."""
    has_text = (vectors != 0).any(1)
    centre = vectors[has_text].mean(0) if has_text.any() else torch.zeros(vectors.shape[1])
    return centred(vectors, centre, norm, seed), centre


def centred(vectors: Tensor, centre: Tensor, norm: Tensor, seed: int) -> Tensor:
    """Vectors of texts (items, width) less the centre (width,) of a catalogue and scaled to `norm`.

    An item without text, whose vector is zero, and one at the very centre get a seeded random direction.
    """
    has_text = (vectors != 0).any(1)  # (items,)
    vectors = torch.where(has_text[:, None], vectors - centre, vectors)
    noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed)).to(vectors)
    flat_rows = ~has_text | (vectors.norm(dim=1) < 1e-6)
    vectors = torch.where(flat_rows[:, None], noise, vectors)
    return nn.functional.normalize(vectors, dim=1) * norm


def mean_norm(words: Tensor) -> Tensor:
    """Mean norm of the word embeddings."""
    return words.float().norm(dim=1).mean()


def collaborative_vectors(
    item: np.ndarray, offsets: np.ndarray, n_items: int, width: int, norm: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Items that are bought, seen or rated near each other get like vectors: positive PMI of co-occurrence, truncated
    SVD, rotated into the model's width.

    item: (events,) catalogue index of training events, users contiguous by `offsets` (users + 1,). Co-occurrence within
    WINDOW events, weighted by 1 / distance; context counts to the power .75 (Levy, Goldberg and Dagan 2015). Returns
    vectors (items, width) of norm `norm`, zero for an item without neighbours, and the mask (items,) of those with any.
    """
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = sparse.coo_matrix((n_items, n_items), dtype=np.float32).tocsr()
    for distance in range(1, WINDOW + 1):
        a, b = item[:-distance], item[distance:]
        same = (user[:-distance] == user[distance:]) & (a >= 0) & (b >= 0) & (a != b)
        weight = np.full(int(same.sum()), 1 / distance, dtype=np.float32)
        pairs = pairs + sparse.coo_matrix((weight, (a[same], b[same])), shape=(n_items, n_items)).tocsr()
    pairs = (pairs + pairs.T).tocoo()
    rank = min(RANK, width, n_items - 2)
    if pairs.nnz == 0 or rank < 1:
        return torch.zeros(n_items, width), torch.zeros(n_items, dtype=torch.bool)
    total = pairs.data.sum()
    row = np.asarray(pairs.sum(1)).ravel()
    context = row**0.75
    pmi = np.log(pairs.data / total) - np.log(row[pairs.row] / total) - np.log(context[pairs.col] / context.sum())
    positive = sparse.coo_matrix((np.maximum(pmi, 0), (pairs.row, pairs.col)), shape=pairs.shape).tocsr()
    rng = np.random.default_rng([seed, 4])
    u, s, _ = svds(positive.astype(np.float64), k=rank, v0=rng.standard_normal(n_items), return_singular_vectors="u")
    order = np.argsort(-s)
    u, s = u[:, order], s[order]
    u *= np.where(u[np.abs(u).argmax(0), np.arange(rank)] < 0, -1, 1)
    rotation = np.linalg.qr(rng.standard_normal((width, rank)))[0].T
    vectors = torch.as_tensor((u * np.sqrt(np.maximum(s, 0))) @ rotation, dtype=torch.float32)
    length = vectors.norm(dim=1, keepdim=True)
    has_neighbour = length[:, 0] > 1e-6
    return torch.where(has_neighbour[:, None], vectors / length.clamp_min(1e-6) * norm, torch.zeros(())), has_neighbour


class ItemRows(nn.Module):
    """Vectors and biases of one catalogue's items, and the scale of its scores.

    row = (text + P text + c m collaborative) / sqrt(1 + c m) + m residual, bias = <text, q> + m residual bias, where c
    marks items that have a collaborative vector and m is 0 for the items whose learned part is dropped in this step and
    for cold ones, which have no training interactions, else 1. P has low rank. The residual bias starts from how
    often the item was wanted in training, log(1 + count). `centre` was subtracted from the text vectors, and is kept
    for items that come later.
    """

    text: Tensor
    collaborative: Tensor
    known: Tensor
    centre: Tensor
    warm: Tensor

    def __init__(
        self,
        text: Tensor,
        collaborative: Tensor,
        known: Tensor,
        counts: Tensor | None = None,
        centre: Tensor | None = None,
        rank: int = 64,
        warm: Tensor | None = None,
    ) -> None:
        super().__init__()
        n, width = text.shape
        self.register_buffer("text", text)
        self.register_buffer("collaborative", collaborative)
        self.register_buffer("known", known)
        self.register_buffer("centre", torch.zeros(width) if centre is None else centre)
        if warm is None:
            warm = torch.ones(n, dtype=torch.bool) if counts is None else counts > 0
        self.register_buffer("warm", warm)
        self.residual = nn.Parameter(torch.zeros(n, width))
        self.bias = nn.Parameter(torch.zeros(n) if counts is None else torch.log1p(counts.float()))
        self.down = nn.Parameter(torch.randn(width, rank) / width**0.5)
        self.up = nn.Parameter(torch.zeros(rank, width))
        self.text_bias = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def extend(self, text: Tensor) -> None:
        """Add items at the end that are known by their texts alone: text vectors (n, width), not centred."""
        n, width = text.shape
        new = {
            "text": self.centred(text),
            "collaborative": self.text.new_zeros(n, width),
            "known": self.known.new_zeros(n),
            "warm": self.warm.new_zeros(n),
        }
        for name, values in new.items():
            setattr(self, name, torch.cat([getattr(self, name), values]))
        self.residual = nn.Parameter(torch.cat([self.residual, self.residual.new_zeros(n, width)]), False)
        self.bias = nn.Parameter(torch.cat([self.bias, self.bias.new_zeros(n)]), False)

    def reword(self, index: Tensor, text: Tensor) -> None:
        """Give items at `index` (n,) other texts: vectors (n, width), not centred."""
        self.text[index] = self.centred(text)

    def centred(self, text: Tensor) -> Tensor:
        """Text vectors (n, width) less the centre of the catalogue's, scaled to their mean norm."""
        return centred(text.to(self.text), self.centre, self.text.norm(dim=1).mean(), len(self.text))

    def forward(self, index: Tensor | None = None, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows (n, width) and biases (n,) of the items at `index` (all: None); `keep` (items,) is 0 where the
        learned part is dropped."""
        text, collaborative, known = self.text, self.collaborative, self.known
        residual: Tensor = self.residual
        bias: Tensor = self.bias
        keep = self.warm.to(text.dtype) if keep is None else self.warm * keep
        if index is not None:
            text, collaborative, known = text[index], collaborative[index], known[index]
            residual, bias, keep = residual[index], bias[index], keep[index]
        with_neighbours = known * keep
        norm = (1 + with_neighbours).rsqrt()[:, None]
        start = torch.addcmul(text * norm, with_neighbours[:, None] * norm, collaborative)  # no gradient
        rows = torch.addmm(start, norm * (text @ self.down), self.up)
        text_bias = text @ self.text_bias
        return torch.addcmul(rows, keep[:, None], residual), text_bias + keep * bias
