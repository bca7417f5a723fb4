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
AT_A_TIME = 64  # tokens that are read before other jobs run


class CallbackStreamer(TextStreamer):
    """Calls `on_text` with each complete piece of text, and lets other jobs run after each token."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text, self.pieces = on_text, list[str]()

    def put(self, value: Any) -> None:
        """Take a token."""
        super().put(value)
        pause()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Take a piece of text."""
        if text:
            self.pieces.append(text)
            self.on_text(text)


class Talker:
    """Free text by a backbone, which reads the system message that chats begin with once."""

    def __init__(self, language: Backbone) -> None:
        self.model: Any = language.model
        self.tokenizer: Any = language.tokenizer
        self.openings: dict[str, tuple[list[int], DynamicCache]] = {}  # of the last system message

    def talk(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int, on_text: Callable[[str], None]
    ) -> tuple[str, bool]:
        """The likeliest continuation of a chat, of at most `max_tokens` tokens, and whether it ended by itself.

        on_text: called with each piece of text as it comes.
        """
        ids = self.ids(self.fitting(messages))
        start = torch.as_tensor([ids], device=self.model.device)
        streamer = CallbackStreamer(self.tokenizer, on_text)
        out = self.model.generate(
            start,
            attention_mask=torch.ones_like(start),
            cache=self.read_on(self.read_before(messages[0], ids), ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            repetition_penalty=PENALTY,
            pad_token_id=self.tokenizer.eos_token_id,
            streamer=streamer,
        )
        ended = out.shape[1] - len(ids) < max_tokens or int(out[0, -1]) in ends(self.model, self.tokenizer)
        return "".join(streamer.pieces).strip(), ended

    def ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a chat, up to where its answer begins."""
        tokens: list[int] = self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False
        )
        return tokens

    def fitting(self, messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """The system message if there is one, and the last messages that are READ tokens together with it; the last of
        all is shortened if it alone is longer."""
        first = [m for m in messages[:1] if m["role"] == "system"]
        rest = list(messages[len(first) :])
        while len(rest) > 1 and len(self.ids([*first, *rest])) > READ:
            rest.pop(0)
        while (longer := len(self.ids([*first, *rest])) - READ) > 0:
            tokens = self.tokenizer(rest[-1]["content"], add_special_tokens=False)["input_ids"][longer:]
            if not tokens:
                break
            rest[-1] = {**rest[-1], "content": self.tokenizer.decode(tokens)}
        return [*first, *rest]

    @torch.no_grad()
    def read_on(self, cache: DynamicCache | None, ids: Sequence[int]) -> DynamicCache:
        """The cache, extended by all tokens but the last one."""
        cache = DynamicCache(config=self.model.config) if cache is None else cache
        for part in in_turns(ids[cache.get_seq_length() : -1], AT_A_TIME):
            self.model(torch.as_tensor([part], device=self.model.device), cache=cache, use_cache=True)
        return cache

    @torch.no_grad()
    def read_before(self, first: Mapping[str, str], ids: Sequence[int]) -> DynamicCache | None:
        """A copy of the cache of a system message, to be extended; None if these tokens do not begin with it."""
        if first["role"] != "system":
            return None
        if first["content"] not in self.openings:
            with_yes, with_no = (self.ids([first, {"role": "user", "content": text}]) for text in ("yes", "no"))
            opening = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(with_yes, with_no, strict=False))]
            cache = DynamicCache(config=self.model.config)
            self.model(torch.as_tensor([opening], device=self.model.device), cache=cache, use_cache=True)
            self.openings = {first["content"]: (opening, cache)}
        opening, cache = self.openings[first["content"]]
        return copy.deepcopy(cache) if list(ids[: len(opening)]) == opening else None


def ends(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer."""
    end_ids = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(end_ids if isinstance(end_ids, list) else [end_ids])}
