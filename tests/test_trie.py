"""Identifiers of several tokens: exact scores and beams are those of plain transformers, and every title is real."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny import tiny_backbone

from genrec.cli import main
from genrec.errors import UnknownNameError
from genrec.language.titles import FEW, item_titles, rank_titles, read_titles, title_prompt
from genrec.language.trie import beam_search, build_trie, exact_scores
from genrec.model.backbone import Backbone, load_language
from genrec.recommender import Recommender

END, BEAMS = 3, 4
WORDS = "the old man sea and a red river new".split()
TITLES = (
    *("Alien", "Aliens", "Alien: Resurrection", "Il Postino", "Amélie", "七人の侍", "The Thing", "The Thing"),
    *("The Third Man", "M", "Se7en", "Toy Story", "Toy Story 2", "", "Seven Samurai", "Heat", "Fargo", "Contact"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    backbone = load_language(str(tiny_backbone(tmp_path_factory.mktemp("tiny"), WORDS)))
    backbone.model.float()
    return backbone


@pytest.fixture(scope="module")
def pretrained() -> Backbone:
    backbone = load_language("smollm2-135m")
    backbone.model.float()
    return backbone


def identifiers(vocabulary: int, n: int = 40) -> list[list[int]]:
    """Random identifiers, some of them beginnings of others, and one that is empty."""
    rng = random.Random(0)
    drawn = [[rng.randrange(4, min(vocabulary, 12)) for _ in range(rng.randrange(1, 5))] for _ in range(n)]
    return [list(i) for i in dict.fromkeys(map(tuple, [*drawn, *(i[:2] for i in drawn), []]))]


def plain_scores(model: Any, prompt: list[int], tokens: list[list[int]], end: int) -> list[float]:
    """One forward pass per identifier."""
    found = []
    for identifier in tokens:
        row = [*prompt, *identifier, end]
        with torch.no_grad():
            logs = model(torch.tensor([row])).logits[0].log_softmax(-1)
        found.append(sum(float(logs[at - 1, row[at]]) for at in range(len(prompt), len(row))))
    return found


def plain_beams(
    model: Any, prompts: list[list[int]], tokens: list[list[int]], end: int, beams: int, allowed: np.ndarray
) -> list[dict[tuple[int, ...], float]]:
    """transformers' constrained beams, their scores by identifier; what it fills up with is left out."""
    longest = max(map(len, prompts))
    rows = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    shown = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    follow: list[dict[tuple[int, ...], list[int]]] = [{} for _ in prompts]
    for own, given in zip(follow, allowed, strict=True):
        for n in np.nonzero(given)[0]:
            whole = [*tokens[n], end]
            for at in range(len(whole)):
                own.setdefault(tuple(whole[:at]), []).append(whole[at])
    found = model.generate(
        rows,
        attention_mask=shown,
        num_beams=beams,
        num_return_sequences=beams,
        do_sample=False,
        length_penalty=0.0,
        max_new_tokens=max(map(len, tokens)) + 1,
        eos_token_id=end,
        pad_token_id=end,
        prefix_allowed_tokens_fn=lambda batch, row: follow[batch].get(tuple(row[longest:].tolist()), [end]),
        return_dict_in_generate=True,
        output_scores=True,
    )
    lists: list[dict[tuple[int, ...], float]] = [{} for _ in prompts]
    for n, (row, score) in enumerate(zip(found.sequences[:, longest:].tolist(), found.sequences_scores, strict=True)):
        if float(score) > -1e8 and end in row:
            lists[n // beams][tuple(row[: row.index(end)])] = float(score)
    return lists


def check_beams(model: Any, prompts: list[list[int]], tokens: list[list[int]], end: int, beams: int) -> None:
    """The same lists and scores, with all identifiers and with half of them."""
    trie = build_trie(tokens, end)
    everything = np.ones((len(prompts), len(tokens)), dtype=bool)
    for allowed in (everything, np.random.default_rng(1).random(everything.shape) < 0.5):
        expected = plain_beams(model, prompts, tokens, end, beams, allowed)
        found = beam_search(model, prompts, trie, allowed, beams)
        for (index, score), own, given in zip(found, expected, allowed, strict=True):
            assert given[index].all() and (np.diff(score) <= 0).all()
            assert [tuple(tokens[i]) for i in index] == list(own)
            assert score == pytest.approx(list(own.values()), abs=2e-3)


@pytest.mark.parametrize("beams", [2, BEAMS, 100])
def test_beams_are_those_of_transformers(tiny: Backbone, beams: int) -> None:
    tokens = identifiers(len(tiny.tokenizer))
    check_beams(tiny.model, [[2, 5, 6, 7], [2], [2, 9, 4, 4, 8, 5]], tokens, END, beams)


def test_beams_with_all_identifiers_are_the_exact_order(tiny: Backbone) -> None:
    tokens = identifiers(len(tiny.tokenizer))
    trie, n = build_trie(tokens, END), len(tokens)
    ((index, score),) = beam_search(tiny.model, [[2, 5]], trie, np.ones((1, n), dtype=bool), 2 * n)
    exact = exact_scores(tiny.model, [2, 5], trie, np.arange(n))
    assert sorted(index) == list(range(n))
    assert score == pytest.approx(exact[index], abs=1e-4) and score == pytest.approx(np.sort(exact)[::-1], abs=1e-4)


def test_exact_scores_are_one_pass_per_identifier(tiny: Backbone) -> None:
    tokens = identifiers(len(tiny.tokenizer))
    tokens += [tokens[0]]  # two with the same tokens
    wanted = np.asarray([*range(len(tokens))][::-1])
    found = exact_scores(tiny.model, [2, 6, 7], build_trie(tokens, END), wanted)
    assert found == pytest.approx(plain_scores(tiny.model, [2, 6, 7], [tokens[i] for i in wanted], END), abs=1e-4)


def test_items_of_equal_tokens_come_together(tiny: Backbone) -> None:
    trie = build_trie([[4, 5], [4], [4, 5]], END)
    ((index, score),) = beam_search(tiny.model, [[2]], trie, np.ones((1, 3), dtype=bool), 2)
    assert sorted(index) == [0, 1, 2] and score[list(index).index(0)] == score[list(index).index(2)]
    ((index, _),) = beam_search(tiny.model, [[2]], trie, np.asarray([[False, False, True]]), 2)
    assert list(index) == [2]


def test_titles_are_told_apart() -> None:
    frame = pl.DataFrame(
        {
            "item_id": ["1", "2", "3", "4", "5", "6"],
            "title": ["Sabrina", "Sabrina", "Heat\n ", None, "Heat", " "],
            "year": [1954, 1995, 1995, 1999, 1995, None],
        }
    )
    assert item_titles(frame) == ["Sabrina (1954)", "Sabrina (1995)", "Heat (1995) (3)", "4", "Heat (1995) (5)", "6"]
    assert item_titles(frame.drop("year"))[:2] == ["Sabrina (1)", "Sabrina (2)"]


def test_titles_of_the_pretrained_model(pretrained: Backbone) -> None:
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES})
    titles = read_titles(pretrained, items)
    prompts = [title_prompt(titles, [11, 0]), title_prompt(titles, [4, 5, 6, 15, 16])]
    text = pretrained.tokenizer.decode(prompts[1])
    assert text.endswith("oldest first:\nAmélie\n七人の侍\nThe Thing (i6)\nHeat\nFargo\n")
    exact = exact_scores(pretrained.model, prompts[0], titles.trie, np.arange(len(TITLES)))
    assert exact == pytest.approx(plain_scores(pretrained.model, prompts[0], titles.tokens, titles.end), abs=2e-3)
    assert TITLES[int(exact.argmax())]  # words are likelier than an item_id
    check_beams(pretrained.model, prompts, titles.tokens, titles.end, BEAMS)


