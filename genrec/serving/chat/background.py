"""Requests of chat frontends behind the user's back (titles, tags, ...), answered in the form that each parses."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...files import read_yaml
from .messages import Message

FRONTENDS = Path(__file__).with_name("frontends.yaml")
TURN = re.compile(r"^[ \t]*(user|human|assistant|ai)\s*:\s*(.*)$", re.I | re.M)
RESPONSE = re.compile(r"^[ \t]*(?:\d+[.)]|-)\s*(.+)$", re.M)
FIRST_ITEM = re.compile(r"^[ \t]*(?:assistant:\s*)?1\. \*\*", re.I | re.M)  # the first item of a list
TITLE_WORDS = 5
FOLLOW_UP = 400  # characters of what may be said next, at most
TYPED = 400  # characters of a message that a person types, rather than a template
SCANNED = 50_000  # characters of a request: of its beginning, or of its end, whichever counts


@dataclass(frozen=True)
class RunSketch:
    """A run in short: some titles, values like genres, and questions that can be asked."""

    titles: tuple[str, ...]
    tags: tuple[str, ...]
    examples: tuple[str, ...]


@cache
def beginnings() -> tuple[tuple[re.Pattern[str], str], ...]:
    """How background requests begin, and the task of each; the first that matches counts."""
    return tuple((re.compile(entry["begins"], re.I), entry["task"]) for entry in read_yaml(FRONTENDS))


def background_task(messages: Sequence[Message], header: str | None = None) -> str | None:
    """Which background request this is; None for what a user says.

    header: the task as Open WebUI names it in a header, which counts first.
    """
    if header and any(header == task for _, task in beginnings()):
        return header
    texts = [m.text.lstrip() for m in messages if m.role in ("system", "user")]
    for text in dict.fromkeys(texts[:1] + texts[-1:]):
        for beginning, task in beginnings():
            if beginning.match(text):
                return task
    return None


def answer_background(task: str, messages: Sequence[Message], sketch: RunSketch) -> str:
    """The answer to a background request."""
    text = "\n".join(m.text for m in messages)[-SCANNED:]
    topic = first_words(messages)
    if task == "title_generation":
        return as_json({"title": title_of(topic)})
    if task == "plain_title":
        return title_of(topic)
    if task == "language_title":
        return as_json({"language": "English", "title": title_of(topic)})
    if task == "tags_generation":
        return as_json({"tags": tags_of(text, sketch)})
    if task == "follow_up_generation":
        return as_json({"follow_ups": follow_ups(text, sketch)})
    if task == "query_generation":
        return as_json({"queries": []})
    if task == "autocomplete_generation":
        return as_json({"text": completion(within(text, "text") or "", sketch)})
    if task == "image_prompt_generation":
        return as_json({"prompt": f"An illustration of {title_of(topic)}"})
    if task == "emoji_generation":
        return "🙂"
    if task == "function_calling":
        return as_json({"tool_calls": []})
    first = RESPONSE.search(text.partition("Responses from models:")[2])
    return first[1].strip() if first else topic


def as_json(value: object) -> str:
    """As JSON."""
    return json.dumps(value, ensure_ascii=False)


def first_words(messages: Sequence[Message]) -> str:
    """The first thing that the user said, in the conversation that a prompt embeds or in the messages themselves."""
    text = "\n".join(m.text for m in messages)[:SCANNED]
    for part in (conversation_in(text), text):
        for who, what in TURN.findall(part):
            if who.lower() in ("user", "human") and what.strip():
                return str(what).strip()
    users = [m.text for m in messages if m.role == "user" and m.text.strip()]
    return users[0].strip() if len(users) > 1 or (users and len(users[0]) < TYPED) else ""


def title_of(topic: str) -> str:
    """A few words for a conversation."""
    words = re.sub(r"[^\w\s'&:-]", " ", topic).split()
    if not words:
        return "Recommendations"
    text = " ".join(words[:TITLE_WORDS])
    return text[:1].upper() + text[1:]


def conversation_in(text: str) -> str:
    """The conversation that a prompt embeds, else the prompt."""
    history = within(text, "chat_history")
    return text if history is None else history


def within(text: str, tag: str) -> str | None:
    """The text of the last `<tag>`; None for none."""
    starts = [m.end() for m in re.finditer(f"<{tag}>", text, re.I)]
    end = re.compile(f"</{tag}>", re.I).search(text, starts[-1]) if starts else None
    return text[starts[-1] : end.start()] if end else None


def tags_of(text: str, sketch: RunSketch) -> list[str]:
    """Values of the catalogue that a conversation names, else what it is about in general."""
    conversation = conversation_in(text).casefold()
    tags = [t for t in sketch.tags if re.search(rf"\b{re.escape(t.casefold())}", conversation)]
    return tags[:3] or ["Recommendations"]


def follow_ups(text: str, sketch: RunSketch) -> list[str]:
    """The next things to say: about the list if there is one, else the questions that can be asked."""
    if not FIRST_ITEM.search(text):
        return [e[:FOLLOW_UP] for e in sketch.examples[:3]]
    conversation = conversation_in(text).casefold()
    tags = [t for t in sketch.tags if t.casefold() not in conversation][:2]
    return ["More", *(f"Only {t.lower()}"[:FOLLOW_UP] for t in tags), "Why the first one?"]


def completion(typed: str, sketch: RunSketch) -> str:
    """How a sentence that is being typed may go on."""
    start = typed.strip().casefold()
    if len(start) < 3:
        return ""
    return next((e[len(typed.strip()) :] for e in sketch.examples if e.casefold().startswith(start)), "")
