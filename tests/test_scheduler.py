"""Jobs of one thread that share the engine's passes: what each gets is what it gets alone."""

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from waiting import until

from genrec.errors import UnknownNameError
from genrec.model.item_texts import item_texts
from genrec.recommender import Recommender
from genrec.recommender.histories import prompts_of
from genrec.scoring.scheduler import Scheduler, SharedScorer
from genrec.turns import QueueFullError, pause

FAR = 1e9  # a deadline that does not come


@pytest.fixture(scope="module")
def recommender(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    copy = tmp_path_factory.mktemp("scheduled") / "toy"
    shutil.copytree(toy_run, copy)
    found = Recommender.load(copy)
    found.scheduler(100, prefix_bytes=2**24)  # from now on its scorer is one that jobs share
    return found


@pytest.fixture
def scheduler(recommender: Recommender) -> Iterator[Scheduler]:
    recommender.scorer.prefixes.clear()
    assert isinstance(recommender.scorer, SharedScorer)
    found = Scheduler(recommender.scorer, 100)
    found.start()
    yield found
    assert found.end(10)


def held(scheduler: Scheduler) -> threading.Event:
    """Keep the thread busy until the event is set, so that what is submitted meanwhile waits together."""
    gate, began = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        gate.wait()

    scheduler.submit(work, FAR)
    began.wait()
    return gate


def test_all_kinds_of_questions_together_are_what_they_are_alone(
    recommender: Recommender, scheduler: Scheduler
) -> None:
    users = [f"u{n:03}" for n in range(12)]
    works = [lambda u=u: recommender.recommend(u, k=4).frame["item_id"].to_list() for u in users]
    works += [
        lambda u=u: recommender.recommend(u, k=7, where="colour = 'red'").frame["item_id"].to_list() for u in users
    ]
    works += [lambda u=u: recommender.predict("rating", users=[u], items=["004"]).frame["value"][0] for u in users]
    works += [lambda: recommender.recommend(history=["001", "002"], k=1, exclude_seen=False).frame["item_id"].to_list()]
    works += [lambda: recommender.explain(["004"], user="u001").frame["reason_item_id"].to_list()]
    alone = [work() for work in works]
    recommender.scorer.prefixes.clear()
    gate = held(scheduler)
    futures = [scheduler.submit(work, FAR) for work in works]
    gate.set()
    together = [f.result(30) for f in futures]
    assert [pytest.approx(a, abs=1e-4) if isinstance(a, float) else a for a in alone] == together
    assert scheduler.read > 3 * scheduler.passes  # rows that shared a pass


def test_a_fault_is_that_of_one_job(recommender: Recommender, scheduler: Scheduler) -> None:
    gate = held(scheduler)
    good = [scheduler.submit(lambda u=u: recommender.recommend(u, k=1).frame.height, FAR) for u in ("u001", "u002")]
    wrong = scheduler.submit(lambda: recommender.similar("nothing"), FAR)
    gate.set()
    assert [f.result(30) for f in good] == [1, 1]
    with pytest.raises(UnknownNameError):
        wrong.result(30)


def test_a_pass_that_fails_is_made_for_each_alone(recommender: Recommender, scheduler: Scheduler) -> None:
    view = recommender.views.of("chain")
    row = prompts_of(recommender.views, view, ["u003"], [recommender.history("u003")]).row(0, [])
    broken = replace(row, tokens=[*row.tokens[:-1], 10**7])  # an item that no catalogue has
    gate = held(scheduler)
    wrong = scheduler.submit(lambda: recommender.scorer.states([broken]), FAR)
    good = [scheduler.submit(lambda u=u: recommender.recommend(u, k=1).frame.height, FAR) for u in ("u003", "u004")]
    gate.set()
    assert [f.result(30) for f in good] == [1, 1]
    with pytest.raises(IndexError):
        wrong.result(30)


def test_who_leaves_or_waits_too_long_is_dropped(recommender: Recommender, scheduler: Scheduler) -> None:
    ran: list[str] = []

    def endless(name: str) -> None:
        try:
            while True:
                ran.append(name)
                pause()
        finally:
            ran.append(f"{name} ended")

    left = scheduler.submit(lambda: endless("left"), FAR)
    late = scheduler.submit(lambda: endless("late"), time.monotonic() + 0.2)
    other = scheduler.submit(lambda: recommender.recommend("u001", k=1).frame.height, FAR)
    assert other.result(30) == 1  # others run in between
    with pytest.raises(TimeoutError):
        late.result(30)
    left.cancel()
    until(lambda: not scheduler.depth)
    assert {"left ended", "late ended"} <= set(ran)
    missed = scheduler.submit(lambda: ran.append("missed"), time.monotonic() - 1)
    with pytest.raises(TimeoutError):
        missed.result(30)
    assert "missed" not in ran
    until(lambda: not scheduler.depth)


def test_the_queue_is_bounded(scheduler: Scheduler) -> None:
    gate = held(scheduler)
    futures = [scheduler.submit(lambda: None, FAR) for _ in range(99)]
    with pytest.raises(QueueFullError):
        scheduler.submit(lambda: None, FAR)
    gate.set()
    for future in futures:
        future.result(30)
    until(lambda: not scheduler.depth)
    scheduler.submit(lambda: None, FAR).result(30)


def test_a_long_job_lets_short_ones_ahead(recommender: Recommender, scheduler: Scheduler) -> None:
    turns: list[int] = []
    gate = threading.Event()

    def long() -> None:
        while not gate.is_set():
            turns.append(1)
            time.sleep(0.06)  # more than its share of a round
            pause()

    others = [scheduler.submit(long, FAR) for _ in range(3)]
    until(lambda: len(turns) >= 6)
    for user in ("u001", "u002", "u003"):
        began = len(turns)
        scheduler.submit(lambda user=user: recommender.recommend(user, k=3).frame.height, FAR).result(30)
        assert len(turns) - began <= 3  # a list takes two passes
    gate.set()
    for job in others:
        job.result(30)


def test_what_is_done_in_turns_is_what_is_done_at_once(recommender: Recommender, scheduler: Scheduler) -> None:
    items = [f"{n % 12:03}" for n in range(600)]
    texts = ["red 2 blue 3 " * 4_000, "", "red" * 9_000, "blue 5"]
    works = [
        lambda: recommender.predict("rating", users=["u001"] * 600, items=items).frame["value"].to_list(),
        lambda: recommender.explain(items[:12], user="u003").frame["effect"].to_list(),
        lambda: recommender.relevance("red", [f"blue {n}" for n in range(500)]),
        lambda: recommender.embed_texts(texts[2:])[0][:8],
        lambda: [float(recommender.count_tokens(text)) for text in texts],
    ]
    alone = [work() for work in works]
    recommender.scorer.prefixes.clear()
    gate = held(scheduler)
    futures = [scheduler.submit(work, FAR) for work in works]
    gate.set()
    for future, expected in zip(futures, alone, strict=True):
        assert future.result(60) == pytest.approx(expected, abs=1e-4)
    whole = recommender.adapter.tokenizer(texts[0], add_special_tokens=False)["input_ids"]
    assert alone[-1][0] == len(whole)


def test_jobs_that_pause_keep_nobody_out(recommender: Recommender, scheduler: Scheduler) -> None:
    gate = threading.Event()

    def long() -> None:
        while not gate.is_set():
            time.sleep(0.001)
            pause()

    others = [scheduler.submit(long, FAR) for _ in range(70)]  # more than may be under way otherwise
    assert scheduler.submit(lambda: recommender.recommend("u001", k=3).frame.height, FAR).result(30) == 3
    for job in others[:60]:
        job.cancel()
    until(lambda: scheduler.depth <= 10)
    gate.set()
    for job in others[60:]:
        job.result(30)


def test_items_that_are_added_meanwhile_have_no_scores(recommender: Recommender, scheduler: Scheduler) -> None:
    states = recommender.scorer.item_rows("chain")[0][:12].float()
    histories = [np.arange(6, dtype=np.int32).repeat(200) for _ in range(12)]
    height = recommender.catalogue("chain").height

    def adds() -> None:
        pause()
        recommender.add_items([{"item_id": "late", "title": "red 77", "colour": "red", "year": 1977}], "chain")

    scored = scheduler.submit(lambda: recommender.scorer.item_scores(states, "chain", histories).shape, FAR)
    added = scheduler.submit(adds, FAR)
    added.result(30)
    assert scored.result(30)[1] in (height, height + 1)


def test_items_that_two_jobs_add_are_all_there_and_keep_their_vectors(
    recommender: Recommender, scheduler: Scheduler
) -> None:
    many = [
        {"item_id": f"many {n}", "title": f"red {n} blue {n % 7}", "colour": "red", "year": 1990} for n in range(500)
    ]
    one = {"item_id": "one", "title": "green 3 yellow 9", "colour": "green", "year": 1991}
    order: list[str] = []
    gate = held(scheduler)
    slow = scheduler.submit(lambda: (recommender.add_items(many, "chain"), order.append("many")), FAR)
    fast = scheduler.submit(lambda: (recommender.add_items([one], "chain"), order.append("one")), FAR)
    gate.set()
    fast.result(30)
    slow.result(60)
    assert order == ["one", "many"]  # the larger one paused
    ids = recommender.catalogue("chain")["item_id"].to_list()
    assert ids[-501:] == ["one", *(item["item_id"] for item in many)]
    added = recommender.views.of("chain").catalogue.items[-501:].drop("train_count")
    rows = recommender.scorer.item_rows("chain")[0][-501:].float().cpu().numpy()
    assert rows == pytest.approx(recommender.views.text_rows("chain", item_texts(added)), abs=1e-4)
