"""Item rows, which start from an item's text and from co-occurrence in the training part."""

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from .item_texts import TextSpace

WINDOW = 5  # co-occurrence reaches this many events
RANK = 192  # dimensions of the collaborative vectors


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

    row = (text + P text + c collaborative) / sqrt(1 + c) + residual, bias = <text, q> + residual bias, where c marks
    items that have a collaborative vector. A cold item, which has no training interactions, has only its text: row =
    text + P text. By its text alone an item has another row, white + W white of its whitened text. P and W have low
    rank. The residual bias starts from how often the item was wanted in training,
    log(1 + count). `space` is where texts become vectors, and is kept for items that come later; `worded` marks items
    that have a text, `spared` a few warm ones that the loss by texts alone leaves out: their scores by texts alone tell
    what those of cold items are worth.
    """

    text: Tensor
    white: Tensor
    collaborative: Tensor
    known: Tensor
    warm: Tensor
    worded: Tensor
    spared: Tensor

    def __init__(
        self,
        text: Tensor,
        collaborative: Tensor,
        known: Tensor,
        counts: Tensor | None = None,
        space: TextSpace | None = None,
        rank: int = 64,
        warm: Tensor | None = None,
        worded: Tensor | None = None,
        spared: Tensor | None = None,
    ) -> None:
        super().__init__()
        n, width = text.shape
        self.register_buffer("text", text)
        self.register_buffer("collaborative", collaborative)
        self.register_buffer("known", known)
        if warm is None:
            warm = torch.ones(n, dtype=torch.bool) if counts is None else counts > 0
        self.register_buffer("warm", warm)
        self.register_buffer("worded", torch.ones(n, dtype=torch.bool) if worded is None else worded)
        self.register_buffer("spared", torch.zeros(n, dtype=torch.bool) if spared is None else spared)
        self.space = space or TextSpace.plain(0, width, float(text.norm(dim=1).mean()))
        self.register_buffer("white", self.space.whitened(text), persistent=False)
        self.residual = nn.Parameter(torch.zeros(n, width))
        self.bias = nn.Parameter(torch.zeros(n) if counts is None else torch.log1p(counts.float()))
        self.down = nn.Parameter(torch.randn(width, rank) / width**0.5)
        self.up = nn.Parameter(torch.zeros(rank, width))
        self.text_down = nn.Parameter(torch.randn(width, rank) / width**0.5)
        self.text_up = nn.Parameter(torch.zeros(rank, width))
        self.text_bias = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.text_log_scale = nn.Parameter(torch.zeros(()))

    def extend(self, vectors: Tensor) -> None:
        """Add items at the end that are known by their texts alone: vectors (n, width), not yet in `space`."""
        n, width = vectors.shape
        new = {
            "text": self.space(vectors, len(self.text)),
            "collaborative": self.text.new_zeros(n, width),
            "known": self.known.new_zeros(n),
            "warm": self.warm.new_zeros(n),
            "worded": (vectors != 0).any(1).to(self.worded),
            "spared": self.spared.new_zeros(n),
        }
        for name, values in new.items():
            setattr(self, name, torch.cat([getattr(self, name), values]))
        self.whiten()
        self.residual = nn.Parameter(torch.cat([self.residual, self.residual.new_zeros(n, width)]), False)
        self.bias = nn.Parameter(torch.cat([self.bias, self.bias.new_zeros(n)]), False)

    def reword(self, index: Tensor, vectors: Tensor) -> None:
        """Give items at `index` (n,) other texts: vectors (n, width), not yet in `space`."""
        self.text[index] = self.space(vectors, len(self.text))
        self.worded[index] = (vectors != 0).any(1).to(self.worded)
        self.whiten()

    def whiten(self) -> None:
        """Make the whitened texts anew, after the texts or their space have changed."""
        self.white = self.space.whitened(self.text)

    def forward(self, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows (n, width) and biases (n,) of the items at `index` (all: None)."""
        text, collaborative, known, warm = self.text, self.collaborative, self.known, self.warm
        residual: Tensor = self.residual
        bias: Tensor = self.bias
        if index is not None:
            text, collaborative, known, warm = text[index], collaborative[index], known[index], warm[index]
            residual, bias = residual[index], bias[index]
        keep = warm.to(text.dtype)
        with_neighbours = known * keep
        norm = (1 + with_neighbours).rsqrt()[:, None]
        start = torch.addcmul(text * norm, with_neighbours[:, None] * norm, collaborative)  # no gradient
        rows = torch.addmm(start, norm * (text @ self.down), self.up)
        text_bias = text @ self.text_bias
        return torch.addcmul(rows, keep[:, None], residual), text_bias + keep * bias

    def cold(self, text: Tensor) -> Tensor:
        """Rows (n, width) of cold items with these texts (n, width), in `space`."""
        return torch.addmm(text, text @ self.down, self.up)

    def by_text(self, index: Tensor | None = None) -> Tensor:
        """Rows (n, width) by their texts alone of the items at `index` (all: None)."""
        white = self.white if index is None else self.white[index]
        return torch.addmm(white, white @ self.text_down, self.text_up)
