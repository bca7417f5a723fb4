"""Answers from what is kept of a history, and exact lists from scores."""

import numpy as np
import pytest
import torch
from tiny import tiny_backbone
from worlds import WORDS, chain_world

from genrec.model.backbone import load_backbone
from genrec.model.item_rows import ItemRows
from genrec.model.recmodel import RecModel
from genrec.rows.arrays import shown_from
from genrec.rows.corpus import Corpus, build_corpus, offered_tasks, plain_encoder, vocabulary_of
from genrec.rows.row import Branch, Row, prompt_row, read_at
from genrec.scoring.engine import FEW, ROWS_AT_A_TIME
from genrec.scoring.scorer import Scorer
from genrec.tasks.taskfile import load_tasks

LENGTH = 60
MOST = 40  # events of a history that are read


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, RecModel]:
    """A world of long histories and a random model, in float32."""
    backbone = load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("tiny"), WORDS)))
    dataset = chain_world(users=FEW + 3, length=LENGTH)
    tasks, _ = offered_tasks(dataset, list(load_tasks().values()))
    vocabulary = vocabulary_of([dataset], {dataset.name: tasks}, len(backbone.tokenizer))
    names = [t.name for t in tasks]
    corpus = build_corpus(dataset, tasks, vocabulary, plain_encoder(backbone.tokenizer), 2, 0, names)
    torch.manual_seed(1)
    n, width = dataset.items.height, 32
    rows = ItemRows(torch.randn(n, width), torch.randn(n, width), torch.ones(n, dtype=torch.bool))
    body = backbone.model.float()
    return corpus, RecModel(body, vocabulary, {dataset.name: rows}, torch.randn(vocabulary.n_outcomes, width))


def history(corpus: Corpus, events: int, branches: list[list[int]] = (), user: int = 0) -> Row:
    """A user's first events as the recommender shows them, read at the end or at the end of each branch."""
    start = int(corpus.events.offsets[user])
    lo, hi = start + shown_from(events, MOST), start + events
    asked = [Branch(tokens, hi - lo, [("next_item", 0, 1.0, -1)]) for tokens in branches]
    row = prompt_row(corpus, corpus.events.users[user], corpus.events, lo, hi, asked)
    if branches:
        return row
    return read_at(row, [len(row.tokens) - 1])


def check(model: RecModel, scorer: Scorer, row: Row) -> int:
    """What is kept changes neither states nor lists; returns how many tokens went through the backbone."""
    read = []
    hook = model.backbone.embed_tokens.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[1]))
    kept = scorer.states([row])
    hook.remove()
    anew = Scorer(model).states([row])
    torch.testing.assert_close(kept, anew, atol=1e-5, rtol=1e-4)
    nothing = [np.zeros(0, dtype=np.int64)] * len(kept)
    lists = [[r.index.tolist() for r in scorer.rank(s, row.dataset, 10, nothing, nothing)] for s in (kept, anew)]
    assert lists[0] == lists[1]
    return sum(read)


def test_a_history_that_grows_is_read_on_also_after_it_was_cut(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**20)
    read = [check(model, scorer, history(corpus, n)) for n in range(30, LENGTH, 2)]
    starts = [shown_from(n, MOST) for n in range(30, LENGTH, 2)]
    cut = [n for n in range(1, len(starts)) if starts[n] != starts[n - 1]]
    assert len(cut) == 2
    assert [n for n, tokens in enumerate(read) if tokens > 4] == [0, *cut]  # two events are four tokens


def test_other_questions_on_a_history_read_the_questions_only(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**20)
    item = corpus.items.first
    words = corpus.encode("What will the user choose next ?")
    assert check(model, scorer, history(corpus, 30)) > 60
    assert check(model, scorer, history(corpus, 30)) == 0  # the same again
    assert check(model, scorer, history(corpus, 30, [[item + 3], words, [item + 5]])) == 2 + len(words)
    assert check(model, scorer, history(corpus, 31, [words, [item + 3]])) == 2 + len(words) + 1
    assert check(model, scorer, history(corpus, 31)) <= 1
    assert check(model, scorer, history(corpus, 31, user=1)) > 60  # another user


