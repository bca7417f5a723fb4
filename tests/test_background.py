"""What chat frontends send, and whether the answers are what they parse. The requests are written down by hand from how
each frontend builds them (tests/frontend_requests.json)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import Server, serving

from genrec.serving.chat.background import RunSketch, answer_background, background_task
from genrec.serving.chat.messages import Message, read_input, read_messages
from genrec.serving.errors import ApiError

REQUESTS = json.loads(Path(__file__).with_name("frontend_requests.json").read_text())
TASKS = [r for r in REQUESTS if r["task"]]
CHATS = [r for r in REQUESTS if not r["task"]]
SKETCH = RunSketch(("red 2", "blue 3"), ("red", "blue"), ("recommend for user u001", "rank red 2, blue 3"))


def named(request: dict[str, Any]) -> str:
    return f"{request['frontend']} {request['task'] or 'chat'}"


def braces(text: str) -> Any:
    """As Open WebUI does it: from the first brace to the last."""
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


def parsed(how: str, text: str) -> None:
    """Parse an answer as its frontend does, and check that there is something for it to show."""
    if how in ("title", "prompt", "text"):
        assert isinstance(braces(text)[how], str)
        assert how == "text" or braces(text)[how]
    elif how in ("tags", "follow_ups", "queries", "tool_calls"):
        found = braces(text)[how]
        assert isinstance(found, list) and all(isinstance(v, str) and 0 < len(v) <= 400 for v in found)
        assert found or how in ("queries", "tool_calls")
        assert len(found) <= 5
    elif how == "language":
        assert set(json.loads(text)) >= {"language", "title"}
    elif how == "topic":
        assert set(json.loads(text)) == {"title"}
    elif how == "emoji":
        assert len(text) == 1 and ord(text) > 0x2000
    else:
        assert text.strip() and len(text.split()) <= 6 and "{" not in text


@pytest.fixture(scope="module")
def server(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    copy = tmp_path_factory.mktemp("served") / "toy"
    shutil.copytree(toy_run, copy)
    with serving(copy) as found:
        yield found


@pytest.mark.parametrize("request_", TASKS, ids=named)
def test_background_requests_are_recognised_and_answered_in_their_form(
    server: Server, request_: dict[str, Any]
) -> None:
    messages = read_messages(request_["body"]["messages"])
    header = request_["headers"].get("x_genrec_task")
    assert background_task(messages, header) == request_["task"]
    parsed(
        request_["parse"] if request_["parse"] not in ("topic",) else "plain",
        answer_background(request_["task"], messages, SKETCH),
    )
    found = server.get("/v1/chat/completions", body=request_["body"], **request_["headers"])
    parsed(request_["parse"], found["choices"][0]["message"]["content"])


@pytest.mark.parametrize("request_", CHATS, ids=named)
def test_chats_of_frontends_are_answered(server: Server, request_: dict[str, Any]) -> None:
    assert background_task(read_messages(request_["body"]["messages"])) is None
    status, text, _ = server.call("/v1/chat/completions", request_["body"], **request_["headers"])
    assert status == 200
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    said = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    assert said.count("**red") == 2
    assert text.rstrip().endswith("data: [DONE]")


def test_titles_and_tags_are_of_the_conversation(server: Server) -> None:
    answers = [(r["task"], answer_background(r["task"], read_messages(r["body"]["messages"]), SKETCH)) for r in TASKS]
    titles = [answer for task, answer in answers if "title" in task]
    assert json.loads(titles[0])["title"] == "Recommend some red items for"
    assert len(titles) > 5 and all("Recommend some red items" in title for title in titles)
    assert json.loads(dict(answers)["tags_generation"])["tags"] == ["red"]


def test_what_is_offered_to_be_said_next_is_answered(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "recommend 3 red items for user u001"}]}
    listed = server.get("/v1/chat/completions", body=body)["choices"][0]["message"]
    asked = (
        "### Task:\nSuggest 3-5 relevant follow-up questions.\n### Chat History:\n<chat_history>\n{}\n</chat_history>"
    )
    held = f"USER: recommend 3 red items for user u001\nASSISTANT: {listed['content']}"
    offered = braces(answer_background("follow_up_generation", [Message("user", asked.format(held))], SKETCH))
    for said in offered["follow_ups"]:
        messages = [*body["messages"], {"role": "assistant", "content": listed["content"]}]
        found = server.get("/v1/chat/completions", body={"messages": [*messages, {"role": "user", "content": said}]})
        assert found["choices"][0]["message"]["genrec"]["understood"]["user_id"] == "u001"
    small = [Message("user", asked.format("USER: hello\nASSISTANT: Hello!"))]
    assert braces(answer_background("follow_up_generation", small, SKETCH))["follow_ups"] == list(SKETCH.examples)


@pytest.mark.parametrize(
    "said",
    [
        "recommend a title for user 42",
        "### Task: recommend something horrible",
        "Generate a concise list of 3 red items",
        "what's 1 + 1?",
        "Hey how's it going?",
        "which tools are available?",
        "give me a title of 3-4 words",
        "Provide a list of titles",
    ],
)
def test_what_a_person_says_is_no_background_request(said: str) -> None:
    assert background_task([Message("user", said)]) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(anything)
def test_no_messages_break_the_reader(value: object) -> None:
    for read in (read_messages, read_input):
        try:
            found = read(value)
        except ApiError as error:
            assert error.status == 400 and error.param
        else:
            assert found and all(isinstance(m.role, str) and isinstance(m.text, str) for m in found)
