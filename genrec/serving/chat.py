"""Messages of a chat to an answer: the conversation is read from them, nothing is remembered between requests."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..ask.answer import Answer, Asker, can_ask, examples_of, recall, reply
from ..ask.conversation import Conversation
from ..ask.understand import Reader
from ..catalogue.titles import one_line
from ..errors import UnavailableError
from ..recommender import Recommender
from ..recommender.histories import NOT_READ
from .background import About, answer_background, background_task
from .callers import Caller
from .messages import Message

TURNS = 30  # earlier turns that are read
PLACE = re.compile(r"\s*\d+\.\s")
MARKED = re.compile(r"([\\`*_\[\]<>#|~])")
BEGUN = re.compile(r"^(\d*)([-+=.)])(?=\s|$|=)")  # what makes a list or a heading at the beginning of a line
TICKS = re.compile(r"`+")
SYSTEM = (
    "You are a friendly assistant for recommendations. Answer in one or two short sentences. "
    "Do not name films, products or other items; the recommender does that when it is asked for a list."
)
TALK_TOKENS = 120


@dataclass(frozen=True)
class Asked:
    """A chat as it was asked. task: what a header says of a frontend's background request; users: those named
    beside the messages, the likeliest first."""

    messages: tuple[Message, ...]
    caller: Caller
    task: str | None = None
    users: tuple[str, ...] = ()
    dataset: str | None = None


@dataclass(frozen=True)
class Said:
    """An answer in Markdown; content: the same as structure, for programs; ended: False where tokens ran out."""

    text: str
    content: dict[str, Any] = field(default_factory=dict)
    ended: bool = True


def chat(recommender: Recommender, reader: Reader, asked: Asked, most: int | None, hand: Callable[[str], None]) -> Said:
    """The answer to the last message. hand: called with pieces of the text as they come. In the model thread."""
    from ..turns import pause

    if asked.caller.bound:
        reader = reader.seen_by(asked.caller.may_see)
    if (task := background_task(asked.messages, asked.task)) is not None:
        return handed(Said(answer_background(task, asked.messages, about(recommender, reader, asked))), hand)
    turns, sentence = turns_of(asked.messages)
    asker = asker_of(recommender, asked)
    if not sentence:
        return handed(Said(can_ask(recommender, reader, reader.spoken(sentence), asker)), hand)
    dataset = asked.dataset if asked.dataset in recommender.datasets else None
    before = Conversation()
    for said, answered in turns[-TURNS:]:
        pause()
        before = recall(recommender, reader, said, listed_in(recommender, answered), before, dataset, asker.user)
    pause()
    found, _ = reply(recommender, reader, sentence, before, dataset, asker=asker)
    if small_talk(found):
        return talked(recommender, reader, asked, sentence, most, hand)
    found = with_reasons(recommender, found)
    return handed(Said(markdown(found), found.to_json()), hand)


def handed(said: Said, hand: Callable[[str], None]) -> Said:
    """Hand out an answer line by line."""
    for line in said.text.splitlines(keepends=True):
        hand(line)
    return said


def turns_of(messages: Sequence[Message]) -> tuple[list[tuple[str, str]], str]:
    """What was said and answered before, and what is said now."""
    turns: list[tuple[str, str]] = []
    said: str | None = None
    for message in messages:
        if message.role == "user" and message.text.strip():
            if said is not None:
                turns.append((said, ""))
            said = message.text.strip()
        elif message.role == "assistant" and said is not None:
            turns.append((said, message.text))
            said = None
    if said is None and turns:  # an answer that is to be gone on with
        said, _ = turns.pop()
    return turns, said or ""


def listed_in(recommender: Recommender, text: str) -> list[str]:
    """The items of an answer's list, as `markdown` writes it."""
    found = [coded_last(line) for line in text.splitlines() if PLACE.match(line)]
    return [i for i in found if any(recommender.has_item(i, name) for name in recommender.datasets)]


def user_of(recommender: Recommender, asked: Asked) -> str | None:
    """The user who asks, if the run knows one of the names given: the key's or the header's, then those beside the
    messages."""
    users = [asked.caller.user] if asked.caller.user is not None else []
    users += asked.users if not asked.caller.bound else []
    return next((u for u in users if any(recommender.has_user(u, d) for d in recommender.datasets)), None)


def asker_of(recommender: Recommender, asked: Asked) -> Asker:
    """Who asks, as the reader of sentences takes it."""
    return Asker(user_of(recommender, asked), asked.caller.may_see, asked.caller.bound)


def small_talk(found: Answer) -> bool:
    """Whether a sentence asks nothing of a recommender."""
    understood = found.understood
    named = any(understood.get(k) for k in ("user_id", "items", "conditions"))
    return found.task is None and not found.content and not named


