"""What chat frontends ask behind the user's back (titles, tags, ...), answered in the form that each parses."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .messages import Message

# How the requests begin, from the frontends' own templates. Users can edit some of these: a header names the task then.
HEADS = (
    (re.compile(r"### Task:\s*Generate a concise,? [^\n]{0,40}title", re.I), "title_generation"),
    (re.compile(r"### Task:\s*Generate 1-3 broad tags", re.I), "tags_generation"),
    (
        re.compile(r"### Task:\s*(Predict 3-5 useful messages|Suggest 3-5 relevant)", re.I),
        "follow_up_generation",
    ),
    (re.compile(r"### Task:\s*Analyze the chat history to determine the necessity", re.I), "query_generation"),
    (re.compile(r"### Task:\s*You are an autocompletion system", re.I), "autocomplete_generation"),
    (re.compile(r"### Task:\s*Generate a detailed prompt for a[nm]? image", re.I), "image_prompt_generation"),
    (re.compile(r"Your task is to reflect the speaker's likely facial expression", re.I), "emoji_generation"),
    (
        re.compile(r"You have been provided with a set of responses from various", re.I),
        "moa_response_generation",
    ),
    (re.compile(r"Available Tools: ", re.I), "function_calling"),
    (re.compile(r"Provide a concise, 5-word-or-less title for the conversation", re.I), "plain_title"),
    (re.compile(r"Analyze this conversation and provide:\s*1\. The detected language", re.I), "language_title"),
    (re.compile(r"You are a professional conversation summarizer\. Generate a concise title", re.I), "plain_title"),
    (re.compile(r"You are an assistant skilled in (conversation|summariz)", re.I), "plain_title"),
    (re.compile(r"Given the following[^\n]{0,20}please reply with a title for the chat", re.I), "plain_title"),
)
TASKS = {name for _, name in HEADS}
TURN = re.compile(r"^[ \t]*(user|human|assistant|ai)\s*:\s*(.*)$", re.I | re.M)
RESPONSE = re.compile(r"^[ \t]*(?:\d+[.)]|-)\s*(.+)$", re.M)
LISTED = re.compile(r"^[ \t]*(?:assistant:\s*)?1\. \*\*", re.I | re.M)  # the first item of a list
WORDS = 5  # of a title
MOST = 400  # characters of a follow-up
READ = 50_000  # characters of a request: of its beginning, or of its end, whichever counts


@dataclass(frozen=True)
class About:
    """What a run is about: some titles, values like genres, and questions that can be asked."""

    titles: tuple[str, ...]
    tags: tuple[str, ...]
    examples: tuple[str, ...]


def background_task(messages: Sequence[Message], header: str | None = None) -> str | None:
    """Which background request this is; None for what a user says.

    header: the task as Open WebUI names it in a header, which counts first.
    """
    if header and header in TASKS:
        return header
    texts = [m.text.lstrip() for m in messages if m.role in ("system", "user")]
    for text in dict.fromkeys(texts[:1] + texts[-1:]):
        for head, name in HEADS:
            if head.match(text):
                return name
    return None


def answer_background(task: str, messages: Sequence[Message], about: About) -> str:
    """The answer to a background request."""
    text = "\n".join(m.text for m in messages)[-READ:]
    said = said_by_user(messages)
    if task == "title_generation":
        return dumped({"title": title_of(said)})
    if task == "plain_title":
        return title_of(said)
    if task == "language_title":
        return dumped({"language": "English", "title": title_of(said)})
    if task == "tags_generation":
        return dumped({"tags": tags_of(text, about)})
    if task == "follow_up_generation":
        return dumped({"follow_ups": follow_ups(text, about)})
    if task == "query_generation":
        return dumped({"queries": []})
    if task == "autocomplete_generation":
        return dumped({"text": completion(within(text, "text") or "", about)})
    if task == "image_prompt_generation":
        return dumped({"prompt": f"An illustration of {title_of(said)}"})
    if task == "emoji_generation":
        return "🙂"
    if task == "function_calling":
        return dumped({"tool_calls": []})
    first = RESPONSE.search(text.partition("Responses from models:")[2])
    return first[1].strip() if first else said


def dumped(value: object) -> str:
    """As JSON."""
    return json.dumps(value, ensure_ascii=False)


def said_by_user(messages: Sequence[Message]) -> str:
    """The first thing that the user said, in the conversation that a prompt embeds or in the messages themselves."""
    text = "\n".join(m.text for m in messages)[:READ]
    for part in (said_of(text), text):
        for who, what in TURN.findall(part):
            if who.lower() in ("user", "human") and what.strip():
                return str(what).strip()
    users = [m.text for m in messages if m.role == "user" and m.text.strip()]
    return users[0].strip() if len(users) > 1 or (users and len(users[0]) < MOST) else ""


def title_of(said: str) -> str:
    """A few words for a conversation."""
    words = re.sub(r"[^\w\s'&:-]", " ", said).split()
    if not words:
        return "Recommendations"
    text = " ".join(words[:WORDS])
    return text[:1].upper() + text[1:]


def said_of(text: str) -> str:
    """The conversation that a prompt embeds, else the prompt."""
    found = within(text, "chat_history")
    return text if found is None else found


def within(text: str, tag: str) -> str | None:
    """What the last `<tag>` holds."""
    opened = [m.end() for m in re.finditer(f"<{tag}>", text, re.I)][-1:]
    closed = re.compile(f"</{tag}>", re.I).search(text, *opened)
    return text[opened[0] : closed.start()] if opened and closed else None


def tags_of(text: str, about: About) -> list[str]:
    """Values of the catalogue that a conversation names, else what it is about in general."""
    own = said_of(text).casefold()
    named = [t for t in about.tags if re.search(rf"\b{re.escape(t.casefold())}", own)]
    return named[:3] or ["Recommendations"]


def follow_ups(text: str, about: About) -> list[str]:
    """What may be said next: of the list where there is one, else what can be asked."""
    if not LISTED.search(text):
        return [e[:MOST] for e in about.examples[:3]]
    said = said_of(text).casefold()
    other = [t for t in about.tags if t.casefold() not in said][:2]
    return ["More", *(f"Only {t.lower()}"[:MOST] for t in other), "Why the first one?"]


def completion(typed: str, about: About) -> str:
    """How a sentence that is being typed may go on."""
    start = typed.strip().casefold()
    if len(start) < 3:
        return ""
    return next((e[len(typed.strip()) :] for e in about.examples if e.casefold().startswith(start)), "")
