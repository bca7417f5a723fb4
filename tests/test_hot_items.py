"""Items that are added to a loaded run: what they are is what items are that nobody took in training."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import USERS, toy_command
from tiny import tiny_t5
from transformers import BertConfig, BertModel
from worlds import WORDS, chain_world, shop_world

from genrec import store as stores
from genrec.cli import main
from genrec.errors import DataError, UnknownNameError
from genrec.recommender import Recommender
from genrec.run.adapter import Adapter
from genrec.run.config import FinetuneConfig
from genrec.run.manifest import Manifest
from genrec.scoring.scorer import Scorer
from genrec.training.finish import with_popularity
from genrec.training.prepare import prepare
from genrec.training.start import build_model

OLD = [f"{n:03}" for n in range(12)]  # items of the chain world
COLD = {"item_id": "cold", "title": "red thing 3", "colour": "red", "year": 1994}  # that nobody takes
NEW = {"item_id": "new", "title": "blue thing 5", "colour": "blue", "year": 1999}


@pytest.fixture(scope="module")
def files(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy world, its catalogue with a cold item, beside a T5 and a random encoder of texts."""
    folder = tmp_path_factory.mktemp("hot") / "files"
    shutil.copytree(toy_files, folder)
    pl.concat([chain_world(users=USERS).items, pl.DataFrame([COLD])]).write_csv(folder / "items.csv")
    tiny_t5(folder / "t5", WORDS, hidden_size=64)
    shutil.copytree(folder / "tiny", folder / "bert")
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "bert")
    return folder


@pytest.fixture(scope="module", params=["llama", "t5", "encoded texts"])
def cold_run(request: pytest.FixtureRequest, files: Path) -> Path:
    """A run whose catalogue has a cold item."""
    out = files / request.param
    backbone = files / ("t5" if request.param == "t5" else "tiny")
    encoder = ["--item-text-model", str(files / "bert")] if request.param == "encoded texts" else []
    more = ["--model", str(backbone), *encoder, "--epochs", "4"]
    assert main(toy_command(files, out, *more)) == 0
    return out


@pytest.fixture
def recommender(toy_run: Path) -> Recommender:
    """A run that a test may add to."""
    return Recommender.load(toy_run)


@pytest.fixture(scope="module")
def grown(toy_run: Path) -> Recommender:
    """The toy run with an added item."""
    found = Recommender.load(toy_run)
    found.add_items([NEW])
    return found


def scores(recommender: Recommender, **given: object) -> dict[tuple[str | None, str], float]:
    """The score of each item for some users, or for a history (user None)."""
    given = given or {"users": [f"u{n:03}" for n in range(6)]}
    found = recommender.recommend(k=100, exclude_seen=False, **given).frame  # type: ignore[arg-type]
    return {(u, i): s for u, i, s in found.select("user_id", "item_id", "score").iter_rows()}


def vectors(recommender: Recommender) -> dict[str, np.ndarray]:
    return {i: np.asarray(v) for i, v in recommender.embed_items().iter_rows()}


def near(one: Mapping[object, float], two: Mapping[object, float]) -> None:
    assert one.keys() == two.keys()
    assert [one[k] for k in one] == pytest.approx([two[k] for k in one], abs=1e-4)


# --- as a cold item of the training -------------------------------------------------------------------------------


def test_an_added_item_is_what_a_cold_item_of_the_training_is(cold_run: Path) -> None:
    recommender = Recommender.load(cold_run)
    assert recommender.catalogue().filter(item_id="cold")["train_count"].to_list() == [0]
    recommender.add_items([COLD | {"item_id": "twin"}])
    rows = vectors(recommender)
    np.testing.assert_allclose(rows["twin"], rows["cold"], atol=1e-5)
    for given in ({}, {"history": ["003", "004"]}, {"history": []}):
        found = scores(recommender, **given)
        for user in {u for u, _ in found}:
            assert found[user, "twin"] == pytest.approx(found[user, "cold"], abs=1e-4)
    ratings = recommender.predict("rating", users=["u001", "u001"], items=["cold", "twin"]).frame["value"]
    assert ratings[1] == pytest.approx(ratings[0], abs=1e-4)
    after = [scores(recommender, history=["003", item, "005"]) for item in ("cold", "twin")]
    near(*({i: s for i, s in one.items() if i[1] in OLD} for one in after))
    best = recommender.similar("cold", k=1).frame
    assert best["item_id"].to_list() == ["twin"] and best["score"][0] == pytest.approx(1)
    reasons = [recommender.explain(i, history=["003", "004", "005"]).frame.drop("item_id") for i in ("cold", "twin")]
    assert reasons[0]["reason_item_id"].to_list() == reasons[1]["reason_item_id"].to_list()


