"""The pretrained backbone without the adapter, loaded at its first use."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UnavailableError
from ..turns import beside, pause

if TYPE_CHECKING:
    from ..language.talk import Talker
    from ..model.backbone import Backbone


class Language:
    """The whole backbone without the adapter; load: loads it, None if there is none."""

    def __init__(self, load: "Callable[[], Backbone] | None", holds_conversations: bool) -> None:
        self._load = load
        self.can_talk = load is not None and holds_conversations
        self._backbone: Backbone | None = None
        self._loading = False
        self._made_talker: Talker | None = None

    @property
    def backbone(self) -> "Backbone":
        """The backbone, loaded once, however many jobs ask for it meanwhile."""
        assert self._load is not None
        while self._backbone is None:
            if self._loading:
                pause()
                continue
            self._loading = True
            try:
                self._backbone = beside(self._load)
            finally:
                self._loading = False
        return self._backbone

    @property
    def talker(self) -> "Talker":
        """The talker that answers messages; raises UnavailableError if the backbone was not pretrained to."""
        from ..language.talk import Talker

        if not self.can_talk:
            raise UnavailableError("this backbone was not pretrained to hold a conversation")
        backbone = self.backbone  # others may have made the talker meanwhile
        if self._made_talker is None:
            self._made_talker = Talker(backbone)
        return self._made_talker


def first_tokens(tokenizer: Any, text: str, limit: int) -> tuple[str, bool]:
    """The first tokens of a text, and whether any are left out."""
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = coded["offset_mapping"]
    return (text, False) if len(offsets) <= limit else (text[: offsets[limit - 1][1] if limit else 0], True)


def decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of token ids; raises DataError for one that the tokenizer does not have."""
    size = len(tokenizer)
    for token in tokens:
        if not 0 <= token < size:
            raise DataError(f"token {token}: the backbone has tokens 0 to {size - 1}")
    return str(tokenizer.decode(list(tokens)))
