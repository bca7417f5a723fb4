"""The rows of a data set: histories with their branches, texts with their questions, and what is held out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from ..data.dataset import Part
from .rows import DAY, UNDATED, Branch, Corpus, Events, Row, assemble, choice_index, question_tokens, select
from .task import Task, labels, placeholders, task_columns, task_rows
from .units import NEXT_EVENT, is_lookahead

NEAR = 5  # "like X": X is at most this many events before the target
BARE = 0.15  # share of histories shown as plain lists of items: callers give these, too
AHEAD = 10  # a condition is drawn from the attributes of one of the next so many items
REVIEW_TOKENS = 256  # a longer text keeps its first and last halves of this
UNCOUNTED = 1_024  # characters of a text of few words whose tokens are not counted


@dataclass(frozen=True)
class RowOptions:
    """How histories become rows.

    max_events: longest history of one row. stride: events between the windows of a longer history.
    question_share: question tokens per history token. seed: of every draw.
    """

    max_events: int = 200
    stride: int = 100
    question_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Window:
    """One user's events lo..hi of `events`, all of them visible to training."""

    events: Events
    user: int
    lo: int
    hi: int

    @cached_property
    def ends(self) -> np.ndarray:
        """Events after which another time begins: the moments at which one can ask what happens later."""
        time = self.events.time[self.lo : self.hi]
        return np.nonzero(np.append(time[1:] > time[:-1], True))[0]


def training_rows(corpus: Corpus, options: RowOptions) -> Iterator[Row]:
    """Every training row of a data set: one history is one row, long histories become overlapping windows.

    Texts of a data set that also has histories are drawn, up to half of `question_share` of the histories' tokens, so
    that they ride along and do not take over; without histories every text is a row, of all the tasks that ask about
    it at once.
    """
    tokens = 0
    if corpus.events is not None and any(t.unit != "text" for t in corpus.tasks):
        for row in history_rows(corpus, options):
            tokens += len(row.tokens)
            yield row
    for together in sharing_texts(corpus.tasks):
        budget = options.question_share / 2 * tokens if tokens else float("inf")
        templates = [t.seen for t in together]
        for row in text_rows(corpus, together, "train", templates, options.seed, shuffle=tokens > 0):
            budget -= len(row.tokens)
            if budget < 0:
                break
            yield row


def history_rows(corpus: Corpus, options: RowOptions) -> Iterator[Row]:
    """One row per window of each user's training events; some show neither outcomes nor who the user is."""
    assert corpus.events is not None
    events = select(corpus.events, corpus.events.part == 0)
    bare = replace(events, outcome=np.full_like(events.outcome, -1))
    sampler = ItemSampler(events, corpus.items.size)
    for user, name in enumerate(events.users):
        lo, hi = int(events.offsets[user]), int(events.offsets[user + 1])
        for start in window_starts(lo, hi, options):
            rng = np.random.default_rng([options.seed, 2, user, start - lo])
            is_bare = rng.random() < BARE
            shown = bare if is_bare else events
            window = Window(shown, user, start, min(start + options.max_events, hi))
            branches = draw_branches(corpus, window, sampler, rng, options)
            row = assemble(corpus, None if is_bare else name, window.lo, window.hi, branches, True, start == lo, shown)
            if row.target_at:
                yield row


def window_starts(lo: int, hi: int, options: RowOptions) -> list[int]:
    """First events of the windows that cover lo..hi; the last window ends at hi."""
    if hi == lo:
        return []
    if hi - lo <= options.max_events:
        return [lo]
    starts = list(range(lo, hi - options.max_events, options.stride))
    return [*starts, hi - options.max_events]


# --- branches -----------------------------------------------------------------------------------------------------


