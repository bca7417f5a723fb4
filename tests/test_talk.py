"""Free text by the real backbone: as transformers alone would say it, with what chats share read once."""

import pytest
import torch

from genrec.language.talk import AT_A_TIME, PENALTY, READ, Talker
from genrec.model.backbone import Backbone, load_language

SYSTEM = {"role": "system", "content": "You are a friendly assistant. Answer in one short sentence."}
QUESTIONS = ("hello, how are you?", "What is the capital of France?")


@pytest.fixture(scope="module")
def language() -> Backbone:
    found = load_language("smollm2-135m")
    found.model.to(torch.float32)  # so that tokens read in two parts are those read in one, to the last digit
    return found


def plain(language: Backbone, messages: list[dict[str, str]], most: int) -> str:
    """The answer of transformers' generate, from nothing."""
    chat = language.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    options = {"max_new_tokens": most, "do_sample": False, "repetition_penalty": PENALTY}
    out = language.model.generate(**chat, **options, pad_token_id=language.tokenizer.eos_token_id)
    text = language.tokenizer.decode(out[0, chat["input_ids"].shape[1] :], skip_special_tokens=True)
    return str(text).strip()


def test_chats_share_their_system_message(language: Backbone) -> None:
    talker, read = Talker(language), list[int]()
    hook = language.model.register_forward_pre_hook(
        lambda _, args, given: read.append((given.get("input_ids", *args)).shape[1]), with_kwargs=True
    )
    first, again, other = (
        talker.talk([SYSTEM, {"role": "user", "content": text}], 12, lambda _: None)
        for text in (QUESTIONS[0], QUESTIONS[0], QUESTIONS[1])
    )
    hook.remove()
    assert first == again != other and "Paris" in other[0]
    shared, *asked = [n for n in read if n > 1]
    assert len(asked) == 3 and shared > max(asked)
    for text, found in zip(QUESTIONS, (first, other), strict=True):
        assert found[0] == plain(language, [SYSTEM, {"role": "user", "content": text}], 12)


def test_a_chat_without_a_system_message(language: Backbone) -> None:
    messages = [{"role": "user", "content": QUESTIONS[1]}]
    pieces: list[str] = []
    text, ended = Talker(language).talk(messages, 40, pieces.append)
    assert "Paris" in text and ended and "".join(pieces).strip() == text
    assert text == plain(language, messages, 40)
    assert not Talker(language).talk(messages, 2, pieces.append)[1]


def test_a_long_chat_is_read_in_part(language: Backbone) -> None:
    read: list[int] = []
    hook = language.model.register_forward_pre_hook(
        lambda _, args, given: read.append((given.get("input_ids", *args)).shape[1]), with_kwargs=True
    )
    rare = {"role": "user", "content": "𓀀𝔘ꙮ" * 700}  # each is several tokens
    for messages in ([SYSTEM, rare, rare, rare], [rare], [SYSTEM, {"role": "user", "content": "hello " * 5_000}]):
        read.clear()
        assert Talker(language).talk(messages, 2, lambda _: None)[0] is not None
        assert sum(read) <= READ + len(Talker(language).ids([SYSTEM])) + 4 and max(read) <= AT_A_TIME
    hook.remove()
    kept = Talker(language).fitting(
        [SYSTEM, rare, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    )
    assert kept[0] == SYSTEM and kept[-1]["content"] == "y"
