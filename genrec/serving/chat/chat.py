"""Messages of a chat to an answer.

Nothing is remembered between requests: the conversation is read anew from its messages, and the lists of earlier
answers from their Markdown, which is a wire format for that reason (`markdown.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...ask.answer import recall, reply
from ...ask.conversation import Conversation
from ...ask.reader import Reader
from ...ask.refusals import can_ask, examples_of
from ...ask.request import Answer, Asker
from ...errors import UnavailableError
from ...recommender import Recommender
from ..callers import Caller
from .background import RunSketch, answer_background, background_task
from .markdown import item_ids, markdown
from .messages import Message

TURNS = 30  # earlier turns that are read
SYSTEM = (
    "You are a friendly assistant for recommendations. Answer in one or two short sentences. "
    "Do not name films, products or other items; the recommender does that when it is asked for a list."
)
TALK_TOKENS = 120
TALK_MESSAGES = 6  # the latest, which small talk reads
TALK_CHARACTERS = 2_000  # of each


@dataclass(frozen=True)
class ChatRequest:
    """A chat as it was asked. task: the background task that a frontend names in a header; users: those named beside
    the messages, the likeliest first."""

    messages: tuple[Message, ...]
    caller: Caller
    task: str | None = None
    users: tuple[str, ...] = ()
    dataset: str | None = None


@dataclass(frozen=True)
class ChatReply:
    """An answer in Markdown; content: the same as structure, for programs; ended: False if tokens ran out."""

    text: str
    content: dict[str, Any] = field(default_factory=dict)
    ended: bool = True


@dataclass(frozen=True)
class Chat:
    """A chat under way: the run, a reader that sees what the caller may see, the request, and who asks; turns: the
    questions and answers before; sentence: the question to answer."""

    recommender: Recommender
    reader: Reader
    request: ChatRequest
    asker: Asker
    turns: Sequence[tuple[str, str]]
    sentence: str

    def help(self) -> str:
        """The questions that can be asked."""
        return can_ask(self.recommender, self.reader, self.reader.spoken(self.sentence), self.asker)


def chat(
    recommender: Recommender,
    reader: Reader,
    request: ChatRequest,
    max_tokens: int | None,
    on_text: Callable[[str], None],
) -> ChatReply:
    """The answer to the last message; in the model thread.

    max_tokens: of small talk; on_text: called with pieces of the text as they come.
    """
    if request.caller.bound:
        reader = reader.seen_by(request.caller.may_see)
    this = Chat(recommender, reader, request, asker_of(recommender, request), *turns_of(request.messages))
    if (task := background_task(request.messages, request.task)) is not None:
        return emit(ChatReply(answer_background(task, request.messages, run_sketch(this))), on_text)
    if not this.sentence:
        return emit(ChatReply(this.help()), on_text)
    answer = answer_of(this)
    if is_small_talk(answer):
        return small_talk(this, max_tokens, on_text)
    answer = with_reasons(recommender, answer)
    return emit(ChatReply(markdown(answer), answer.to_json()), on_text)


def emit(reply: ChatReply, on_text: Callable[[str], None]) -> ChatReply:
    """Give out a reply line by line."""
    for line in reply.text.splitlines(keepends=True):
        on_text(line)
    return reply


def answer_of(this: Chat) -> Answer:
    """The answer to the question, which may refer to the turns before it; other jobs have their turn in between."""
    from ...turns import pause

    recommender, reader = this.recommender, this.reader
    dataset = this.request.dataset if this.request.dataset in recommender.datasets else None
    conversation = Conversation()
    for question, text in this.turns[-TURNS:]:
        pause()
        items = listed_in(recommender, text)
        conversation = recall(recommender, reader, question, items, conversation, dataset, this.asker.user)
    pause()
    answer, _ = reply(recommender, reader, this.sentence, conversation, dataset, asker=this.asker)
    return answer


def turns_of(messages: Sequence[Message]) -> tuple[list[tuple[str, str]], str]:
    """The questions and answers before, and the question now."""
    turns: list[tuple[str, str]] = []
    question: str | None = None
    for message in messages:
        if message.role == "user" and message.text.strip():
            if question is not None:
                turns.append((question, ""))
            question = message.text.strip()
        elif message.role == "assistant" and question is not None:
            turns.append((question, message.text))
            question = None
    if question is None and turns:  # an answer that is to be gone on with
        question, _ = turns.pop()
    return turns, question or ""


def listed_in(recommender: Recommender, text: str) -> list[str]:
    """The items of the list in an answer."""
    return [i for i in item_ids(text) if any(recommender.has_item(i, name) for name in recommender.datasets)]


def asker_of(recommender: Recommender, request: ChatRequest) -> Asker:
    """Who asks, as the reader of sentences takes it: the first user that the run has of those named, the key's or the
    header's, then those beside the messages; if it has none of them, the first."""
    caller = request.caller
    names = [caller.user] if caller.user is not None else []
    names += request.users if not caller.bound else []
    known = (u for u in names if any(recommender.has_user(u, d) for d in recommender.datasets))
    user = next(known, names[0] if names else None)
    return Asker(user, caller.may_see, caller.bound)


