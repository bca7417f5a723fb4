"""Free text by the backbone as it was pretrained."""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch
from transformers import DynamicCache, TextStreamer

from ..model.backbone import Backbone
from .scheduler import pause

PENALTY = 1.1  # small models repeat themselves


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
        ids = self.ids(messages)
        start = torch.as_tensor([ids], device=self.model.device)
        streamer = Handing(self.tokenizer, hand)
        out = self.model.generate(
            start,
            attention_mask=torch.ones_like(start),
            cache=self.read_before(messages[0], ids),
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