def test_a_long_history_is_cut_to_its_latest_titles(tiny: Backbone) -> None:
    items = pl.DataFrame({"item_id": [f"{n}" for n in range(60)], "title": [f"old man {n}" for n in range(60)]})
    titles = read_titles(tiny, items)
    shown = title_prompt(titles, list(range(60)))[len(titles.header) :]
    assert shown == [t for item in range(30, 60) for t in [*titles.tokens[item], titles.end]]


def test_recommendations_by_title(toy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", str(toy_run), "--user", "u001", "-k", "3", "--items-as", "title"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["strategy"] == "title" and len(shown["items"]) == 3
    recommender = Recommender.load(toy_run)
    history = ["000", "001", "002"]
    whole = recommender.recommend(history=history, k=12, items_as="title")
    frame, items = whole.frame, recommender.catalogue()
    assert frame.height == 9 and "fewer than 12" in whole.warnings[0]
    assert not set(frame["item_id"]) & set(history)
    assert frame.join(items, on=["item_id", "title"]).height == 9
    assert frame["score"].is_sorted(descending=True) and (frame["score"] < 0).all()
    narrow = {"where": "colour = 'red'", "exclude": ["004"], "candidates": ["003", "004", "006", "008"]}
    found = recommender.recommend(history=history, items_as="title", **narrow).frame
    assert found.equals(frame.filter(pl.col("item_id").is_in(["006", "008"])).with_columns(rank=pl.Series([1, 2])))
    again = recommender.recommend(history=history, k=12, items_as="title", exclude_seen=False).frame
    assert again.height == 12
    unknown = recommender.recommend(history=[], k=2, items_as="title").frame
    assert unknown["strategy"].to_list() == ["popular"] * 2
    with pytest.raises(UnknownNameError, match="token"):
        recommender.recommend(history=history, items_as="titles")


def test_long_lists_go_by_beams_and_short_ones_by_exact_scores(tiny: Backbone) -> None:
    """Several histories at once: most items allowed, two items, none; no list holds what is not allowed."""
    n = FEW + 30
    items = pl.DataFrame({"item_id": [f"{i}" for i in range(n)], "title": [f"red river {i}" for i in range(n)]})
    titles = read_titles(tiny, items)
    allowed = [np.ones(n, dtype=bool), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool), np.ones(n, dtype=bool)]
    allowed[0][:20], allowed[1][[7, 11]] = False, True
    histories = [list(range(20)), [3], [3], [5, 9]]
    many, two, none, whole = rank_titles(titles, histories, allowed, 10)
    assert len(many.index) == len(whole.index) == 10 and many.index.min() >= 20
    assert sorted(two.index) == [7, 11] and len(none.index) == 0
    for history, ranking in zip(histories, (many, two, none, whole), strict=True):
        exact = exact_scores(tiny.model, title_prompt(titles, history), titles.trie, ranking.index)
        assert ranking.score == pytest.approx(exact, abs=1e-4) and (np.diff(ranking.score) <= 0).all()
