"""The rows of a data set: histories with their branches, texts with their questions, and what is held out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from ..data.dataset import Part
from .rows import DAY, Branch, Corpus, Events, Row, assemble, choice_index, question_tokens, select
from .task import Task, labels, task_rows

NEAR = 5  # "like X": X is at most this many events before the target
BARE = 0.15  # share of histories shown without their outcomes: callers give lists of item ids, too
AHEAD = 10  # a condition is drawn from the attributes of one of the next so many items
REVIEW_TOKENS = 256  # a longer text keeps its first and last halves of this


@dataclass(frozen=True)
class RowOptions:
    """How histories become rows.

    max_events: longest history of one row. stride: events between the windows of a longer history.
    question_share: question tokens per history token. seed: of every draw.
    """

    max_events: int = 200
    stride: int = 100
    question_share: float = 0.15
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

    Texts of a data set that also has histories are drawn, up to `question_share` of the histories' tokens, so that they
    ride along and do not take over; without histories every text is a row.
    """
    tokens = 0
    if corpus.events is not None and any(t.unit != "text" for t in corpus.tasks):
        for row in history_rows(corpus, options):
            tokens += len(row.tokens)
            yield row
    for task in corpus.tasks:
        if task.unit != "text":
            continue
        budget = options.question_share * tokens if tokens else float("inf")
        for row in text_rows(corpus, task, "train", task.seen, options.seed, shuffle=tokens > 0):
            budget -= len(row.tokens)
            if budget < 0:
                break
            yield row


def history_rows(corpus: Corpus, options: RowOptions) -> Iterator[Row]:
    """One row per window of each user's training events."""
    assert corpus.events is not None
    events = select(corpus.events, corpus.events.part == 0)
    bare = replace(events, outcome=np.full_like(events.outcome, -1))
    sampler = ItemSampler(events, corpus.items.size)
    for user, name in enumerate(events.users):
        lo, hi = int(events.offsets[user]), int(events.offsets[user + 1])
        for start in window_starts(lo, hi, options):
            rng = np.random.default_rng([options.seed, 2, user, start - lo])
            shown = bare if rng.random() < BARE else events
            window = Window(shown, user, start, min(start + options.max_events, hi))
            branches = draw_branches(corpus, window, sampler, rng, options)
            row = assemble(corpus, name, window.lo, window.hi, branches, True, start == lo, shown)
            if row.target_at:
                yield row


def window_starts(lo: int, hi: int, options: RowOptions) -> list[int]:
    """First events of the windows that cover lo..hi; the last window ends at hi."""
    if hi - lo < 2:
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


def basket_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`What goes with these?`: some items of a basket are given, another of it is the target."""
    events = window.events
    basket = events.basket[window.lo : window.hi]
    place = int(rng.integers(len(basket)))
    inside = np.nonzero((basket == basket[place]) & (basket >= 0))[0]
    items = list(dict.fromkeys(int(i) for i in events.item[window.lo + inside] if i >= 0))
    if len(items) < 2:
        return None
    order = rng.permutation(len(items))
    given = [corpus.items.first + items[n] for n in order[1 : 1 + int(rng.integers(1, min(len(items), 6)))]]
    tokens = question_tokens(pick(rng, task.seen), {}, {"items": given}, corpus.encode)
    return Branch(tokens, int(inside[0]), [(task.name, items[order[0]], 1.0, -1)], sees_user=bool(rng.random() < 0.5))


def user_question(corpus: Corpus, task: Task, window: Window, rng: np.random.Generator) -> Branch | None:
    """`Will they be back?`, asked after one of the user's visits whose horizon ends before the cut-off."""
    events, until = window.events, cutoff(corpus, "valid")
    horizon = (task.horizon_days or 0) * DAY
    time = events.time[window.lo : window.hi]
    ends = window.ends[time[window.ends] + horizon <= until]
    if not len(ends):
        return None
    end = int(rng.choice(ends))
    answer = user_time_answers(corpus, task, [returns_days(events, window.user, int(time[end]), until)])[0]
    tokens = question_tokens(pick(rng, task.seen), {}, {}, corpus.encode)
    return Branch(tokens, end + 1, [(task.name, int(answer), 1.0, -1)]) if answer >= 0 else None