def test_questions_first_and_the_history_later(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**20)
    assert check(model, scorer, history(corpus, 30, [[corpus.items.first + 3]])) > 60
    assert check(model, scorer, history(corpus, 32)) == 4


def test_a_place_inside_the_history_can_be_read(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**20)
    row = history(corpus, 30)
    check(model, scorer, row)
    check(model, scorer, read_at(row, [20, 40]))


def test_few_rows_read_as_many(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**20)
    rows = [history(corpus, 30 + n, user=n) for n in range(FEW + 3)]
    torch.testing.assert_close(scorer.states(rows), Scorer(model).states(rows), atol=1e-5, rtol=1e-4)
    assert scorer.prefixes.size == 0  # many are not kept
    some = [*rows[:3], history(corpus, 30, [[corpus.items.first]]), rows[0]]
    torch.testing.assert_close(scorer.states(some), Scorer(model).states(some), atol=1e-5, rtol=1e-4)


def test_histories_of_many_lengths_are_read_on_together(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**22)
    before = [20, 24, 31, 36, 12]
    scorer.read_on([history(corpus, n, user=user) for user, n in enumerate(before)])
    item, words = corpus.items.first, corpus.encode("What will the user choose next ?")
    after = [
        history(corpus, 23, user=0),
        history(corpus, 24, user=1),  # nothing new
        history(corpus, 32, [words, [item + 3]], user=2),
        history(corpus, 37, user=3),
        history(corpus, 12, [[item + 1]], user=4),
        history(corpus, 18, user=5),  # not known
    ]
    read = []
    hook = model.backbone.embed_tokens.register_forward_pre_hook(lambda _, given: read.append(given[0].shape))
    found = scorer.read_on(after)
    hook.remove()
    torch.testing.assert_close(found, Scorer(model).states(after), atol=1e-5, rtol=1e-4)
    assert [n for n, _ in read] == [4, 1]  # the four that are known together, the new one alone
    assert read[0][1] == len(words) + 1 + 2  # the longest question and the event before it
    again = scorer.read_on([history(corpus, n, user=user) for user, n in ((0, 23), (3, 37), (5, 18))])
    torch.testing.assert_close(again, found[[0, 4, 6]], atol=0, rtol=0)


def test_what_is_kept_has_a_limit_and_the_oldest_goes_first(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**20)
    check(model, scorer, history(corpus, 30))
    one = scorer.prefixes.size
    scorer = Scorer(model, prefix_bytes=int(2.5 * one))
    for user in (0, 1, 0, 2):
        check(model, scorer, history(corpus, 30, user=user))
        assert scorer.prefixes.size <= 2.5 * one
    assert check(model, scorer, history(corpus, 30, user=0)) == 0
    assert check(model, scorer, history(corpus, 30, user=1)) > 60


def test_a_changed_model_forgets(world) -> None:
    corpus, model = world
    scorer = Scorer(model, prefix_bytes=2**20)
    row = history(corpus, 30)
    before = scorer.states([row])
    weight = model.backbone.layers[0].mlp.up_proj.weight
    weight.data.mul_(2)
    scorer.refresh()
    after = scorer.states([row])
    torch.testing.assert_close(after, Scorer(model).states([row]), atol=1e-5, rtol=1e-4)
    assert (before - after).abs().max() > 1e-3
    weight.data.div_(2)


def test_lists_are_sorted_scores_with_ties_by_index(world) -> None:
    corpus, model = world
    n, width = 500, 32
    torch.manual_seed(0)
    few = torch.randint(0, 3, (n, width)).float()  # many equal scores
    wide = ItemRows(few, few, torch.ones(n, dtype=torch.bool))
    own = RecModel(model.backbone, model.vocabulary, {corpus.dataset.name: wide}, model.outcome_rows.detach())
    states = torch.randint(-1, 2, (4, width)).float()
    states[:, 2:] = 0
    scorer = Scorer(own)
    scores = scorer.model_scores(states, corpus.dataset.name).double().numpy()
    excluded, nothing = [np.arange(0, n, 7)] * 4, [np.zeros(0, dtype=int)] * 4
    allowed = np.arange(n) % 3 > 0
    for k in (1, 10, 300, 1000):
        found = scorer.rank(states, corpus.dataset.name, k, excluded, nothing, allowed=allowed, temperature=2.0)
        for ranking, of in zip(found, scores, strict=True):
            opened = np.isin(np.arange(n), excluded[0], invert=True)
            eligible = np.nonzero(opened & allowed)[0]
            order = eligible[np.lexsort((eligible, -of[eligible]))][:k]
            share = np.exp(of / 2) / np.exp(of[opened] / 2).sum()
            assert ranking.index.tolist() == order.tolist()
            assert ranking.score.tolist() == of[order].tolist()
            assert ranking.probability.tolist() == pytest.approx(share[order].tolist(), rel=1e-5)