def draw_branches(
    corpus: Corpus, window: Window, sampler: "ItemSampler", rng: np.random.Generator, options: RowOptions
) -> list[Branch]:
    """The questions that ride on one window, up to `question_share` of its tokens, and the look-ahead candidates."""
    branches: list[Branch] = []
    makers = []
    for task in corpus.tasks:
        if task.name == "next_item":
            makers.append((task, plain_question))
            if task.conditioned_seen and corpus.conditions:
                makers.append((task, conditioned_question))
            if task.like_seen:
                makers.append((task, like_question))
        elif task.unit == "basket":
            makers.append((task, basket_question))
        elif task.unit == "user_time":
            makers.append((task, user_question))
        elif task.unit == "event" and task.horizon_days is None and task.answer.kind != "item":
            makers.append((task, event_question))
        elif task.unit == "event" and task.horizon_days is not None:
            branches += look_ahead_candidates(corpus, task, window, sampler, rng)
    if not makers:
        return branches
    budget = (
        options.question_share
        * (window.hi - window.lo)
        * (1 + float((window.events.outcome[window.lo : window.hi] >= 0).mean()))
    )
    while budget > 0:
        task, maker = makers[int(rng.integers(len(makers)))]
        question = maker(corpus, task, window, rng)
        cost = 25 if question is None else len(question.tokens)
        if rng.random() * cost > budget:
            break
        budget -= cost
        if question is not None:
            branches.append(question)
    return branches


def pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    """One of the values."""
    return values[int(rng.integers(len(values)))]


def target_places(window: Window) -> np.ndarray:
    """Events of the window that next_item may ask for, the first one excepted."""
    wanted = window.events.target[window.lo : window.hi] & (window.events.item[window.lo : window.hi] >= 0)
    places = np.nonzero(wanted)[0]
    return places[places > 0]


def plain_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`What comes next?`"""
    places = target_places(window)
    if not len(places):
        return None
    place = int(rng.choice(places))
    tokens = question_tokens(pick(rng, task.seen), {}, {}, corpus.encode)
    return Branch(tokens, place, [(task.name, int(window.events.item[window.lo + place]), 1.0, -1)])


def conditioned_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`Recommend an item with genre Comedy`: the target is the next item that meets the condition."""
    places = target_places(window)
    if not len(places):
        return None
    start = int(rng.integers(len(places)))
    ahead = places[start:]
    drawn = int(window.events.item[window.lo + int(rng.choice(ahead[:AHEAD]))])
    fitting = [n for n, (_, _, mask) in enumerate(corpus.conditions) if mask[drawn]]
    if not fitting:
        return None
    condition = int(rng.choice(fitting))
    words, _, mask = corpus.conditions[condition]
    item = next(int(window.events.item[window.lo + p]) for p in ahead if mask[window.events.item[window.lo + p]])
    tokens = question_tokens(pick(rng, task.conditioned_seen), {"condition": words}, {}, corpus.encode)
    return Branch(tokens, int(places[start]), [(task.name, item, 1.0, condition)])


def like_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`Something like X`: X came at most NEAR events before the target; half of them are asked without the history."""
    places = target_places(window)
    if not len(places):
        return None
    place = int(rng.choice(places))
    events = window.events
    target = int(events.item[window.lo + place])
    near = events.item[window.lo + max(0, place - NEAR) : window.lo + place]
    near = near[(near >= 0) & (near != target)]
    if not len(near):
        return None
    like = corpus.items.first + int(rng.choice(near))
    tokens = question_tokens(pick(rng, task.like_seen), {}, {"item": [like]}, corpus.encode)
    return Branch(tokens, place, [(task.name, target, 1.0, -1)], sees_user=bool(rng.random() < 0.5))


def event_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """A rating, click or the caller's own outcome, asked in words."""
    index = window.events.labels[task.name][window.lo : window.hi]
    places = np.nonzero((index >= 0) & (window.events.item[window.lo : window.hi] >= 0))[0]
    if not len(places):
        return None
    place = int(rng.choice(places))
    item = corpus.items.first + int(window.events.item[window.lo + place])
    tokens = question_tokens(pick(rng, task.seen), {}, {"item": [item]}, corpus.encode)
    return Branch(tokens, place, [(task.name, int(index[place]), 1.0, -1)])


def kept(task: Task, window: Window) -> np.ndarray:
    """Which events of the window the task's `where` keeps."""
    mask = window.events.where.get(task.name)
    return np.ones(window.hi - window.lo, dtype=bool) if mask is None else mask[window.lo : window.hi]


