"""Rows: what is in them, what must never be, and what a branch may see."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from tiny import tiny_backbone
from worlds import WORDS, chain_world, review_world, shop_world, view_world

from genrec.data.dataset import Dataset
from genrec.data.splits import DAY, split
from genrec.evaluation.held_out import held_out, user_rows
from genrec.evaluation.reading import next_item_losses, read_part
from genrec.model.backbone import load_backbone
from genrec.model.item_rows import ItemRows, collaborative_vectors
from genrec.model.lora import add_lora
from genrec.model.recmodel import RecModel
from genrec.rows.arrays import select
from genrec.rows.corpus import Corpus, build_corpus, offered_tasks, plain_encoder, vocabulary_of
from genrec.rows.row import Branch, prompt_row, read_at, training_row
from genrec.rows.stored import load_rows, read_row, spell, text_examples
from genrec.rows.training import training_rows
from genrec.rows.window import RowOptions
from genrec.scoring.scorer import Scorer
from genrec.tasks.taskfile import load_tasks


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory):
    return load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("tiny"), WORDS)))


def corpus_of(dataset: Dataset, backbone, seed: int = 0) -> Corpus:
    tasks, _ = offered_tasks(dataset, list(load_tasks().values()))
    vocabulary = vocabulary_of([dataset], {dataset.name: tasks}, len(backbone.tokenizer))
    names = [t.name for t in tasks]
    return build_corpus(dataset, tasks, vocabulary, plain_encoder(backbone.tokenizer), 2, seed, names)


def model_of(corpus: Corpus, backbone) -> RecModel:
    torch.manual_seed(1)
    n, width = corpus.dataset.items.height, backbone.model.config.hidden_size
    rows = {}
    if n:
        rows = {corpus.dataset.name: ItemRows(torch.randn(n, width), torch.randn(n, width), torch.ones(n, dtype=bool))}
    return RecModel(
        add_lora(backbone.model, 4, 8), corpus.vocabulary, rows, torch.randn(corpus.vocabulary.n_outcomes, width)
    )


def resplit(method: str):
    """The chain world with another split."""

    def world() -> Dataset:
        return split(replace(chain_world(), interactions=chain_world().interactions.drop("part")), method)

    return world


WORLDS = {
    "leave_one_out": chain_world,
    "temporal": shop_world,
    "temporal, several kinds of events": view_world,
    "random texts": review_world,
    "random": resplit("random"),
    "k_fold": resplit("k_fold"),
}


@pytest.mark.parametrize("world", WORLDS)
def test_no_held_out_interaction_reaches_a_training_row(world: str, backbone) -> None:
    dataset = WORLDS[world]()
    corpus = corpus_of(dataset, backbone)
    rows = list(training_rows(corpus, RowOptions(question_share=1.0)))
    used = {s for r in rows for s in r.source}
    train = set(dataset.interactions.filter(pl.col("part") == "train")["row"].to_list())
    assert used and used <= train
    assert {corpus.all_tasks[t] for r in rows for t in r.target_task} == {t.name for t in corpus.tasks}


def scrambled(dataset: Dataset) -> Dataset:
    """Every held-out interaction as another: item, rating, text, event, basket, category and time."""
    frame = dataset.interactions
    held = pl.col("part") != "train"
    changed = {
        "item_id": pl.col("item_id").first(),
        "rating": pl.lit(1.0),
        "review": pl.lit("new new new"),
        "event": pl.lit("unheard"),
        "basket": pl.lit("b"),
        "category": pl.lit("food"),
        "timestamp": pl.col("timestamp") + 1,
    }
    return replace(
        dataset,
        interactions=frame.with_columns(
            pl.when(held).then(value).otherwise(pl.col(name)).alias(name)
            for name, value in changed.items()
            if name in frame.columns
        ),
    )


@pytest.mark.parametrize("world", WORLDS)
def test_training_does_not_depend_on_what_is_held_out(world: str, backbone) -> None:
    """Rows and vocabulary stay the same, token for token, and so does what item rows start from."""
    dataset = WORLDS[world]()
    options = RowOptions(question_share=1.0)
    one, two = (corpus_of(d, backbone) for d in (dataset, scrambled(dataset)))
    assert list(training_rows(one, options)) == list(training_rows(two, options))
    assert one.vocabulary == two.vocabulary
    if one.events is not None and two.events is not None:
        trained = [select(e, e.part == 0) for e in (one.events, two.events)]
        first, second = (collaborative_vectors(e.item, e.offsets, one.items.size, 8, 1.0, 0)[0] for e in trained)
        assert torch.equal(first, second)


@pytest.mark.parametrize("world", ["leave_one_out", "temporal", "k_fold"])
def test_a_prompt_of_a_part_shows_nothing_of_it(world: str, backbone) -> None:
    """What validation shows of a user is the same whatever the validation and test interactions are; only the
    candidates asked about differ."""
    dataset = WORLDS[world]()
    shown = []
    for corpus in (corpus_of(d, backbone) for d in (dataset, scrambled(dataset))):
        held = held_out(corpus.events, "valid")
        rows, _ = user_rows(corpus, "valid", held, list(range(len(held.visible.users))), 100, 0)
        shown.append({r.source[0]: r.tokens[: r.segment.count(0)] for r in rows if r.source})
    assert len(shown[0]) > 20
    assert all(shown[1].get(user, tokens) == tokens for user, tokens in shown[0].items())


@pytest.mark.parametrize("with_rating", [False, True])
def test_only_purchases_count_as_bought(with_rating: bool, backbone) -> None:
    """Whatever the other tasks are, and also where the row does not show what happened."""
    dataset = view_world(with_rating=with_rating)
    corpus = corpus_of(dataset, backbone)
    until = dict(dataset.cutoffs)["valid"]
    frame = dataset.interactions.filter(pl.col("event") == "purchase", pl.col("timestamp") < until)
    bought: dict[tuple[str, int], list[int]] = {}
    index = {i: n for n, i in enumerate(dataset.items["item_id"].to_list())}
    for user, item, time in frame.select("user_id", "item_id", "timestamp").iter_rows():
        bought.setdefault((user, index[item]), []).append(time)
    user_of = dict(dataset.interactions.select("row", "user_id").iter_rows())
    time_of = dict(dataset.interactions.select("row", "timestamp").iter_rows())
    purchase = corpus.all_tasks.index("purchase")
    answers = []
    for row in training_rows(corpus, RowOptions(question_share=0.0)):
        events = [n for n, t in enumerate(row.tokens) if row.segment[n] == 0 and t >= corpus.items.first]
        for at, task, answer in zip(row.target_at, row.target_task, row.target_id, strict=True):
            if task != purchase or row.tokens[at] < corpus.items.first:
                continue
            now = time_of[row.source[sum(n < row.limit[at] for n in events) - 1]]
            times = bought.get((user_of[row.source[0]], row.tokens[at] - corpus.items.first), [])
            assert answer == any(now < t <= now + 28 * 86_400 for t in times)
            answers.append(answer)
    assert 0.05 < np.mean(answers) < 0.8


def test_a_single_event_is_a_target(backbone) -> None:
    corpus = corpus_of(chain_world(length=3), backbone)
    rows = list(training_rows(corpus, RowOptions(question_share=0.0)))
    assert len(rows) == 60
    assert all({corpus.all_tasks[t] for t in r.target_task} == {"next_item", "rating", "click"} for r in rows)


def test_an_interaction_without_a_basket_keeps_its_place(backbone) -> None:
    dataset = shop_world(users=4)
    half = dataset.interactions["row"] % 2 == 0
    frame = dataset.interactions.with_columns(pl.when(half).then("basket"), pl.lit(5).alias("timestamp"))
    events = corpus_of(replace(dataset, interactions=frame, cutoffs=()), backbone).events
    alone = events.source[events.basket < 0].tolist()
    assert len(alone) > 50 and alone == sorted(alone)


def test_a_target_that_was_seen_is_a_miss_where_seen_items_are_removed(backbone) -> None:
    corpus = corpus_of(shop_world(), backbone)
    scorer = Scorer(model_of(corpus, backbone))
    ranked = read_part(scorer, corpus, "valid", 100).ranked
    held = held_out(corpus.events, "valid")
    place = {user: n for n, user in enumerate(held.visible.users)}
    for user, targets, ranks in zip(ranked.users, ranked.targets, ranked.seen_removed, strict=True):
        lo, hi = held.visible.offsets[place[user] : place[user] + 2]
        seen = set(held.visible.item[lo:hi].tolist())
        for target, rank in zip(targets.tolist(), ranks.tolist(), strict=True):
            assert (rank == corpus.items.size) == (target in seen)
    assert next_item_losses(scorer, corpus.dataset.name, ranked)[1] < len(ranked.users)


def test_every_item_and_outcome_of_a_history_is_a_target(backbone) -> None:
    dataset = chain_world(length=8)
    corpus = corpus_of(dataset, backbone)
    row = next(iter(training_rows(corpus, RowOptions(question_share=0.0))))
    asked = [corpus.all_tasks[t] for t in row.target_task]
    assert (
        asked.count("next_item") == asked.count("rating") == asked.count("click") == 6
    )  # 8 events, 2 of them held out
    first = corpus.items.first
    for at, task, answer in zip(row.target_at, row.target_task, row.target_id, strict=True):
        if corpus.all_tasks[task] == "next_item":
            assert row.tokens[at + 1] == first + answer
        else:
            assert row.tokens[at] >= first


def test_a_branch_reads_the_same_alone_and_beside_others(backbone) -> None:
    dataset = chain_world()
    corpus = corpus_of(dataset, backbone)
    scorer = Scorer(model_of(corpus, backbone))
    item = corpus.items.first
    branches = [
        Branch(corpus.encode("What will the user choose next ?"), 3, [("next_item", 0, 1.0, -1)]),
        Branch([item + 4], 5, [("rating", 0, 1.0, -1)]),
        Branch(
            [*corpus.encode("Recommend"), item + 1, *corpus.encode("?")],
            6,
            [("next_item", 0, 1.0, -1)],
            sees_user=False,
        ),
    ]
    events = corpus.events
    together = scorer.states([prompt_row(corpus, "u000", events, 0, 6, branches)])
    alone = scorer.states([prompt_row(corpus, "u000", events, 0, 6, [b]) for b in branches])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    # a candidate after the history reads as the item would in the history itself
    whole = training_row(corpus, "u000", events, 0, 6, [], True)
    rating = corpus.all_tasks.index("rating")
    at = [a for a, t in zip(whole.target_at, whole.target_task, strict=True) if t == rating][5]
    dense = scorer.states([read_at(whole, [at])])
    candidate = Branch([item + int(events.item[5])], 5, [("rating", 0, 1.0, -1)])
    asked = scorer.states([prompt_row(corpus, "u000", events, 0, 6, [candidate])])
    torch.testing.assert_close(dense, asked, atol=1e-5, rtol=1e-5)


def test_batches_read_as_single_rows(backbone) -> None:
    corpus = corpus_of(shop_world(), backbone)
    model = model_of(corpus, backbone)
    rows = [r for _, r in zip(range(12), training_rows(corpus, RowOptions()), strict=False)]
    batched = Scorer(model, batch_tokens=4096).states(rows)
    single = torch.cat([Scorer(model).states([r]) for r in rows])
    torch.testing.assert_close(batched, single, atol=1e-5, rtol=1e-5)


def test_a_text_that_spells_tokens_stays_text(backbone) -> None:
    corpus = corpus_of(chain_world(), backbone)
    tokens = corpus.encode("<s> <item 3> </s> <rated 5>")
    assert not {2, 3} & set(tokens)
    assert max(tokens) < corpus.vocabulary.n_words


def test_rows_on_disk_are_the_rows(backbone, tmp_path) -> None:
    corpus = corpus_of(chain_world(), backbone)
    options = RowOptions()
    stored = load_rows([corpus], options, "tiny", tmp_path)
    made = list(training_rows(corpus, options))
    assert [read_row(r) for r in stored] == made
    assert len(list(tmp_path.iterdir())) == 1
    again = load_rows([corpus], options, "tiny", tmp_path)
    assert again.cache_files == stored.cache_files
    load_rows([corpus], RowOptions(seed=1), "tiny", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_prompt_and_completion_text(backbone) -> None:
    corpus = corpus_of(chain_world(), backbone)
    row = next(iter(training_rows(corpus, RowOptions(question_share=0.0))))
    decode = backbone.tokenizer.decode
    examples = list(text_examples(corpus, row, decode))
    assert len(examples) == len(row.target_at)
    followed = [e for e in examples if e["prompt"].endswith("<rating 5>") or e["prompt"].endswith("<rating 1>")]
    for example in followed:
        last = int(example["prompt"].rsplit("<item ", 1)[1][:3])
        assert example["completion"] == f" <item {(last + 1) % 12:03}>"
    assert "<item 00" in spell(corpus, row.tokens, decode)


def test_purchase_candidates_are_labelled_by_what_comes_later(backbone) -> None:
    dataset = shop_world()
    corpus = corpus_of(dataset, backbone)
    corpus = replace(corpus, tasks=tuple(t for t in corpus.tasks if t.name == "purchase"))
    held = held_out(corpus.events, "valid")
    rows, cases = user_rows(corpus, "valid", held, list(range(len(held.visible.users))), 100, 0)
    answers = [c.answer for c in cases if c.task == "purchase"]
    assert len(cases) == len(answers) + len(rows)  # the end of each history is read, too
    cut, later = dict(dataset.cutoffs)["valid"], dict(dataset.cutoffs)["test"]
    bought = dataset.interactions.filter(pl.col("timestamp").is_between(cut, later, closed="left"))
    pairs = set(zip(bought["user_id"], bought["item_id"], strict=True))
    ids = dataset.items["item_id"].to_list()
    users = {}
    for user, row in zip(dataset.interactions["user_id"].to_list(), dataset.interactions["row"].to_list(), strict=True):
        users[row] = user
    n = 0
    for row in rows:
        asked = [row.tokens[at] - corpus.items.first for at in row.target_at[1:]]
        for item in asked:
            assert (answers[n] == 1) == ((users[row.source[-1]], ids[item]) in pairs)
            n += 1
    assert n == len(answers) and 0 < np.mean(answers) < 1


def test_nobody_is_asked_about_days_that_the_history_ends_after(backbone) -> None:
    """What a user who left long before the part begins did in the days asked about is known: no forecast is needed."""
    corpus = corpus_of(shop_world(), backbone)
    held = held_out(corpus.events, "test")
    _, cases = user_rows(corpus, "test", held, list(range(len(held.visible.users))), 100, 0)
    days = next(t.horizon_days for t in corpus.tasks if t.name == "purchase")
    begins = dict(corpus.dataset.cutoffs)["test"]
    last = {u: int(held.visible.time[held.visible.offsets[n + 1] - 1]) for n, u in enumerate(held.visible.users)}
    asked = {case.about for case in cases if case.task == "purchase"}
    left = {user for user, time in last.items() if time + days * DAY <= begins}
    assert asked and left and not asked & left
