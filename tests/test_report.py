"""report.html: nothing is fetched, everything measured is in it, nothing of the data is taken for HTML."""

import json
import shlex
import shutil
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from genrec.cli import main
from genrec.cli.main import parsed
from genrec.options import arguments
from genrec.run.config import FinetuneConfig, config_yaml

Said = pytest.CaptureFixture[str]
HOSTILE = "</td><script>alert('$x_2$')</script>"


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(evaluated_run: Path, tmp_path: Path) -> Path:
    """A copy of the evaluated toy run."""
    return Path(shutil.copytree(evaluated_run, tmp_path / "run"))


def page_of(run: Path) -> Page:
    return Page((run / "report.html").read_text())


def test_nothing_is_fetched_or_run(evaluated_run: Path) -> None:
    html = (evaluated_run / "report.html").read_text()
    page = Page(html)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image"}
    assert not [a for a in page.attributes if a[0] in ("src", "srcset", "action", "data") or a[0].startswith("on")]
    assert all(value.startswith("#") for name, value in page.attributes if name.endswith("href"))
    assert "//" not in "".join(value for _, value in page.attributes)
    assert "@import" not in html and "@font-face" not in html
    assert html.count("url(") == html.count("url(#")
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {v[1:] for n, v in page.attributes if n.endswith("href")} <= set(ids)


def test_every_plot_says_what_it_shows(evaluated_run: Path) -> None:
    html = (evaluated_run / "report.html").read_text()
    page = Page(html)
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert html.count("<svg") == len([label for label in labels if label != "Sections"]) == 7
    for what in ("rating: loss in training", "next_item: seen_removed/ndcg@10 on validation", "warm and cold", "reach"):
        assert any(what in label for label in labels)


def test_all_that_was_measured_is_shown(evaluated_run: Path) -> None:
    text = page_of(evaluated_run).text
    results = json.loads((evaluated_run / "results.json").read_text())
    for task in results["datasets"]["chain"]["tasks"].values():
        for found in task.values():
            for metric, own in found["metrics"].items():
                assert metric in text and (own["value"] is None or f"{own['value']:.4f}" in text)
                assert own["low"] is None or f"{own['low']:.4f} to {own['high']:.4f}" in text
    for example in results["datasets"]["chain"]["examples"]:
        assert f"User {example['user_id']}" in text
        assert all(i["title"] in text and f"{i['score']:.3f}" in text for i in example["items"])
    assert all(command in text for command in results["commands"])
    assert all(version in text for version in results["versions"].values())


def test_the_report_is_made_again_from_files(run: Path, capsys: Said) -> None:
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    (run / "store.db").unlink()
    (run / "adapter" / "item_rows.safetensors").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_bytes() == before


def test_what_the_data_says_is_no_html(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    data = results["datasets"].pop("chain")
    example = data["examples"][0]
    example["user_id"] = example["items"][0]["title"] = example["history"][0]["title"] = HOSTILE
    data["notes"] = [HOSTILE]
    data["tasks"]["rating" + HOSTILE] = data["tasks"].pop("rating")
    data["tasks"]["rating" + HOSTILE]["served"]["reliability"] = [[0.1, 0.2, 0.5], [0.8, 0.9, 0.5]]
    data["tasks"]["rating" + HOSTILE]["served"]["confusion"] = {
        "answers": [HOSTILE, "b"],
        "right_by_chosen": [[1, 2], [0, 0]],
    }
    results["datasets"]["chain" + HOSTILE] = data
    (run / "results.json").write_text(json.dumps(results))
    assert main(["report", str(run)]) == 0
    page = page_of(run)
    assert "script" not in page.tags and page.text.count(HOSTILE) > 5


def test_baselines_stand_beside_ours(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    found = {"value": 0.1234, "low": 0.1, "high": 0.15}
    results["datasets"]["chain"]["baselines"] = {
        "next_item": [
            {
                "name": "popularity",
                "settings": {"days": 7},
                "searched": 3,
                "metrics": {"seen_removed/ndcg@10": found},
                "difference": {"seen_removed/ndcg@10": {"value": 0.4321, "low": 0.4, "high": 0.45}},
                "train_seconds": 12.5,
                "predict_ms": 0.25,
            }
        ]
    }
    results["datasets"]["chain"]["cost"] = {"train_seconds": 4321.0, "predict_ms": 7.5}
    (run / "results.json").write_text(json.dumps(results))
    assert main(["report", str(run)]) == 0
    text = page_of(run).text
    for said in ("popularity", "days=7; the best of 3", "0.1234", "+0.4321", "+0.4000 to +0.4500", "4,321", "12.5"):
        assert said in text


def finetune_config(words: list[str]) -> FinetuneConfig:
    """The options that a finetune command would train with."""
    call = parsed(words)
    assert isinstance(call, partial)
    return call.args[0].training


def test_the_commands_of_a_report_give_the_run_again(evaluated_run: Path) -> None:
    results = json.loads((evaluated_run / "results.json").read_text())
    train, measure = (shlex.split(command)[1:] for command in results["commands"])
    config = finetune_config(train)
    assert config.out == str(evaluated_run)
    assert config_yaml(config) == (evaluated_run / "config.yaml").read_text()
    assert measure == ["evaluate", str(evaluated_run)]
    given = {"names": ("ml-100k", "demo"), "column": ("a=b c", "d=e"), "title": "{brand} $x", "k_core": 5}
    config = FinetuneConfig(**given, split="random", layers=2, minutes=1.5, lr=1e-5, collaborative=False, dry_run=True)
    assert finetune_config(["finetune", *arguments(config)]) == config


def test_a_run_that_was_not_evaluated_is_named(toy_run: Path, run: Path, capsys: Said) -> None:
    assert main(["report", str(toy_run)]) == 2
    assert f"genrec evaluate {toy_run}" in capsys.readouterr().err
    (run / "results.json").write_text("{")
    assert main(["report", str(run)]) == 2
    assert "results.json cannot be read" in capsys.readouterr().err
