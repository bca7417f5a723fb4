"""Vectors of texts in the space of a run's items."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import RunError
from ..model.backbone import Backbone, load_encoder
from ..model.item_rows import ItemRows
from ..model.item_texts import mean_words
from ..model.text_encoder import encode_texts, to_width
from ..rows.corpus import plain_encoder
from ..turns import encoded, in_turns
from .adapter import Adapter

Vectors = Tensor  # of texts (texts, width), float32
TEXTS = 128  # whose words are looked up before other jobs run
ENCODED = 32  # texts that an encoder reads before other jobs run


class TextVectors:
    """Vectors of items' texts, by the encoder that the run was trained with; place: where that is, if it is a folder,
    since an adapter holds no path."""

    def __init__(self, adapter: Adapter, place: str | None = None) -> None:
        self.adapter, self.place = adapter, place
        self._encoder: Backbone | None = None

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], dataset: str) -> Vectors:
        """Vectors of texts, not yet in the space of a data set's items; zero for a text without words. Raises RunError
        if the text encoder is another than that of the training."""
        model, source = self.adapter.model, self.adapter.manifest.text_encoder
        if source is not None:
            if self._encoder is None:
                self._encoder = load_encoder(self.place or source.model)
                if self._encoder.source.sha256 != source.sha256:
                    raise RunError(f"the text encoder {source.model} is another than the run was trained with")
            width = model.outcome_rows.shape[1]
            parts = [encode_texts(self._encoder, part) for part in in_turns(texts, ENCODED)]
            vectors = torch.cat(parts or [encode_texts(self._encoder, texts)])
            return to_width(vectors, width, int(self.adapter.manifest.options.get("seed", 0)))
        rarity = self.adapter.model.rows_of(dataset).space.rarity.cpu()
        parts = [self.words_of(part, rarity) for part in in_turns(texts, TEXTS)]
        return torch.cat(parts or [self.words_of(texts, rarity)])

    def words_of(self, texts: Sequence[str], rarity: Tensor) -> Vectors:
        """The mean word embedding of each text, each times the rarity of its word."""
        model = self.adapter.model
        encode, table = plain_encoder(self.adapter.tokenizer), model.backbone.get_input_embeddings()  # type: ignore[operator]
        ids = encoded(encode, texts)
        used = sorted({token for token_ids in ids for token in token_ids})
        row_of = {token: n for n, token in enumerate(used)}
        index = torch.as_tensor(used or [0])
        words = table(index.to(table.weight.device)).float().cpu()
        return mean_words([[row_of[t] for t in token_ids] for token_ids in ids], words, rarity[index])


@torch.no_grad()
def rows_of_texts(rows: ItemRows, vectors: Vectors) -> np.ndarray:
    """The rows (texts, width) that items with nothing but these vectors would have in a catalogue."""
    return np.asarray(rows.cold(rows.space(vectors.to(rows.text))).cpu())