def test_adding_a_cold_item_again_changes_nothing_and_with_another_text_that_text_counts(cold_run: Path) -> None:
    recommender = Recommender.load(cold_run)
    before, lists = vectors(recommender), scores(recommender)
    recommender.add_items([COLD])
    again = vectors(recommender)
    assert again.keys() == before.keys()
    for item, row in before.items():
        np.testing.assert_allclose(again[item], row, atol=1e-5)
    near(scores(recommender), lists)

    long = ["cold", *OLD, *OLD]  # long enough to be kept once it was read
    stale = scores(recommender, history=long)
    other = COLD | {"title": "blue thing 5", "colour": "blue", "year": 1999}
    recommender.add_items([other])
    fresh = Recommender.load(cold_run)
    fresh.add_items([other])
    near(scores(recommender, history=long), scores(fresh, history=long))
    assert scores(recommender, history=long) != pytest.approx(stale, abs=1e-3)
    recommender.add_items([other | {"item_id": "twin"}])
    changed = vectors(recommender)
    np.testing.assert_allclose(changed["cold"], changed["twin"], atol=1e-5)
    assert np.abs(changed["cold"] - before["cold"]).max() > 1e-3
    for item in OLD:
        np.testing.assert_allclose(changed[item], before[item], atol=1e-5)


def test_a_quantized_run_takes_items_too(cold_run: Path) -> None:
    pytest.importorskip("bitsandbytes")
    recommender = Recommender.load(cold_run, quantize="nf4")
    recommender.add_items([COLD | {"item_id": "twin"}])
    rows = vectors(recommender)
    np.testing.assert_allclose(rows["twin"], rows["cold"], atol=1e-3)


def test_items_of_two_data_sets_are_kept_apart(files: Path, tmp_path: Path) -> None:
    """The tokens of what is added to one are those of the other's items."""
    chain, shop = chain_world(), shop_world()
    chain = replace(chain, items=pl.concat([chain.items, pl.DataFrame([COLD])]))
    config = FinetuneConfig(model=str(files / "tiny"))
    prepared = prepare(config, lambda _: None, datasets=(chain, shop))
    tasks = {
        n: {t.name: {"words": t.answer.choices, "values": t.answer.values, "edges": t.answer.edges} for t in c.tasks}
        for n, c in zip(("chain", "shop"), prepared.corpora, strict=True)
    }
    manifest = Manifest(prepared.backbone.source, prepared.vocabulary, tasks, 50, {}, {}, {}, {}, {}, {})
    catalogues = {c.dataset.name: with_popularity(c) for c in prepared.corpora}
    model = build_model(config, prepared, 0).eval()
    adapter = Adapter(
        model, prepared.backbone.tokenizer, manifest, {t.name: t for t in prepared.all_tasks}, catalogues, {}
    )
    recommender = Recommender(adapter, Scorer(model), stores.create_store(tmp_path / "store.db", [chain, shop]))
    before = scores(recommender, history=["p1", "p0"], dataset="shop")
    for name, cold in (("chain", COLD), ("shop", {"title": "new thing 3", "category": "food"})):
        recommender.add_items([cold | {"item_id": f"{name}{n}"} for n in range(20)], name)
    after = scores(recommender, history=["p1", "p0"], dataset="shop")
    near({k: after[k] for k in before}, before)
    for given in (["003", "cold"], ["003", "chain7"]):
        found = scores(recommender, history=given, dataset="chain")
        assert found[None, "chain19"] == pytest.approx(found[None, "cold"], abs=1e-4)
    pair = [scores(recommender, history=["003", i, "004"], dataset="chain") for i in ("cold", "chain19")]
    near(*pair)
    assert recommender.similar("shop4", k=1, dataset="shop").frame["score"][0] == pytest.approx(1)
    assert recommender.recommend(history=["shop19"], k=1).frame["dataset"].to_list() == ["shop"]


# --- all that a user can do with it -------------------------------------------------------------------------------