def basket_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`What goes with these?`: some items of a basket are given, another of it is the target."""
    events = window.events
    basket = events.basket[window.lo : window.hi]
    place = int(rng.integers(len(basket)))
    inside = np.nonzero((basket == basket[place]) & (basket >= 0) & kept(task, window))[0]
    items = list(dict.fromkeys(int(i) for i in events.item[window.lo + inside] if i >= 0))
    if len(items) < 2:
        return None
    order = rng.permutation(len(items))
    given = [corpus.items.first + items[n] for n in order[1 : 1 + int(rng.integers(1, min(len(items), 6)))]]
    tokens = question_tokens(pick(rng, task.seen), {}, {"items": given}, corpus.encode)
    return Branch(tokens, int(inside[0]), [(task.name, items[order[0]], 1.0, -1)], sees_user=bool(rng.random() < 0.5))


def user_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`Will they be back?`, asked after one of the user's visits whose horizon ends before the cut-off."""
    until = cutoff(corpus, "valid")
    ends = asked_ends(task, window, until)
    if not len(ends):
        return None
    end = int(rng.choice(ends))
    days = days_until_next(window.events, window.user, window.lo + end, until, look_ahead_event(task))
    answer = int(look_ahead_answers(corpus, task, [days])[0])
    tokens = question_tokens(pick(rng, task.seen), {}, {}, corpus.encode)
    return Branch(tokens, end + 1, [(task.name, answer, 1.0, -1)]) if answer >= 0 else None


def asked_ends(task: Task, window: Window, until: int) -> np.ndarray:
    """Moments of the window that a look-ahead task may be asked after: their horizon ends before the cut-off."""
    ends = window.ends
    time = window.events.time[window.lo + ends]
    return ends[(time > UNDATED) & (time + (task.horizon_days or 0) * DAY <= until) & kept(task, window)[ends]]


def look_ahead_answers(corpus: Corpus, task: Task, days: Sequence[float]) -> np.ndarray:
    """Answers of a look-ahead task from the days until what it asks about (infinite: never)."""
    column = next(c for c in task_columns(task) if is_lookahead(c))
    frame = pl.DataFrame({column: list(days)}, schema={column: pl.Float64})
    return choice_index(task, corpus.group_of(task), labels(task, frame))


def days_until_next(events: Events, user: int, place: int, until: int, event: str | None) -> float:
    """Days from event `place` to the user's next event at a later time (of one kind, if named) before `until`;
    infinite where there is none."""
    now = int(events.time[place])
    own = slice(int(events.offsets[user]), int(events.offsets[user + 1]))
    time = events.time[own]
    later = time[(time > now) & (time < until) & is_kind(events, own, event)]
    return float(later.min() - now) / DAY if len(later) else float("inf")


def cutoff(corpus: Corpus, part: str) -> int:
    """First timestamp of a part; beyond all time for the part after the last."""
    return dict(corpus.dataset.cutoffs).get(part, np.iinfo(np.int64).max)


# --- look-ahead candidates ----------------------------------------------------------------------------------------


class ItemSampler:
    """Draws items by their popularity in the events, or uniformly."""

    def __init__(self, events: Events, n_items: int) -> None:
        counts = np.bincount(events.item[events.item >= 0], minlength=n_items).astype(np.float64) + 0.5
        self.popularity = counts / counts.sum()
        self.uniform = np.full(n_items, 1 / n_items)
        self.below = np.cumsum(self.popularity)

    def draw(self, how: str, size: int, rng: np.random.Generator) -> np.ndarray:
        """`size` items with repetition."""
        if how == "uniform":
            return rng.integers(len(self.uniform), size=size)
        return np.minimum(np.searchsorted(self.below, rng.random(size), side="right"), len(self.below) - 1)


@dataclass(frozen=True)
class Candidates:
    """Items asked about at one moment; `weight` makes them stand for the whole catalogue."""

    items: np.ndarray
    answers: np.ndarray
    weight: np.ndarray


