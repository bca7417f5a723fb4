"""Texts of items as vectors, and how like they are to a history's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from tiny import tiny_backbone
from worlds import WORDS, chain_world

from genrec.model.backbone import load_backbone
from genrec.model.item_rows import ItemRows
from genrec.model.item_texts import TextSpace, mean_words, rarity, whitening
from genrec.model.recmodel import RecModel
from genrec.rows.corpus import vocabulary_of
from genrec.scoring.fit import Cases, fit_lists
from genrec.scoring.neighbours import DECAYS, Links, Neighbours
from genrec.scoring.scorer import Counts, Scorer
from genrec.scoring.texts import Texts, likeness

WIDTH = 32


def test_a_rare_word_weighs_more_in_a_mean() -> None:
    texts = [[0, 1], [0, 2, 2], [0], []]
    weight = rarity(texts, 5)
    assert weight.tolist() == pytest.approx(np.sqrt(np.log([4 / 4, 4 / 2, 4 / 2, 4 / 1, 4 / 1])).tolist())
    words = torch.eye(5)
    means = mean_words(texts, words, weight)
    root = np.sqrt(np.log(2))
    expected = [[0, root / 2, 0], [0, 0, 2 * root / 3], [0, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(means[:, :3], torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("items", [3, 20, 2_000])
def test_whitened_texts_spread_alike_in_every_direction(items: int) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(items, WIDTH) * torch.logspace(0, -2, WIDTH) + 3.0
    vectors[0] = 0  # an item without text
    space = whitening(vectors, torch.ones(items, dtype=torch.bool), torch.ones(7), torch.tensor(0.5))
    assert torch.isfinite(space.basis).all() and torch.allclose(space.basis, space.basis.T, atol=1e-4)
    text = space(vectors)
    assert text.norm(dim=1).tolist() == pytest.approx([0.5] * items, abs=1e-5)
    if items > 1_000:  # it was 100 to 1
        spread = ((vectors[1:] - space.centre) @ space.basis).std(0)
        white = torch.nn.functional.normalize((vectors[1:] - space.centre) @ space.basis)
        torch.testing.assert_close(space.whitened(text[1:]), 0.5 * white)
        assert float(spread.max() / spread.min()) < 4


def test_cold_items_do_not_say_how_texts_spread() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(50, WIDTH)
    warm = torch.arange(50) < 40
    other = torch.cat([vectors[:40], 9 * torch.randn(10, WIDTH)])
    one, two = (whitening(v, warm, torch.ones(7), torch.tensor(1.0)) for v in (vectors, other))
    assert torch.equal(one.basis, two.basis) and torch.equal(one.centre, two.centre)


def test_likeness_is_the_cosine_with_what_came_before() -> None:
    torch.manual_seed(0)
    worded = torch.ones(9, dtype=torch.bool)
    worded[4] = False
    text = 3 * torch.nn.functional.normalize(torch.randn(9, WIDTH), dim=1)
    rows = ItemRows(text, torch.zeros(9, WIDTH), torch.zeros(9, dtype=torch.bool), worded=worded)
    histories = [np.asarray([1, 4, -1, 2]), np.zeros(0, dtype=int), np.asarray([4])]
    weight = torch.tensor([0.5, 0.0, 0.0, 2.0])
    cosine = torch.nn.functional.normalize(text, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
    said = (0.5 * DECAYS[0] ** 3 + 2) * cosine[1] + 2.5 * cosine[2]
    expected = torch.stack([said * worded, torch.zeros(9), torch.zeros(9)]) * WIDTH**0.5
    torch.testing.assert_close(likeness(rows, histories, weight), expected)
    rows.extend(torch.stack([text[2], torch.zeros(WIDTH)]))  # one like item 2, one without text
    more = likeness(rows, histories, weight)
    torch.testing.assert_close(more[:, :9], expected)
    torch.testing.assert_close(more[:, 9], more[:, 2])
    assert not more[:, 10].any()


def families(folder: Path, cold_every: int) -> tuple[Scorer, str, torch.Tensor]:
    """A model that knows nothing of 120 items, whose texts are of 12 families; every `cold_every`th is cold."""
    n = 120
    torch.manual_seed(0)
    vectors = torch.randn(12, WIDTH)[torch.arange(n) % 12] + 0.3 * torch.randn(n, WIDTH)
    warm = torch.arange(n) % cold_every > 0
    space = whitening(vectors, warm, torch.ones(7), torch.tensor(1.0))
    rows = ItemRows(
        space(vectors),
        torch.zeros(n, WIDTH),
        torch.zeros(n, dtype=torch.bool),
        warm.long(),
        space,
        warm=warm,
        spared=warm,
    )
    dataset = chain_world(items=n)
    backbone = load_backbone(str(tiny_backbone(folder, WORDS)))
    vocabulary = vocabulary_of([dataset], {dataset.name: []}, len(backbone.tokenizer))
    model = RecModel(backbone.model.float(), vocabulary, {dataset.name: rows}, torch.zeros(0, WIDTH))
    neighbours = Neighbours([Links(sparse.csr_matrix((n, n), dtype=np.float32))])
    return Scorer(model, {dataset.name: Counts(neighbours, None, Texts())}), dataset.name, torch.zeros(300, WIDTH)


@pytest.mark.parametrize("by_model", [True, False])
def test_who_takes_one_of_a_family_gets_others_of_it(tmp_path: Path, by_model: bool) -> None:
    """Every history is of one family, and so is what comes next: the weight of texts is found, and a cold item of the
    family comes first among the cold ones."""
    scorer, name, states = families(tmp_path, 10)
    rng, warm = np.random.default_rng(0), scorer.model.rows_of(name).warm.numpy()
    cases = []
    for family in rng.integers(0, 12, len(states)):
        cases.append(rng.permutation([i for i in range(family, 120, 12) if warm[i]])[:4])
    histories, targets = [c[:3] for c in cases], [c[3:] for c in cases]
    parts = ("language model", "neighbours", "texts", "cold items")[0 if by_model else 1 :]
    fit_lists(scorer, name, scorer.counts[name], Cases(states, histories, targets), 0, parts)
    assert scorer.counts[name].texts.adds("next_item")
    assert not scorer.counts[name].texts.adds("basket")  # a question of its own
    scores = scorer.item_scores(states, name, histories, parts=parts)
    among = scores.masked_fill(~torch.as_tensor(warm), -torch.inf)
    among = among.scatter(1, torch.as_tensor(np.stack(histories)), -torch.inf)
    family = np.asarray([h[0] % 12 for h in histories])
    assert np.mean(among.argmax(1).numpy() % 12 == family) > 0.95
    cold_scores = scores.masked_fill(torch.as_tensor(warm), -torch.inf)
    has_cold = np.asarray([any(not warm[i] for i in range(f, 120, 12)) for f in family])
    assert np.mean((cold_scores.argmax(1).numpy() % 12 == family)[has_cold]) > 0.95


def test_a_plain_space_leaves_directions_as_they_are() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(4, WIDTH)
    torch.testing.assert_close(
        TextSpace.plain(3, WIDTH, 2.0)(vectors), 2 * torch.nn.functional.normalize(vectors, dim=1)
    )