def test_the_other_items_keep_their_places_scores_and_predictions(toy_run: Path, grown: Recommender) -> None:
    plain = Recommender.load(toy_run)
    before, after = scores(plain), scores(grown)
    near({k: s for k, s in after.items() if k[1] != "new"}, before)
    assert len(after) == len(before) + 6
    users = plain.all_users()
    lists = [
        r.recommend(users, k=12, exclude_seen=False, exclude=without).frame["item_id"].to_list()
        for r, without in ((plain, []), (grown, ["new"]))
    ]
    assert lists[0] == lists[1]
    values = [r.predict("rating", users=users[:12], items=OLD).frame["value"].to_list() for r in (plain, grown)]
    assert values[1] == pytest.approx(values[0], abs=1e-4)
    assert grown.catalogue()["item_id"].to_list() == [*OLD, "new"]
    rows, old_rows = vectors(grown), vectors(plain)
    for item in OLD:
        np.testing.assert_allclose(rows[item], old_rows[item], atol=1e-5)


def test_it_is_named_listed_filtered_and_compared(grown: Recommender) -> None:
    assert grown.has_item("new") and grown.titles(["new"]) == ["blue thing 5"]
    assert grown.find_items("Blue Thing 5")["item_id"].to_list() == ["new"]
    assert grown.search_items("new")[0] == "new"
    assert grown.catalogue().filter(item_id="new").to_dicts() == [NEW | {"train_count": 0}]
    listed = grown.recommend("u001", candidates=["new", "004"], exclude_seen=False).frame
    assert sorted(listed["item_id"]) == ["004", "new"]
    late = grown.recommend("u001", k=20, where="year > 1990 and colour = 'blue'", exclude_seen=False).frame
    assert "new" in set(late["item_id"]) and set(late["title"].str.slice(0, 4)) == {"blue"}
    everything = grown.recommend("u001", k=20, exclude_seen=False).frame
    assert everything["probability"].sum() == pytest.approx(1, abs=1e-5)
    assert "new" not in set(grown.recommend("u001", k=20, exclude=["new"]).frame["item_id"])
    similar = grown.similar("new", k=3).frame
    assert "new" not in set(similar["item_id"]) and similar["score"].is_between(-1, 1).all()
    assert grown.recommend("u001", like=["004"], k=20, exclude_seen=False).frame.filter(item_id="new").height == 1


def test_it_is_read_in_histories_and_explained(grown: Recommender) -> None:
    with_it, without = (scores(grown, history=h) for h in (["003", "new"], ["003"]))
    assert with_it != pytest.approx(without, abs=1e-3)
    frame = pl.DataFrame({"item_id": ["003", "new", "004"], "rating": [1.0, 5.0, 5.0]})
    assert grown.recommend(history=frame, k=3).frame.height == 3
    assert "new" not in set(grown.recommend(history=frame, k=20).frame["item_id"])
    assert grown.explain("new", history=["003", "004", "005"]).frame["item_id"].unique().to_list() in ([], ["new"])
    reasons = [grown.explain(i, history=["new", "006"]).frame["reason_item_id"].to_list() for i in OLD]
    assert any("new" in own for own in reasons)


def test_the_model_knows_it_by_its_text(recommender: Recommender) -> None:
    """Items called red are rated 5, those called blue 1."""
    items = [
        {"item_id": f"{c}{n}", "title": f"{c} {n}", "colour": c, "year": 1984} for c in ("red", "blue") for n in "57"
    ]
    recommender.add_items(items)
    users = [u for u in recommender.all_users()[:20] for _ in items]
    found = recommender.predict("rating", users=users, items=[str(i["item_id"]) for i in items] * 20).frame
    means = found.group_by(pl.col("item_id").str.head(3)).agg(pl.col("value").mean())
    mean = dict(means.iter_rows())
    assert mean["red"] > mean["blu"] + 1, mean


def test_among_the_most_popular_it_is_the_last(grown: Recommender) -> None:
    found = grown.recommend(history=[], k=20).frame
    assert set(found["strategy"]) == {"popular"} and found["item_id"][-1] == "new" and found["score"][-1] == 0


# --- an item of the training --------------------------------------------------------------------------------------


def test_a_trained_item_is_called_otherwise_and_keeps_what_was_learned(
    recommender: Recommender,
) -> None:
    before, rows = scores(recommender), vectors(recommender)
    counts = recommender.catalogue()["train_count"].to_list()
    recommender.add_items([{"item_id": "004", "title": "good old thing", "colour": "gold"}])
    assert scores(recommender) == before
    assert all(np.array_equal(row, rows[i]) for i, row in vectors(recommender).items())
    items = recommender.catalogue()
    assert items["item_id"].to_list() == OLD and items["train_count"].to_list() == counts
    assert items.row(4, named=True) | {"train_count": 0} == {
        "item_id": "004",
        "title": "good old thing",
        "colour": "gold",
        "year": None,
        "train_count": 0,
    }
    assert recommender.find_items("good old thing")["item_id"].to_list() == ["004"]
    assert "004" not in set(recommender.find_items("red 4")["item_id"])
    gold = recommender.recommend("u001", where="colour = 'gold'", exclude_seen=False).frame
    assert gold["title"].to_list() == ["good old thing"]