def candidate_items(
    corpus: Corpus,
    task: Task,
    events: Events,
    user: int,
    place: int,
    until: int,
    sampler: ItemSampler,
    rng: np.random.Generator,
    most: int = 4,
) -> Candidates:
    """Candidates after event `place` (absolute) with their answers.

    Items the user gets within the horizon (at most `most`), negatives drawn as the task says, and, where the data has
    several kinds of events, the item of the event itself.
    """
    hi = int(events.offsets[user + 1])
    horizon, now = (task.horizon_days or 0) * DAY, int(events.time[place])
    ahead = slice(place + 1, hi)
    time = events.time[ahead]
    later = place + 1 + np.nonzero((time > now) & (time < until) & is_kind(events, ahead, look_ahead_event(task)))[0]
    first_time: dict[int, int] = {}
    for n in later.tolist():
        first_time.setdefault(int(events.item[n]), int(events.time[n]))
    within = np.asarray([i for i, t in first_time.items() if t - now <= horizon], dtype=np.int64)
    chosen = rng.permutation(within)[:most]
    weight = np.full(len(chosen), len(within) / max(len(chosen), 1))
    if task.negatives is not None:
        size = task.negatives.per_positive * max(1, len(chosen))
        drawn = sampler.draw(task.negatives.draw, size, rng)
        drawn = drawn[~np.isin(drawn, within)]
        q = sampler.popularity if task.negatives.draw == "popularity" else sampler.uniform
        weight = np.concatenate([weight, 1 / (q[drawn] * size)])
        chosen = np.concatenate([chosen, drawn])
    elif events.item[place] >= 0:
        chosen = np.asarray([events.item[place]])
        weight = np.ones(1)
    days = [(first_time[int(i)] - now) / DAY if int(i) in first_time else float("inf") for i in chosen]
    return Candidates(chosen, look_ahead_answers(corpus, task, days), weight)


def look_ahead_event(task: Task) -> str | None:
    """The event in a label such as `next_purchase_days <= 28`; None where any event counts."""
    found = next((m for c in task_columns(task) if (m := NEXT_EVENT.fullmatch(c))), None)
    return found[1] if found else None


def is_kind(events: Events, where: slice, event: str | None) -> np.ndarray:
    """Which of the events are of one kind; all of them where none is named."""
    kind = events.kind[where]
    if event is None:
        return np.ones(len(kind), dtype=bool)
    return kind == (events.kinds.index(event) if event in events.kinds else -1)


def look_ahead_candidates(
    corpus: Corpus, task: Task, window: Window, sampler: ItemSampler, rng: np.random.Generator, moments: int = 3
) -> list[Branch]:
    """Candidate branches at a few moments of a window, and one of them asked in words."""
    until = cutoff(corpus, "valid")
    ends = asked_ends(task, window, until)
    if not len(ends):
        return []
    branches = []
    for end in rng.permutation(ends)[:moments].tolist():
        found = candidate_items(corpus, task, window.events, window.user, window.lo + end, until, sampler, rng)
        for item, answer in zip(found.items.tolist(), found.answers.tolist(), strict=True):
            token = corpus.items.first + item
            target = [(task.name, int(answer), 1.0, -1)]
            branches.append(Branch([token], end + 1, target))
            if rng.random() < 0.05:
                text = question_tokens(pick(rng, task.seen), {}, {"item": [token]}, corpus.encode)
                branches.append(Branch(text, end + 1, target))
    return branches


# --- texts --------------------------------------------------------------------------------------------------------