def user_time_answers(corpus: Corpus, task: Task, days: Sequence[float]) -> np.ndarray:
    """Answers of a user_time task from the days until each user's next event (infinite: never)."""
    frame = pl.DataFrame({"returns_days": list(days)}, schema={"returns_days": pl.Float64})
    return choice_index(task, corpus.group_of(task), labels(task, frame))


def returns_days(events: Events, user: int, after: int, until: int) -> float:
    """Days from `after` to the user's next event before `until`; infinite where there is none."""
    time = events.time[events.offsets[user] : events.offsets[user + 1]]
    later = time[(time > after) & (time < until)]
    return float(later.min() - after) / DAY if len(later) else float("inf")


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

    def draw(self, how: str, size: int, rng: np.random.Generator) -> np.ndarray:
        """`size` items with repetition."""
        weights = self.popularity if how == "popularity" else self.uniform
        return rng.choice(len(weights), size=size, p=weights)


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
    event, horizon, now = look_ahead_event(task), (task.horizon_days or 0) * DAY, int(events.time[place])
    later = np.arange(place + 1, hi)
    later = later[(events.time[later] > now) & (events.time[later] < until) & event_is(corpus, events, later, event)]
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
    column = f"next_{event}_days"
    frame = pl.DataFrame({column: days}, schema={column: pl.Float64})
    answers = choice_index(task, corpus.group_of(task), labels(task, frame))
    return Candidates(chosen, answers, weight)


def look_ahead_event(task: Task) -> str:
    """The event word in a label such as `next_purchase_days <= 28`."""
    found = re.search(r"next_(\w+?)_days", task.label or "")
    return found.group(1) if found else "purchase"


def event_is(corpus: Corpus, events: Events, places: np.ndarray, event: str) -> np.ndarray:
    """Which events are of one kind; data with a single kind is all of it."""
    key = (corpus.dataset.name, "event")
    if key not in corpus.vocabulary.by_key:
        return np.ones(len(places), dtype=bool)
    group = corpus.vocabulary.by_key[key]
    return events.outcome[places] == group.first + group.words.index(event)


def look_ahead_candidates(
    corpus: Corpus, task: Task, window: Window, sampler: ItemSampler, rng: np.random.Generator, moments: int = 3
) -> list[Branch]:
    """Candidate branches at a few moments of a window, and one of them asked in words."""
    until, horizon = cutoff(corpus, "valid"), (task.horizon_days or 0) * DAY
    ends = window.ends[window.events.time[window.lo + window.ends] + horizon <= until]
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


def text_rows(
    corpus: Corpus, task: Task, part: Part, templates: Sequence[str], seed: int, shuffle: bool = False
) -> Iterator[Row]:
    """One row per text: the question with the text in it, its answer the target."""
    frame = task_rows(task, corpus.dataset, part)
    if shuffle:
        frame = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    answers = choice_index(task, corpus.group_of(task), frame["label"])
    rng = np.random.default_rng([seed, 3])
    for record, answer in zip(frame.iter_rows(named=True), answers.tolist(), strict=True):
        if answer < 0:
            continue
        branch = text_branch(corpus, task, pick(rng, templates), record, int(answer))
        row = assemble(corpus, None, 0, 0, [branch], False, False, None)
        if record.get("row") is not None:
            row.source.append(int(record["row"]))
        yield row


def text_branch(corpus: Corpus, task: Task, template: str, record: dict[str, object], answer: int) -> Branch:
    """A question about a text; a long text loses its middle."""
    values = {
        k: shorten(corpus, str(v)) if k in ("text", "review") else str(v) for k, v in record.items() if v is not None
    }
    return Branch(
        question_tokens(template, values, {}, corpus.encode), 0, [(task.name, answer, 1.0, -1)], sees_user=False
    )


def shorten(corpus: Corpus, text: str) -> str:
    """The text, or its first and last words where it is longer than REVIEW_TOKENS tokens."""
    words = text.split(" ")
    if len(words) <= REVIEW_TOKENS // 2:
        return text
    while len(words) > 2 and len(corpus.encode(" ".join(words))) > REVIEW_TOKENS:
        keep = int(len(words) * 0.9) // 2
        words = words[:keep] + words[-keep:]
    return " ".join(words)
