"""Free text by the backbone as it was pretrained."""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from transformers import DynamicCache, TextStreamer

from ..model.backbone import Backbone
from ..turns import in_turns, pause

PENALTY = 1.1  # small models repeat themselves
READ = 1_024  # tokens of a chat at most: its oldest messages, and the beginning of a long one, are left out
AT_A_TIME = 64  # tokens that are read before others have their turn


class Handing(TextStreamer):
    """Hands out words as they are complete, and lets other jobs run after each token."""

    def __init__(self, tokenizer: Any, hand: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.hand, self.pieces = hand, list[str]()

    def put(self, value: Any) -> None:
        """Take a token."""
        super().put(value)
        pause()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Take a piece of text."""
        if text:
            self.pieces.append(text)
            self.hand(text)


class Talker:
    """Free text by a backbone, which reads the system message that chats begin with once."""

    def __init__(self, language: Backbone) -> None:
        self.model: Any = language.model
        self.tokenizer: Any = language.tokenizer
        self.openings: dict[str, tuple[list[int], DynamicCache]] = {}  # of the last system message

    def talk(self, messages: Sequence[Mapping[str, str]], most: int, hand: Callable[[str], None]) -> tuple[str, bool]:
        """The likeliest continuation of a chat, of at most `most` tokens, and whether it ended by itself. hand: called
        with each piece of text as it comes."""
        ids = self.ids(self.fitting(messages))
        start = torch.as_tensor([ids], device=self.model.device)
        streamer = Handing(self.tokenizer, hand)
        out = self.model.generate(
            start,
            attention_mask=torch.ones_like(start),
            cache=self.read_on(self.read_before(messages[0], ids), ids),
            max_new_tokens=most,
            do_sample=False,
            repetition_penalty=PENALTY,
            pad_token_id=self.tokenizer.eos_token_id,
            streamer=streamer,
        )
        ended = out.shape[1] - len(ids) < most or int(out[0, -1]) in ends(self.model, self.tokenizer)
        return "".join(streamer.pieces).strip(), ended

    def ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a chat, up to where its answer begins."""
        found: list[int] = self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False
        )
        return found

    def fitting(self, messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """The system message if there is one, and the last messages that are READ tokens together with it; the last of
        all is shortened where it alone is longer."""
        first = [m for m in messages[:1] if m["role"] == "system"]
        rest = list(messages[len(first) :])
        while len(rest) > 1 and len(self.ids([*first, *rest])) > READ:
            rest.pop(0)
        while (longer := len(self.ids([*first, *rest])) - READ) > 0:
            kept = self.tokenizer(rest[-1]["content"], add_special_tokens=False)["input_ids"][longer:]
            if not kept:
                break
            rest[-1] = {**rest[-1], "content": self.tokenizer.decode(kept)}
        return [*first, *rest]

    @torch.no_grad()
    def read_on(self, cache: DynamicCache | None, ids: Sequence[int]) -> DynamicCache:
        """What was read so far, and all tokens but the last one."""
        cache = DynamicCache(config=self.model.config) if cache is None else cache
        for part in in_turns(ids[cache.get_seq_length() : -1], AT_A_TIME):
            self.model(torch.as_tensor([part], device=self.model.device), cache=cache, use_cache=True)
        return cache

    @torch.no_grad()
    def read_before(self, first: Mapping[str, str], ids: Sequence[int]) -> DynamicCache | None:
        """A copy of what was read of a system message, to go on from; None where these tokens do not begin with it."""
        if first["role"] != "system":
            return None
        if first["content"] not in self.openings:
            one, other = (self.ids([first, {"role": "user", "content": text}]) for text in ("yes", "no"))
            opening = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]
            cache = DynamicCache(config=self.model.config)
            self.model(torch.as_tensor([opening], device=self.model.device), cache=cache, use_cache=True)
            self.openings = {first["content"]: (opening, cache)}
        opening, cache = self.openings[first["content"]]
        return copy.deepcopy(cache) if list(ids[: len(opening)]) == opening else None


def ends(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer."""
    given = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(given if isinstance(given, list) else [given])}
