"""Items as titles: the model as pretrained reads the titles of a history and goes on with one of the catalogue."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..errors import GenrecError
from ..model.backbone import Backbone
from ..rows.corpus import first_token, plain_encoder
from ..scoring.scorer import Ranking
from .trie import Trie, beam_search, build_trie, exact_scores

HEADER = "What one person chose, oldest first:\n"
MAX_TITLES = 30  # titles of a history that are read, the most recent
PROMPT_TOKENS = 512  # and no more tokens of them than this
FEW = 100  # up to so many candidates are scored exactly
BEAMS = 10  # at least
PROMPTS_AT_A_TIME = 8


@dataclass(frozen=True)
class Titles:
    """A catalogue as titles: tokens of each item's title, and the trie over them; `end` closes a title."""

    language: Backbone
    header: list[int]
    tokens: list[list[int]]
    end: int
    trie: Trie


def item_titles(items: pl.DataFrame) -> list[str]:
    """A text per item, no two alike: the title, with the year if two share it, then with the item_id; the item_id
    alone if there is no title."""
    ids = items["item_id"].to_list()
    texts = [" ".join((title or "").split()) or item for title, item in zip(items["title"].to_list(), ids, strict=True)]
    years = items["year"].to_list() if "year" in items.columns else [None] * len(ids)
    for suffixes in (years, ids):
        duplicated = pl.Series(texts, dtype=pl.String).is_duplicated().to_list()
        texts = [
            f"{text} ({suffix})" if is_duplicate and suffix is not None else text
            for text, suffix, is_duplicate in zip(texts, suffixes, duplicated, strict=True)
        ]
    return texts


def read_titles(language: Backbone, items: pl.DataFrame) -> Titles:
    """The catalogue as the model reads it; raises GenrecError if the tokenizer has no token that can close a title."""
    encode = plain_encoder(language.tokenizer)
    end = title_end(language.tokenizer)
    tokens = [[t for t in encode(text) if t != end] for text in item_titles(items)]
    return Titles(language, [first_token(language.tokenizer), *encode(HEADER)], tokens, end, build_trie(tokens, end))


def title_end(tokenizer: Any) -> int:
    """The token of a new line, else the one that ends a text."""
    line = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if line and tokenizer.decode(line[-1:]) == "\n":
        return int(line[-1])
    if tokenizer.eos_token_id is None:
        raise GenrecError("the model's tokenizer has neither a new line nor a token that ends a text")
    return int(tokenizer.eos_token_id)


def title_prompt(titles: Titles, history: Sequence[int]) -> list[int]:
    """The most recent titles of a history (catalogue indices, oldest first), one per line."""
    prompt: list[int] = []
    for item in reversed(history[-MAX_TITLES:]):
        line = [*titles.tokens[item], titles.end]
        if prompt and len(prompt) + len(line) > PROMPT_TOKENS:
            break
        prompt = line + prompt
    return titles.header + prompt


def rank_titles(
    titles: Titles, histories: Sequence[Sequence[int]], allowed: Sequence[np.ndarray], k: int
) -> list[Ranking]:
    """The k likeliest titles after each history among the allowed items, each (items,) bool.

    score: the log-probability of the title under the model; probability: the same, not calibrated. At most FEW items
    are scored exactly; of more, those that max(k, BEAMS) beams find are given, which can be fewer than k.
    """
    rankings: list[Ranking] = [Ranking(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))] * len(histories)
    prompts = [title_prompt(titles, history) for history in histories]
    counts = np.asarray([mask.sum() for mask in allowed])
    model = titles.language.model
    for n in np.nonzero((counts > 0) & (counts <= FEW))[0].tolist():
        index = np.nonzero(allowed[n])[0]
        score = exact_scores(model, prompts[n], titles.trie, index)
        best = np.lexsort((index, -score))[:k]
        rankings[n] = Ranking(index[best], score[best], np.exp(score[best]))
    many = sorted(np.nonzero(counts > FEW)[0].tolist(), key=lambda n: len(prompts[n]))
    for start in range(0, len(many), PROMPTS_AT_A_TIME):
        part = many[start : start + PROMPTS_AT_A_TIME]
        masks = np.stack([allowed[n] for n in part])
        beams = beam_search(model, [prompts[n] for n in part], titles.trie, masks, max(k, BEAMS))
        for n, (index, score) in zip(part, beams, strict=True):
            rankings[n] = Ranking(index[:k], score[:k], np.exp(score[:k]))
    return rankings