def talked(
    recommender: Recommender,
    reader: Reader,
    asked: Asked,
    sentence: str,
    most: int | None,
    hand: Callable[[str], None],
) -> Said:
    """Small talk by the backbone, or what can be asked where it cannot talk."""
    messages = [{"role": "system", "content": SYSTEM}]
    for message in asked.messages[-6:]:
        if message.role in ("user", "assistant") and message.text.strip():
            messages.append({"role": message.role, "content": message.text[:2_000]})
    try:
        text, ended = recommender.talk(messages, min(most or TALK_TOKENS, TALK_TOKENS), hand)
    except UnavailableError:
        return handed(Said(can_ask(recommender, reader, reader.spoken(sentence), asker_of(recommender, asked))), hand)
    return Said(text, ended=ended or (most or TALK_TOKENS) >= TALK_TOKENS)


def about(recommender: Recommender, reader: Reader, asked: Asked) -> About:
    """What a run is about, for titles and tags of chats."""
    titles: list[str] = []
    tags: list[str] = []
    for name in recommender.datasets:
        items = recommender.catalogue(name).sort("train_count", descending=True, maintain_order=True).head(50)
        titles += [t for t in items["title"].to_list() if t][:5]
        for column in items.columns:
            if items.schema[column].is_nested():
                tags += [str(v) for v in items[column].explode().drop_nulls().unique(maintain_order=True).to_list()]
    examples = examples_of(recommender, reader, reader.spoken(""), asker_of(recommender, asked))
    return About(tuple(titles), tuple(dict.fromkeys(tags)), tuple(examples))


# --- Markdown -----------------------------------------------------------------------------------------------------


def with_reasons(recommender: Recommender, found: Answer) -> Answer:
    """An answer whose items say what of the user's history they are like, and what the catalogue says of them."""
    items = found.content.get("items")
    if not items or found.dataset is None:
        return found
    ids = [i["item_id"] for i in items]
    known = recommender.attributes(ids, found.dataset)
    reasons = reasons_of(recommender, found, ids)
    more = [
        {**item, "reason": reason, "metadata": known.get(item["item_id"], {})}
        for item, reason in zip(items, reasons, strict=True)
    ]
    return replace(found, content={**found.content, "items": more})


def markdown(found: Answer) -> str:
    """An answer for a chat window: a numbered list with reasons and item ids, else its text. How much of a history was
    read stays in the structure beside it."""
    items = found.content.get("items")
    if items is None or found.dataset is None:
        return "\n\n".join(escaped(line) for line in found.answer.splitlines())
    head = escaped(found.answer.splitlines()[0])
    lines = [line_of(item) for item in items]
    notes = [f"*{escaped(w)}*" for w in found.warnings if not w.endswith(NOT_READ)]
    return "\n\n".join(part for part in (head, "\n".join(lines), *notes) if part)


def line_of(item: Mapping[str, Any]) -> str:
    """`1. **Fargo** – like The Rock, rated 5 `100``."""
    reason = escaped(item["reason"])
    title = f"**{escaped(item['title'] or item['item_id'])}**"
    return f"{item['rank']}. {title}{f' – {reason}' if reason else ''} {code(item['item_id'])}"


def reasons_of(recommender: Recommender, found: Answer, items: Sequence[str]) -> list[str]:
    """For each item what it is like of that which the user favoured."""
    user = found.understood.get("user_id")
    if found.content.get("strategy") != "model" or user is None or not recommender.has_user(user, found.dataset):
        return [""] * len(items)
    history = recommender.favoured(user, found.dataset)
    ratings = dict(history.select("item_id", "rating").iter_rows())
    near = recommender.relatives(items, history["item_id"].to_list(), found.dataset)
    titles = recommender.titles([n or "" for n in near], found.dataset)
    reasons = []
    for own, title in zip(near, titles, strict=True):
        rated = f", rated {ratings[own]:g}" if own is not None and ratings.get(own) is not None else ""
        reasons.append(f"like {title or own}{rated}" if own is not None else "")
    return reasons


def escaped(text: str) -> str:
    """Text of the data that Markdown and HTML take for nothing else, on one line."""
    return BEGUN.sub(r"\1\\\2", MARKED.sub(r"\\\1", one_line(text)))


def code(text: str) -> str:
    """A text of the data as code, which shows it as it is: between more backticks than it has in a row."""
    text = one_line(text)
    fence = "`" * (1 + max(map(len, TICKS.findall(text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def coded_last(line: str) -> str:
    """What `code` shows at the end of a line; empty for none."""
    line = line.rstrip()
    rest = line.rstrip("`")
    fence = line[len(rest) :]
    text = rest.rpartition(fence)[2] if fence else ""
    return text[1:-1] if text[:1] == text[-1:] == " " else text
