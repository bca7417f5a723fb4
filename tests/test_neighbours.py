"""Neighbours and effects: what is counted, what is added to scores, and weights that validation supports."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from tiny import tiny_backbone
from worlds import WORDS, chain_world

from genrec.model.backbone import load_backbone
from genrec.model.item_rows import ItemRows
from genrec.model.recmodel import RecModel
from genrec.rows.corpus import vocabulary_of
from genrec.run.config import FinetuneConfig
from genrec.scoring import neighbours as module
from genrec.scoring.calibration import Calibration, fit_outcome
from genrec.scoring.effects import DAMPING, NAMES, PENALTY, Effects
from genrec.scoring.features import unfitted
from genrec.scoring.fit import MIN_CASES, Cases, find_effects, fit_lists
from genrec.scoring.neighbours import DECAYS, Links, Neighbours, ease, transitions
from genrec.scoring.scorer import Counts, Scorer
from genrec.training.prepare import prepare

N = 30


def test_ease_restores_a_history_from_its_other_items() -> None:
    rng = np.random.default_rng(0)
    histories = sparse.csr_matrix((rng.random((200, N)) < 0.2).astype(np.float32))
    found = ease(histories).toarray()
    gram = (histories.T @ histories).toarray().astype(np.float64) + module.EASE_PENALTY * np.eye(N)
    for item in range(N):  # each column is a ridge regression of the item on all others
        others = np.arange(N) != item
        expected = np.linalg.solve(gram[np.ix_(others, others)], gram[others, item])
        np.testing.assert_allclose(found[others, item], expected, atol=1e-5)
    assert (np.diag(found) == 0).all()


def test_only_the_strongest_neighbours_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_NEIGHBOURS", 2)
    item = np.asarray([0, 1, 0, 2, 0, 3, 0, 1, 0, 2, 0, 1])
    found = transitions(item, np.zeros(len(item), dtype=int), 4).toarray()
    assert np.nonzero(found[0])[0].tolist() == [1, 2]
    weights = np.asarray([[0.0, -5.0, 1.0, 3.0], [1.0, 0.0, 2.0, -3.0]])
    assert module.strongest(weights).toarray().tolist() == [[0, -5, 0, 3], [0, 0, 2, -3]]


def test_transitions_stay_within_users_and_windows() -> None:
    item, user = np.asarray([0, 1, -1, 2, 3, 4]), np.asarray([0, 0, 0, 0, 0, 1])
    found = transitions(item, user, 5).toarray()
    expected = np.zeros((5, 5))
    expected[0, 1], expected[0, 2] = 1, 1 / 3
    expected[1, 2], expected[1, 3] = 1 / 2, 1 / 3
    expected[2, 3] = 1
    np.testing.assert_allclose(found, expected / (expected.sum(1, keepdims=True) + module.SMOOTHING), rtol=1e-6)


def dense(links: Links) -> np.ndarray:
    return sparse.csr_matrix((links.strength, links.candidate, links.first), shape=(N, N)).toarray()


def some_neighbours() -> Neighbours:
    rng = np.random.default_rng(1)
    matrices = [np.where(rng.random((N, N)) < 0.3, rng.normal(size=(N, N)), 0).astype(np.float32) for _ in range(2)]
    found = Neighbours([Links(sparse.csr_matrix(m)) for m in matrices])
    found.weight.copy_(torch.as_tensor(rng.random((2, 2, len(DECAYS)))))
    found.seen[1] = -3.0
    return found


def test_scores_are_sums_over_the_history() -> None:
    found = some_neighbours()
    histories = [np.asarray([3, 5, -1, 5]), np.zeros(0, dtype=int), np.asarray([-1]), np.asarray([7])]
    added = found(histories, "basket").numpy()
    strengths = [dense(links) for links in found.kinds]
    for own, history in zip(added, histories, strict=True):
        expected = np.zeros(N)
        for after, item in enumerate(history[::-1]):
            for kind in range(2 if item >= 0 else 0):
                say = sum(float(w) * d**after for w, d in zip(found.weight[1, kind], DECAYS, strict=True))
                expected += say * strengths[kind][item]
        expected[np.unique(history[history >= 0])] -= 3
        np.testing.assert_allclose(own, expected, atol=1e-5)


def test_a_saved_state_gives_the_same_scores() -> None:
    found = some_neighbours()
    again = Neighbours([Links.like(found.state_dict(), f"kinds.{n}.") for n in range(2)])
    again.load_state_dict(found.state_dict())
    histories = [np.asarray([1, 2, 3])]
    assert torch.equal(found(histories, "basket"), again(histories, "basket"))


def ignorant(folder: Path, taken: list[np.ndarray], n: int) -> tuple[Scorer, str, torch.Tensor]:
    """A model that scores all of n items alike, with neighbours of what users have taken; 200 states for it."""
    width = 32
    rows = ItemRows(torch.zeros(n, width), torch.zeros(n, width), torch.ones(n, dtype=torch.bool))
    item, user = np.concatenate(taken), np.repeat(np.arange(len(taken)), [len(t) for t in taken])
    ones = np.ones(len(item), dtype=np.float32)
    histories = sparse.csr_matrix((ones, (user, item)), shape=(len(taken), n))
    links = ease(histories), transitions(item, user, n), sparse.csr_matrix(sparse.eye_array(n, dtype=np.float32))
    neighbours = Neighbours([Links(matrix) for matrix in links])
    dataset = chain_world(items=n)
    backbone = load_backbone(str(tiny_backbone(folder, WORDS)))
    vocabulary = vocabulary_of([dataset], {dataset.name: []}, len(backbone.tokenizer))
    model = RecModel(backbone.model.float(), vocabulary, {dataset.name: rows}, torch.zeros(0, width))
    return Scorer(model, {dataset.name: Counts(neighbours)}), dataset.name, torch.randn(200, width)


@pytest.mark.parametrize("repeats", [0, 0.25])
def test_what_never_repeats_is_not_recommended_again(tmp_path, repeats) -> None:
    """In a large catalogue, where the few items of a history are hardly ever the answer anyway."""
    n, rng = 3_000, np.random.default_rng(0)
    taken = [rng.choice(n, 4, replace=False) for _ in range(400)]
    scorer, name, states = ignorant(tmp_path, taken, n)
    shown = [own[:3] for own in taken[:200]]
    again = rng.random(200) < repeats
    targets = [own[:1] if a else own[3:] for own, a in zip(taken, again, strict=False)]
    fit_lists(scorer, name, scorer.counts[name], Cases(states, shown, targets), 0)
    share = scorer.item_scores(states, name, shown).softmax(1).numpy()
    seen = np.mean([row[own].sum() for row, own in zip(share, shown, strict=True)])
    assert seen < 1e-5 if repeats == 0 else abs(seen - again.mean()) < 0.02


@pytest.mark.parametrize("drawn", [16_384, 20])
def test_weights_follow_what_validation_shows(tmp_path, monkeypatch, drawn) -> None:
    """In a world where n + 1 follows n, and the model knows nothing, transitions say so: also where weights are fitted
    on a sample of the catalogue."""
    monkeypatch.setattr("genrec.scoring.fit.DRAWN", drawn)
    n, rng = 60, np.random.default_rng(0)
    scorer, name, states = ignorant(tmp_path, [(np.arange(8) + s) % n for s in rng.integers(0, n, 300)], n)
    shown = [(np.arange(7) + s) % n for s in rng.integers(0, n, 200)]
    targets = [np.asarray([(own[-1] + 1) % n]) for own in shown]
    few = slice(0, MIN_CASES - 1)
    fit_lists(scorer, name, scorer.counts[name], Cases(states[few], shown[few], targets[few]), 0)
    neighbours = scorer.counts[name].neighbours
    assert not neighbours.adds("next_item")
    plain = scorer.model_scores(states, name)
    assert torch.equal(scorer.item_scores(states, name, shown), plain)
    fit_lists(scorer, name, scorer.counts[name], Cases(states, shown, targets), 0)
    best = scorer.item_scores(states, name, shown).argmax(1).tolist()
    assert np.mean([b == t[0] for b, t in zip(best, targets, strict=True)]) > 0.95
    assert neighbours.seen[0] < 0  # nothing ever repeats
    assert not neighbours.adds("basket")  # a question of its own
    assert [r.index[0] for r in scorer.rank(states, name, 3, [s[:0] for s in shown], shown)] == best


def test_effects_of_a_user_and_an_item() -> None:
    strengths = np.zeros((N, N), dtype=np.float32)
    strengths[3, 7], strengths[4, 7] = 0.5, -1.0
    item = torch.zeros(N)
    item[3], item[7] = 0.25, -0.75
    factors = torch.zeros(N, 2)
    factors[3, 0], factors[7, 0], factors[8, 1] = 1.0, 2.0, 1.0
    effects = Effects(torch.as_tensor([-1.0, 0.0, 1.0]), item, factors, Links(sparse.csr_matrix(strengths)))
    history = np.asarray([3, 4, -1, 5]), np.asarray([2, 0, 2, -1])  # the third is no item, the fourth has no outcome
    penalty = PENALTY * 2**0.5
    own, user = np.linalg.solve([[1 + penalty, 1], [1, 2 + DAMPING]], [0.75, 0.75 - 1.0])  # of 0.75 and -1
    beside = 0.5 * (0.75 - user) - 1.0 * (-1.0 - user)
    found = effects([history, (np.zeros(0, int), np.zeros(0, int))], [[7, 8], [7]])
    np.testing.assert_allclose(found, [[user, -0.75, 2 * own, beside], [user, 0, 0, 0], [0, -0.75, 0, 0]], atol=1e-6)
    again = Effects.like(effects.state_dict(), "")
    again.load_state_dict(effects.state_dict())
    assert (again([history], [[7]]) == found[:1]).all()


def test_factors_tell_what_suits_a_new_user(tmp_path: Path) -> None:
    """Half of the users like even items and not odd ones, half the other way round: nothing is liked by all."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{i}", int(n), 5.0 if (i + u) % 2 else 1.0)
        for u in range(60)
        for n, i in enumerate(rng.choice(20, 12, replace=False))
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")
    frame.write_parquet(tmp_path / "likes.parquet")
    model = str(tiny_backbone(tmp_path / "tiny", WORDS))
    config = FinetuneConfig(interactions=str(tmp_path / "likes.parquet"), task=("rating",), model=model)
    (corpus,) = prepare(config, lambda _: None).corpora
    effects = find_effects(corpus)
    assert effects is not None
    place = {name: n for n, name in enumerate(corpus.dataset.items["item_id"])}
    likes = int(effects.value.argmax())
    shown = np.asarray([place[f"i{i}"] for i in (0, 2, 1)]), np.asarray([likes, likes, 1 - likes])
    asked = [place[f"i{i}"] for i in (4, 6, 5, 7)]
    suits = effects([shown], [asked])[:, NAMES.index("factors")]
    assert suits[:2].min() > 0.3 and suits[2:].max() < -0.3