def sharing_texts(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks over texts, together where each shows the same columns in all its templates: a column that only one of
    them shows might give away what another asks."""
    found: dict[object, list[Task]] = {}
    for task in tasks:
        if task.unit == "text":
            shown = {frozenset(placeholders(t)) for t in task.seen}
            found.setdefault(shown.pop() if len(shown) == 1 else task.name, []).append(task)
    return list(found.values())


def text_rows(
    corpus: Corpus,
    tasks: Sequence[Task],
    part: Part,
    templates: Sequence[Sequence[str]],
    seed: int,
    shuffle: bool = False,
    most: int | None = None,
) -> Iterator[Row]:
    """One row per text of `answered_texts`: a question with the text in it, the answers of all tasks its targets.

    templates: each task's; a row is asked in one of one of its tasks', drawn by seed.
    """
    frame, answers = answered_texts(corpus, tasks, part, templates, seed, shuffle, most)
    rng = np.random.default_rng([seed, 3])
    for record, own in zip(frame.iter_rows(named=True), answers.tolist(), strict=True):
        asked = [n for n, answer in enumerate(own) if answer >= 0]
        words = pick(rng, templates[asked[int(rng.integers(len(asked)))]])
        branch = text_branch(corpus, words, record, [(tasks[n].name, own[n]) for n in asked])
        row = assemble(corpus, None, 0, 0, [branch], False, False, None)
        if "row" in record:
            row.source.append(int(record["row"]))
        yield row


def answered_texts(
    corpus: Corpus,
    tasks: Sequence[Task],
    part: Part,
    templates: Sequence[Sequence[str]],
    seed: int,
    shuffle: bool = False,
    most: int | None = None,
) -> tuple[pl.DataFrame, np.ndarray]:
    """The texts of a part that any of the tasks asks about, and (texts, tasks) the indices of their answers, -1 for
    none; a text that lacks what a template shows is left out.

    shuffle: in drawn order. most: so many texts, drawn by seed, in their order.
    """
    shown = list(dict.fromkeys(n for of_task in templates for t in of_task for n in placeholders(t)))
    found: pl.DataFrame | None = None
    for task in tasks:
        frame = task_rows(task, corpus.dataset, part)
        key = "row" if "row" in frame.columns else "item_id"
        if key == "row" and "learned" in corpus.dataset.interactions.columns:
            asked = corpus.dataset.interactions.filter(~pl.col("learned")).select("row")
            frame = frame.join(asked, on="row", how="semi", maintain_order="left")
        answer = pl.Series(f"answer {task.name}", choice_index(task, corpus.group_of(task), frame["label"]))
        on = list(dict.fromkeys([key, *shown]))
        frame = frame.select(*on, answer).filter(pl.col(answer.name) >= 0).drop_nulls(shown)
        found = frame if found is None else found.join(frame, on=on, how="full", coalesce=True, maintain_order="left")
    assert found is not None
    if shuffle:
        found = found.sample(fraction=1.0, shuffle=True, seed=seed)
    if most is not None and found.height > most:
        found = found[np.sort(np.random.default_rng([seed, 5]).choice(found.height, most, replace=False))]
    return found, found.select(pl.col(f"answer {t.name}").fill_null(-1) for t in tasks).to_numpy()


def text_branch(corpus: Corpus, template: str, record: dict[str, object], answers: Sequence[tuple[str, int]]) -> Branch:
    """A question about a text, and the index of each task's answer; a long text loses its middle."""
    values = {
        k: shorten(corpus, str(v)) if k in ("text", "review") else str(v) for k, v in record.items() if v is not None
    }
    tokens = question_tokens(template, values, {}, corpus.encode)
    return Branch(tokens, 0, [(*answer, 1.0, -1) for answer in answers], sees_user=False, pooled=True)


def shorten(corpus: Corpus, text: str) -> str:
    """The text, or its first and last words where it is longer than REVIEW_TOKENS tokens; of one whose words are longer
    than that, its first and last characters."""
    words = text.split(" ")
    if len(words) <= REVIEW_TOKENS // 2 and len(text) <= UNCOUNTED:
        return text
    # Words beyond as many as the tokens that are read are not counted token by token: each is one at least.
    while len(words) > 2 and (
        sum(map(bool, words)) > REVIEW_TOKENS or len(corpus.encode(" ".join(words))) > REVIEW_TOKENS
    ):
        keep = int(len(words) * 0.9) // 2
        words = words[:keep] + words[-keep:]
    text = " ".join(words)
    while (tokens := len(corpus.encode(text))) > REVIEW_TOKENS:
        keep = int(len(text) * 0.9 * REVIEW_TOKENS / tokens) // 2
        text = text[:keep] + text[-keep:] if keep else ""
    return text