def scorer_of(world, rows: ItemRows) -> Scorer:
    """The world's model with another catalogue."""
    corpus, model = world
    return Scorer(RecModel(model.backbone, model.vocabulary, {corpus.dataset.name: rows}, model.outcome_rows.detach()))


def partly_cold(world, n: int, every: int) -> tuple[Scorer, ItemRows, torch.Tensor]:
    """A catalogue of n items, one of every so many of which nobody took; which these are."""
    torch.manual_seed(0)
    counts = torch.randint(1, 500, (n,))
    cold = torch.arange(0, n, every)
    counts[cold] = 0
    rows = ItemRows(torch.randn(n, 32), torch.randn(n, 32), torch.ones(n, dtype=torch.bool), counts)
    torch.nn.init.normal_(rows.residual)
    return scorer_of(world, rows), rows, cold


def text_scores(rows: ItemRows, states: torch.Tensor) -> np.ndarray:
    """Scores of a catalogue judged by its texts alone."""
    with torch.inference_mode():
        return (states @ rows.by_text().t()).double().numpy()


def test_a_cold_item_has_the_place_that_its_text_alone_gives_it(world) -> None:
    n, name = 300, world[0].dataset.name
    scorer, rows, cold = partly_cold(world, n, 10)
    states = torch.randn(4, 32)
    warm = np.setdiff1d(np.arange(n), cold.numpy())
    histories = [np.zeros(0, dtype=int), np.asarray([1, 2, -1, 10, 3]), np.arange(n // 2), warm]
    trained = scorer.model_scores(states, name).double().numpy()
    scores = scorer.item_scores(states, name, histories).double().numpy()
    by_text = text_scores(rows, states)
    np.testing.assert_array_equal(scores[:, warm], trained[:, warm])
    for own, text, history in zip(scores, by_text, histories, strict=True):
        among = np.setdiff1d(warm, history) if len(history) < len(warm) else warm
        for item in cold.tolist():
            assert (own[among] > own[item]).sum() == (text[among] > text[item]).sum()
        assert np.argsort(own[cold]).tolist() == np.argsort(text[cold]).tolist()


def test_a_catalogue_half_of_which_nobody_took_gets_a_tenth_of_the_lists_for_it(world) -> None:
    scorer, rows, cold = partly_cold(world, 400, 2)
    states = torch.randn(200, 32)
    scores = scorer.item_scores(states, world[0].dataset.name, [np.zeros(0, dtype=int)] * len(states)).numpy()
    by_text = text_scores(rows, states)
    listed = np.isin(np.argsort(-scores, 1)[:, :20], cold.numpy())
    assert 0.05 < listed.mean() < 0.15
    assert listed[:, 0].any()
    for own, text in zip(scores[:, cold], by_text[:, cold], strict=True):
        assert np.all(np.diff(own[np.argsort(text)]) >= 0)


def test_rows_of_a_large_catalogue_are_those_of_a_small_one(world) -> None:
    n, width = ROWS_AT_A_TIME + 10, 32
    torch.manual_seed(0)
    wide = ItemRows(torch.randn(n, width), torch.randn(n, width), torch.rand(n) < 0.5)
    torch.nn.init.normal_(wide.residual)
    torch.nn.init.normal_(wide.up)
    with torch.inference_mode():
        whole = wide()
    for one, two in zip(scorer_of(world, wide).item_rows(world[0].dataset.name), whole, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