def is_small_talk(answer: Answer) -> bool:
    """Whether a sentence asks nothing of a recommender."""
    has_names = any(answer.understood.get(k) for k in ("user_id", "items", "conditions"))
    return answer.task is None and not answer.content and not has_names


def small_talk(this: Chat, max_tokens: int | None, on_text: Callable[[str], None]) -> ChatReply:
    """An answer by the backbone, or the questions that can be asked if it cannot talk."""
    messages = [{"role": "system", "content": SYSTEM}]
    for message in this.request.messages[-TALK_MESSAGES:]:
        if message.role in ("user", "assistant") and message.text.strip():
            messages.append({"role": message.role, "content": message.text[:TALK_CHARACTERS]})
    limit = max_tokens or TALK_TOKENS
    try:
        text, ended = this.recommender.talk(messages, min(limit, TALK_TOKENS), on_text)
    except UnavailableError:
        return emit(ChatReply(this.help()), on_text)
    return ChatReply(text, ended=ended or limit >= TALK_TOKENS)


def run_sketch(this: Chat) -> RunSketch:
    """A run in short, for titles and tags of chats."""
    titles: list[str] = []
    tags: list[str] = []
    for name in this.recommender.datasets:
        items = this.recommender.catalogue(name).sort("train_count", descending=True, maintain_order=True).head(50)
        titles += [t for t in items["title"].to_list() if t][:5]
        for column in items.columns:
            if items.schema[column].is_nested():
                tags += [str(v) for v in items[column].explode().drop_nulls().unique(maintain_order=True).to_list()]
    examples = examples_of(this.recommender, this.reader, this.reader.spoken(""), this.asker)
    return RunSketch(tuple(titles), tuple(dict.fromkeys(tags)), tuple(examples))


def with_reasons(recommender: Recommender, answer: Answer) -> Answer:
    """An answer whose items say which of the user's history they are like, and what the catalogue says of them."""
    items = answer.content.get("items")
    if not items or answer.dataset is None:
        return answer
    ids = [i["item_id"] for i in items]
    attributes = recommender.attributes(ids, answer.dataset)
    items = [
        {**item, "reason": reason, "metadata": attributes.get(item["item_id"], {})}
        for item, reason in zip(items, reasons_of(recommender, answer, ids), strict=True)
    ]
    return replace(answer, content={**answer.content, "items": items})


def reasons_of(recommender: Recommender, answer: Answer, items: Sequence[str]) -> list[str]:
    """For each item the one that it is most like, of those which the user favoured; empty for none."""
    user = answer.understood.get("user_id")
    if answer.content.get("strategy") != "model" or user is None or not recommender.has_user(user, answer.dataset):
        return [""] * len(items)
    history = recommender.favoured(user, answer.dataset)
    ratings: Mapping[str, float | None] = dict(history.select("item_id", "rating").iter_rows())
    nearest = recommender.relatives(items, history["item_id"].to_list(), answer.dataset)
    titles = recommender.titles([n or "" for n in nearest], answer.dataset)
    reasons = []
    for near, title in zip(nearest, titles, strict=True):
        rating = ratings.get(near) if near is not None else None
        rated = f", rated {rating:g}" if rating is not None else ""
        reasons.append(f"like {title or near}{rated}" if near is not None else "")
    return reasons
