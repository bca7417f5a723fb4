"""Rows on disk: a memory-mapped `datasets` Arrow dataset, cached by the fingerprint of data, tasks and options."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.fetch import CACHE_HINT
from ..errors import DataError
from ..files import write_errors
from .corpus import Corpus
from .row import Row
from .training import training_rows
from .window import RowOptions

if TYPE_CHECKING:
    import datasets

ROWS_FILE = "rows.arrow"
ROWS_VERSION = 6  # of what rows are made of; raised when the same data and options give other rows
ROW_FIELDS = tuple(f.name for f in fields(Row))


def rows_fingerprint(corpora: Sequence[Corpus], options: RowOptions, tokenizer: str) -> str:
    """Hash of everything that training rows depend on."""
    value = {
        "rows": ROWS_VERSION,
        "tokenizer": tokenizer,
        "options": asdict(options),
        "vocabulary": corpora[0].vocabulary.to_json(),
        "data": [
            (c.dataset.name, c.dataset.fingerprint, sorted(c.dataset.signs.items()), [t.fingerprint for t in c.tasks])
            for c in corpora
        ],
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def load_rows(
    corpora: Sequence[Corpus],
    options: RowOptions,
    tokenizer: str,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> "datasets.Dataset":
    """All training rows of a run; built once, then read from `folder`. Raises DataError if there are none.

    progress: called with the rows written so far.
    """
    import datasets

    target = folder / rows_fingerprint(corpora, options, tokenizer)
    if not target.is_dir():
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with write_errors(folder, CACHE_HINT):
                if not write_rows((r for c in corpora for r in training_rows(c, options)), partial, progress):
                    raise DataError(
                        "no training row: no user has an interaction in the training part that a task asks for"
                    )
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return datasets.Dataset.from_file(str(target / ROWS_FILE))


def write_rows(rows: Iterator[Row], folder: Path, progress: Callable[[int], None] | None = None) -> int:
    """Write rows as an Arrow dataset; returns how many. Rows are streamed, never all in memory."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    ints = datasets.List(datasets.Value("int32"))
    features = datasets.Features(
        {
            "dataset": datasets.Value("string"),
            **{n: ints for n in ROW_FIELDS if n not in ("dataset", "target_weight", "source")},
            "target_weight": datasets.List(datasets.Value("float32")),
            "source": datasets.List(datasets.Value("uint32")),
        }
    )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    writer = ArrowWriter(path=str(folder / ROWS_FILE), features=features)
    n = 0
    try:
        for row in rows:
            writer.write({name: getattr(row, name) for name in ROW_FIELDS})
            n += 1
            if progress is not None:
                progress(n)
    finally:
        if n:
            writer.finalize()
    return n


def read_row(record: dict[str, Any]) -> Row:
    """A stored record as a Row."""
    return Row(**{name: record[name] for name in ROW_FIELDS})


def spell(corpus: Corpus, tokens: Sequence[int], decode: Callable[[list[int]], str]) -> str:
    """Tokens as text; item tokens as `<item ID>`, outcome tokens as `<rating 3>`."""
    out, words = [], []
    ids = corpus.dataset.items["item_id"].to_list() if corpus.dataset.items.height else []
    for token in [*tokens, -1]:
        if 0 <= token < corpus.vocabulary.n_words:
            words.append(token)
            continue
        if words:
            out.append(decode(words))
            words = []
        if token < 0:
            break
        group = next(g for g in corpus.vocabulary.groups if g.first <= token < g.first + g.size)
        out.append(
            f"<item {ids[token - group.first]}>"
            if group.is_items
            else f"<{group.name} {group.short_words[token - group.first]}>"
        )
    return "".join(out)


def text_examples(corpus: Corpus, row: Row, decode: Callable[[list[int]], str]) -> Iterator[dict[str, str]]:
    """A row's targets in TRL's prompt/completion form: the tokens that the target attends to, and the answer."""
    for at, task, answer in zip(row.target_at, row.target_task, row.target_id, strict=True):
        segment, limit = row.segment[at], row.limit[at]
        visible = [
            t
            for n, t in enumerate(row.tokens[: at + 1])
            if row.segment[n] == segment or (row.segment[n] == 0 and n < limit)
        ]
        name = corpus.all_tasks[task]
        group = corpus.group_of(next(t for t in corpus.tasks if t.name == name))
        answer_text = spell(corpus, [group.first + answer], decode) if group.is_items else group.short_words[answer]
        yield {"prompt": spell(corpus, visible[1:] or visible, decode), "completion": f" {answer_text}"}