def test_unfitted_effects_say_yes_to_what_is_clicked(tmp_path: Path) -> None:
    """Though "click" comes before "skip": which of two kinds of events is the higher one says nothing."""
    rows = [(f"u{u}", f"i{i}", i, "click" if (i * u) % 3 else "skip") for u in range(9) for i in range(u % 2, 12, 2)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event"], orient="row")
    frame.write_parquet(tmp_path / "clicks.parquet")
    model = str(tiny_backbone(tmp_path / "tiny", WORDS))
    config = FinetuneConfig(interactions=str(tmp_path / "clicks.parquet"), task=("click",), model=model)
    (corpus,) = prepare(config, lambda _: None).corpora
    effects, events, (task,) = find_effects(corpus), corpus.events, corpus.tasks
    assert effects is not None and events is not None
    clicked = effects.value[events.kinds.index("click")]
    known = unfitted(corpus, Counts(effects=effects, attributes=()), task)  # of the likeness nothing is known
    assert known == pytest.approx([1.0 if clicked > 0 else -1.0] * 4 + [0.0])


@pytest.mark.parametrize("values", [(1.0, 2.0, 4.0), ()])
def test_probabilities_follow_the_features_that_the_scores_lack(values) -> None:
    """Answers come from features alone: the fitted weights find them, and which way the answers lie."""
    rng = np.random.default_rng(0)
    n, answers = 4_000, len(values) or 2
    features, weights = rng.normal(size=(n, 3)), np.asarray([1.5, -0.5, 0.0])
    tilt = np.asarray(values or (0.0, 1.0))
    tilt = (tilt - tilt.mean()) / tilt.std()
    scores = rng.normal(size=(n, answers))
    true = Calibration().probabilities(scores + (features @ weights)[:, None] * tilt)
    answer = np.asarray([rng.choice(answers, p=p) for p in true])
    fitted = fit_outcome(scores, answer, np.ones(n), features, values)
    np.testing.assert_allclose(fitted.features, weights, atol=0.12)
    assert fitted.tilt == pytest.approx(tilt)
    assert np.abs(fitted.probabilities(scores, features) - true).mean() < 0.02
    assert Calibration.from_json(asdict(fitted)) == fitted
    few = fit_outcome(scores[:9], answer[:9], np.ones(9), features[:9], values)
    assert few.bias == ()
    assert np.abs(np.asarray(few.features) - 1).max() < np.abs(np.asarray(few.features) - weights).max()
    none = fit_outcome(scores[:0], answer[:0], np.ones(0), features[:0], values)
    assert none == Calibration(1.0, (), (1.0, 1.0, 1.0), fitted.tilt)  # a deviation moves the answer by itself


def test_scores_that_say_nothing_fall_silent_beside_features() -> None:
    """At few cases as at many; without features there is nothing else to go by."""
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(2_000, 1)), rng.normal(size=(2_000, 2))
    for share, temperature in ((0.0, 20.0), (1.0, 1.0)):
        true = Calibration(features=(1.0,), tilt=(-1.0, 1.0)).probabilities(share * scores, features)[:, 1]
        answer = (rng.random(2_000) < true).astype(int)
        for n, within in ((2_000, 0.15), (120, 0.6)):
            fitted = fit_outcome(scores[:n], answer[:n], np.ones(n), features[:n])
            assert fitted.temperature == pytest.approx(temperature, rel=within)
    assert fit_outcome(scores, answer, np.ones(2_000)).temperature < 2


def test_optional_features_weigh_if_they_tell_enough() -> None:
    rng = np.random.default_rng(0)
    features, scores = rng.normal(size=(2_000, 4)), np.zeros((2_000, 2))
    answer = (
        rng.random(2_000) < Calibration(features=(1.0,), tilt=(-1.0, 1.0)).probabilities(scores, features[:, :1])[:, 1]
    ).astype(int)
    known = np.asarray([1.0, 0.0, 0.0, 0.0])
    noise = fit_outcome(scores, answer, np.ones(2_000), features, unfitted=known, optional=3)
    assert noise.features[1:] == (0.0, 0.0, 0.0) and noise.features[0] == pytest.approx(1, abs=0.15)
    turned = features[:, [1, 2, 3, 0]]
    useful = fit_outcome(scores, answer, np.ones(2_000), turned, unfitted=np.zeros(4), optional=3)
    assert useful.features[3] == pytest.approx(1, abs=0.15)
    few = fit_outcome(scores[:0], answer[:0], np.ones(0), features[:0], unfitted=known, optional=3)
    assert few.features == tuple(known)
