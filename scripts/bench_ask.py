"""How well sentences are understood: accuracy on tests/phrasings, of which a third was never looked at.

Usage: scripts/bench ask [--wrong] [--out FILE]     --wrong shows the misread sentences of the development part
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from genrec.ask.conversation import Conversation, follow
from genrec.ask.understand import Known, Reader, Request
from genrec.rows.corpus import offered_tasks
from genrec.run.config import FinetuneConfig
from genrec.run.data import load_data
from genrec.tasks.taskfile import load_tasks

PHRASINGS = Path(__file__).parents[1] / "tests" / "phrasings"
FIELDS = ("task", "user", "items", "k", "conditions", "quote")


def known_data() -> list[Known]:
    """The data sets of the demo as a run would know them."""
    found = []
    tasks = list(load_tasks().values())
    for data in load_data(FinetuneConfig(names=("demo",))):
        frame = data.interactions
        users = set(frame["user_id"].to_list()) if "user_id" in frame.columns else set()
        items = data.items.with_columns(pl.lit(0).alias("train_count"))
        if "item_id" in frame.columns and items.height:
            counts = frame.group_by("item_id").len()
            items = data.items.join(counts, on="item_id", how="left", maintain_order="left")
            items = items.with_columns(pl.col("len").fill_null(0).alias("train_count")).drop("len")
        offered, _ = offered_tasks(data, tasks)
        found.append(Known(data.name, tuple(t.name for t in offered), items, users.__contains__))
    return found


def right(request: Request, line: dict[str, Any]) -> dict[str, bool]:
    """Which fields of a reading are right; of a sentence that is out of scope only the task counts."""
    task = request.task or "none"
    found = {"task": task == line["task"]}
    if line["task"] == "none":
        return found | dict.fromkeys(FIELDS[1:], True)
    conditions = {json.dumps(c.to_json()) for c in request.conditions}
    wanted = {json.dumps(numbers(c)) for c in line["conditions"]}
    counts = line["task"] in ("next_item", "basket")
    return found | {
        "user": request.user_id == line["user"],
        "items": [m.item_id for m in request.items] == line["items"],
        "k": not counts or (request.k or 10) == line["k"],
        "conditions": conditions == wanted,
        "quote": line["quote"] is None or plain(request.text) == plain(line["quote"]),
    }


def followed(reader: Reader, line: dict[str, Any]) -> bool:
    """Whether a follow-up is read right: what it does, and user, conditions, length and known items after it."""
    first = reader.read(line["before"])
    items = reader.known[first.dataset or "ml-100k"].items["item_id"].to_list()
    shown = tuple(items[: first.k or 10])
    said = reader.read(line["text"], shown=shown, follows=True)
    request, held = follow(Conversation(first, shown, shown), said)
    wanted = line["reading"]
    kinds = {"more": ("more",), "seen": ("seen",), "ask": ("explain",), "change": ("change", "next_item")}
    known = [shown.index(i) + 1 for i in held.known if i in shown]
    conditions = {json.dumps(c.to_json()) for c in request.conditions}
    return (
        said.task in kinds[wanted["action"]]
        and request.user_id == wanted["user"]
        and (wanted["action"] == "ask" or conditions == {json.dumps(numbers(c)) for c in wanted["conditions"]})
        and known == wanted["seen"]
        and (wanted["action"] == "ask" or (request.k or 10) == wanted["k"])
    )


def numbers(condition: list[Any]) -> list[Any]:
    """A condition with its numbers as floats."""
    column, op, value = condition
    if isinstance(value, list):
        return [column, op, [float(x) for x in value]]
    return [column, op, value if isinstance(value, str) else float(value)]


def plain(text: str | None) -> str:
    """A text without the punctuation around it."""
    import unicodedata

    return unicodedata.normalize("NFKC", text or "").strip(" .!?。！？\"'“”")


def main() -> None:
    """Print a table, and with --wrong what was misread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    reader = Reader(known_data(), load_tasks())
    results: dict[str, Any] = {}
    for language in ("en", "zh"):
        for part in ("dev", "dev2", "dev3", "dev4", "unseen"):
            lines = [json.loads(x) for x in (PHRASINGS / f"{language}.{part}.jsonl").read_text("utf-8").splitlines()]
            readings = [reader.read(line["text"]) for line in lines]
            marks = [right(r, line) for r, line in zip(readings, lines, strict=True)]
            every = [all(m.values()) for m in marks]
            by_field = {f: float(np.mean([m[f] for m in marks])) for f in FIELDS}
            results[f"{language}.{part}"] = {"n": len(lines), "all": float(np.mean(every)), **by_field}
            wrong = Counter(line["task"] for line, ok in zip(lines, every, strict=True) if not ok)
            fields = ", ".join(f"{f} {v:.3f}" for f, v in by_field.items())
            print(f"{language}.{part}: {len(lines)} sentences, all right {np.mean(every):.3f} ({fields})")
            print(f"  wrong by task: {dict(wrong)}")
            if args.wrong and part != "unseen":
                for line, reading, m in zip(lines, readings, marks, strict=True):
                    if not all(m.values()):
                        bad = [f for f, ok in m.items() if not ok]
                        got = reading.to_json() | {"task": reading.task, "certainty": round(reading.certainty, 2)}
                        print(f"  {line['id']} {line['text']!r} wrong {bad}")
                        print(f"     got {got}")
                        print(f"     not { ({f: line[f] for f in bad}) }")
    for language in ("en", "zh"):
        for part in ("chat.dev", "chat.dev2", "chat.unseen"):
            lines = [json.loads(x) for x in (PHRASINGS / f"{language}.{part}.jsonl").read_text("utf-8").splitlines()]
            marks = [followed(reader, line) for line in lines]
            results[f"{language}.{part}"] = {"n": len(lines), "all": float(np.mean(marks))}
            print(f"{language}.{part}: {len(lines)} follow-ups, all right {np.mean(marks):.3f}")
            if args.wrong and part != "chat.unseen":
                print(
                    "".join(
                        f"  {x['before']!r}, then {x['text']!r}\n" for x, ok in zip(lines, marks, strict=True) if not ok
                    ),
                    end="",
                )
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))
    unseen = [results[f"{language}.unseen"] for language in ("en", "zh")]
    print("unseen, all fields right: " + ", ".join(f"{u['all']:.3f} of {u['n']}" for u in unseen))


if __name__ == "__main__":
    main()
