"""Free text by the backbone as it was pretrained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import TextStreamer

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


def talk(
    language: Backbone, messages: Sequence[Mapping[str, str]], most: int, hand: Callable[[str], None]
) -> tuple[str, bool]:
    """The likeliest continuation of a chat, of at most `most` tokens, and whether it ended by itself. hand: called with
    each piece of text as it comes."""
    tokenizer: Any = language.tokenizer
    ids = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False)
    start = torch.as_tensor([ids], device=language.model.device)
    streamer = Handing(tokenizer, hand)
    model: Any = language.model
    out = model.generate(
        start,
        attention_mask=torch.ones_like(start),
        max_new_tokens=most,
        do_sample=False,
        repetition_penalty=PENALTY,
        pad_token_id=tokenizer.eos_token_id,
        streamer=streamer,
    )
    return "".join(streamer.pieces).strip(), out.shape[1] - len(ids) < most or int(out[0, -1]) in ends(model, tokenizer)


def ends(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer."""
    given = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(given if isinstance(given, list) else [given])}