def test_old_and_new_in_one_call_and_calls_one_by_one_are_the_same(toy_run: Path) -> None:
    items = [NEW, {"item_id": "007", "title": "bad thing"}, NEW | {"item_id": "newer", "title": "red thing"}]
    together, one_by_one = Recommender.load(toy_run), Recommender.load(toy_run)
    together.add_items(items)
    for item in items:
        one_by_one.add_items([item])
    assert together.catalogue().equals(one_by_one.catalogue())
    near(scores(together), scores(one_by_one))
    one_by_one.add_items([])
    assert together.catalogue().equals(one_by_one.catalogue())


def test_of_an_item_given_twice_the_last_counts(recommender: Recommender) -> None:
    recommender.add_items([NEW, NEW | {"title": "red thing"}])
    assert recommender.catalogue().filter(item_id="new")["title"].to_list() == ["red thing"]


def test_one_that_was_taken_before_it_was_known_counts_once_it_is(toy_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    recommender = Recommender.load(run)
    taken = [{"user_id": "u", "item_id": i, "event": "rating", "rating": 5.0} for i in ("004", "new")]
    stores.record_events(recommender.store, recommender.datasets[0], taken)
    assert recommender.recommend("u", k=20).frame.height == 11
    recommender.add_items([NEW])
    assert "new" not in set(recommender.recommend("u", k=20).frame["item_id"])
    own, given = scores(recommender, users=["u"]), scores(recommender, history=pl.DataFrame(taken).drop("user_id"))
    near({i: s for (_, i), s in own.items()}, {i: s for (_, i), s in given.items()})


# --- what cannot be added -----------------------------------------------------------------------------------------

FAULTY = [
    ({"title": "red thing"}, r"items\[1\]\.item_id: a text is needed \(given: None\)"),
    ({"item_id": 7, "title": "red thing"}, r"items\[1\]\.item_id: a text is needed \(given: 7\)"),
    ({"item_id": "  ", "title": "red thing"}, r"items\[1\]\.item_id: a text is needed"),
    ({"item_id": " 004", "title": "red thing"}, r"items\[1\]\.item_id: .*' 004' is '004'"),
    ({"item_id": "x", "title": "t", "brand": "b"}, r"items\[1\]\.brand: .*it has item_id, title, year, colour"),
    ({"item_id": "x", "title": "t", "train_count": 9}, r"items\[1\]\.train_count: "),
    ({"item_id": "x", "title": 3}, r"items\[1\]\.title: a text is needed \(given: 3\)"),
    ({"item_id": "x", "title": "t", "year": "1999"}, r"items\[1\]\.year: a number is needed \(given: '1999'\)"),
    ({"item_id": "x", "title": "t", "year": 1999.5}, r"items\[1\]\.year: a whole number of 64 bits"),
    ({"item_id": "x", "title": "t", "year": 10**400}, r"items\[1\]\.year: a number is needed"),
    ({"item_id": "x", "title": "t", "year": 2**63}, r"items\[1\]\.year: a whole number of 64 bits"),
    ({"item_id": "x", "title": "t", "year": float("nan")}, r"items\[1\]\.year: a number is needed"),
    ({"item_id": "x", "title": "t", "year": True}, r"items\[1\]\.year: a number is needed"),
    ({"item_id": "x"}, r"item 'x': a title or an attribute of text is needed"),
    ({"item_id": "x", "title": " ", "colour": ""}, r"item 'x': a title or an attribute of text is needed"),
]


@pytest.fixture(scope="module")
def untouched(toy_run: Path) -> Iterator[Recommender]:
    """A run that must be at the end what it was."""
    found = Recommender.load(toy_run)
    before = scores(found), found.catalogue()
    yield found
    assert scores(found) == before[0] and found.catalogue().equals(before[1])


@pytest.mark.parametrize(("faulty", "message"), FAULTY)
def test_one_faulty_item_and_none_is_added(untouched: Recommender, faulty: dict[str, object], message: str) -> None:
    for act in (untouched.check_items, untouched.add_items):
        with pytest.raises(DataError, match=message):
            act([NEW, faulty])
    assert not untouched.has_item("new")
    with pytest.raises(UnknownNameError, match="'elsewhere'"):
        untouched.add_items([NEW], "elsewhere")
