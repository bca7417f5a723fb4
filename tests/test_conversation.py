"""Conversations of any course: what is read from their messages is what was said, and what was said holds."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrec.ask.answer import reader_of, recall, reply
from genrec.ask.conversation import Conversation
from genrec.ask.understand import Reader
from genrec.recommender.recommender import Recommender
from genrec.serving.callers import Caller
from genrec.serving.chat.chat import ChatReply, ChatRequest, chat, listed_in, turns_of
from genrec.serving.chat.messages import Message

STARTS = (
    "top 3 for user u001",
    "4 red ones for user u002",
    "I loved red 2 and blue 3. What next?",
    "something like red 4",
)
FOLLOWS = (
    "more",
    "not blue",
    "I have seen the second one",
    "something older",
    "and for user u003?",
    "only 2",
    "not blue 5",
    "what would user u001 rate red 4?",
    "why the first one?",
    "hello there",
)
talks = st.tuples(st.sampled_from(STARTS), st.lists(st.sampled_from(FOLLOWS), max_size=6)).map(lambda t: [t[0], *t[1]])
some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def run(toy_run: Path) -> Recommender:
    return Recommender.load(toy_run)


@pytest.fixture(scope="module")
def reader(run: Recommender) -> Reader:
    return reader_of(run)


def answered(run: Recommender, reader: Reader, *messages: tuple[str, str]) -> ChatReply:
    """The server's answer to messages (role, text)."""
    request = ChatRequest(tuple(Message(role, text) for role, text in messages), Caller())
    return chat(run, reader, request, None, lambda _: None)


@given(talk=talks)
@some
def test_messages_tell_all_that_was_remembered(run: Recommender, reader: Reader, talk: list[str]) -> None:
    remembered, read = Conversation(), Conversation()
    messages: list[tuple[str, str]] = []
    for sentence in talk:
        messages.append(("user", sentence))
        said = answered(run, reader, *messages)
        messages.append(("assistant", said.text))
        found, remembered = reply(run, reader, sentence, remembered)
        read = recall(run, reader, sentence, listed_in(run, said.text), read)
        items = [i["item_id"] for i in found.content.get("items", ())]
        assert listed_in(run, said.text) == items  # the list in the text is the list
        assert (read.shown, read.listed, read.known) == (remembered.shown, remembered.listed, remembered.known)
    turns, last = turns_of([Message(*m) for m in messages[:-1]])
    assert [said for said, _ in turns] + [last] == talk


@given(talk=talks)
@some
def test_what_was_said_holds(run: Recommender, reader: Reader, talk: list[str]) -> None:
    conversation = Conversation()
    for sentence in talk:
        before = conversation
        found, conversation = reply(run, reader, sentence, before)
        items = [i["item_id"] for i in found.content.get("items", ())]
        request = conversation.request
        if not items or request is None:
            continue
        assert len(set(items)) == len(items)
        assert not set(items) & set(conversation.known)  # what the person knows never comes again
        assert not set(items) & {m.item_id for m in request.without}
        assert len(items) <= (request.k or 10)
        if sentence == "more":
            assert not set(items) & set(before.listed)
            first = len(before.listed) + 1
            assert [i["rank"] for i in found.content["items"]] == list(range(first, first + len(items)))
        if any(c.op == "!=" and c.value == "blue" for c in request.conditions):
            assert all(int(i) % 2 == 0 for i in items)  # even ones are red
