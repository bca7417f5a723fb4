"""The Python of README.md and the notebook in examples/ run as they are written."""

import re
from pathlib import Path

import nbclient
import nbformat
import polars as pl
import pytest
from tiny import tiny_backbone
from worlds import WORDS, chain_world

import genrec

ROOT = Path(__file__).parents[1]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = nbformat.read(ROOT / "examples" / "python.ipynb", as_version=4)
    tiny = tiny_backbone(tmp_path / "tiny", WORDS)
    first = next(cell for cell in book.cells if cell.cell_type == "code")
    first.source, replaced = re.subn('^model = "smollm2-135m"', f"model = {str(tiny)!r}", first.source, flags=re.M)
    assert replaced == 1
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    nbclient.NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]
    pages = "".join(o["data"].get("text/html", "") for o in outputs if "data" in o)
    assert pages.count("<table>") >= 4 and "user 999 is unknown" in pages and "genrec run runs/notebook" in pages
    lines = "".join(o["text"] for o in outputs if o.output_type == "stream")
    assert "backbone" in lines and "training" in lines  # what was assumed, and a bar
    assert "For user 7" in str(outputs[-1]["data"]["text/plain"])


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = chain_world(users=60)
    ids = dict(zip(world.items["item_id"], [50, 181, *range(1, 11)], strict=True))
    ratings = world.interactions.select(
        pl.col("user_id").str.slice(1).cast(pl.Int64), pl.col("item_id").replace_strict(ids), "rating", "timestamp"
    )
    genre = pl.Series(["Comedy", "Drama"] * 6)
    movies = world.items.select(pl.col("item_id").replace_strict(ids), "title", pl.col("year") + 10, genre=genre)
    ratings.write_csv(tmp_path / "ratings.csv")
    movies.write_csv(tmp_path / "movies.csv")
    monkeypatch.chdir(tmp_path)
    model = tiny_backbone(tmp_path / "tiny", WORDS)
    options = {"model": model, "layers": 2, "epochs": 1, "out": "runs/mine"}
    genrec.finetune("ratings.csv", items="movies.csv", **options)
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Python\n")[2]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    assert code.startswith("import genrec\n") and code.count("\n") > 8
    values: dict[str, object] = {}
    for line in code.splitlines():
        exec(line, values)
    assert (tmp_path / "runs" / "mine" / "results.json").is_file()
