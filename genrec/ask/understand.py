"""A sentence to a Request: entities first, then which task. The simple form: ids, count, task word, quoted text."""

import re
from dataclasses import dataclass

TASK_WORDS = {
    "next_item": ("recommend", "suggest", "top", "next", "watch", "read", "try"),
    "rating": ("rate", "rating", "stars", "score"),
    "click": ("like", "click", "enjoy"),
    "purchase": ("buy", "purchase", "order"),
    "sentiment": ("sentiment", "positive", "negative", "review"),
    "churn": ("come back", "return", "be back", "churn", "leave"),
    "category": ("category", "kind of"),
}
USER = re.compile(r"\b(?:user|household|customer)\s+#?([\w.-]*\w)", re.IGNORECASE)
ITEM = re.compile(r"\bitem\s+#?([\w.-]*\w)", re.IGNORECASE)
COUNT = re.compile(r"\btop\s+(\d+)|\b(\d+)\s+(?:items|recommendations|films|movies|products|things)\b", re.IGNORECASE)
QUOTED = re.compile(r"[\"“](.+)[\"”]", re.DOTALL)
TITLED = re.compile(
    r"\b(?:rate|like|buy|purchase|order|enjoy|click(?: on)?)\s+(?!item\b)(.+?)\s*[?.!]*$", re.IGNORECASE
)


@dataclass(frozen=True)
class Request:
    """What a sentence asks. task is None where no task word was found."""

    task: str | None
    user_id: str | None = None
    items: tuple[str, ...] = ()
    title: str | None = None
    k: int = 10
    text: str | None = None

    def understood(self) -> dict[str, object]:
        """The reading as JSON values."""
        return {
            "user_id": self.user_id,
            "items": list(self.items),
            "title": self.title,
            "k": self.k,
            "text": self.text,
            "conditions": [],
        }


def understand(sentence: str) -> Request:
    """Read a sentence."""
    quoted = QUOTED.search(sentence)
    text = quoted[1] if quoted else None
    plain = QUOTED.sub(" ", sentence)
    user, item, count = USER.search(plain), ITEM.search(plain), COUNT.search(plain)
    lower = plain.lower()
    found = [task for task, words in TASK_WORDS.items() if any(re.search(rf"\b{w}", lower) for w in words)]
    order = (
        *(("sentiment", "category") if text is not None else ()),
        "purchase",
        "rating",
        "churn",
        "next_item",
        "click",
    )
    task = next((t for t in order if t in found), None)
    titled = TITLED.search(plain) if task in ("rating", "click", "purchase") else None
    return Request(
        task=task,
        user_id=user[1] if user else None,
        items=(item[1],) if item else (),
        title=titled[1] if titled and not item else None,
        k=int(next(g for g in count.groups() if g)) if count else 10,
        text=text,
    )
