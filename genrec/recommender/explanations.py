"""The items of a history that raise the scores of given items, measured by leaving them out."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..errors import DataError
from ..rows.arrays import shown_from
from ..turns import in_turns
from .given import no_history
from .histories import end_states, given_history, prompts_of, stored_history
from .replies import EXPLANATION_SCHEMA, Explanations
from .views import View, Views

AT_A_TIME = 200  # items, before others have their turn


def explanations_of(
    views: Views,
    items: Sequence[str],
    user: str | None,
    history: pl.DataFrame | None,
    reasons: int,
    dataset: str | None,
) -> Explanations:
    """Why items score as they do for a user or a history; see `Recommender.explain`."""
    if (user is None) == (history is None):
        raise DataError("give either a user or a history")
    view, warnings = views.place(user, next(iter(items), None), dataset)
    for item in items:
        view.catalogue.place(item)
    past = (
        stored_history(views, view, user)
        if user is not None
        else given_history(view, no_history() if history is None else history)
    )
    if not past.height:
        warnings += ("there is no history to explain anything by",)
    return Explanations(explain(views, view, user, past, items, reasons), warnings)


def explain(
    views: Views, view: View, user: str | None, history: pl.DataFrame, items: Sequence[str], reasons: int
) -> pl.DataFrame:
    """The `reasons` items of a history at most that raise each item's score most (see `Explanations`).

    A history of at most EVENTS_AT_ONCE items is left out item by item; of a longer one, stretches first and then the
    items of the stretches that count most.
    """
    from ..scoring.occlusion import occlusion

    catalogue = view.catalogue
    index = [catalogue.place(i) for i in items]
    recent = history[shown_from(history.height, views.adapter.manifest.max_events) :]
    older = prompts_of(views, view, [user or ""], [history[: history.height - recent.height]]).wanted(0)

    def scores_without(left_out: Sequence[Sequence[int]]) -> np.ndarray:
        frames = [recent[[n for n in range(recent.height) if n not in set(without)]] for without in left_out]
        prompts = prompts_of(views, view, [user or ""] * len(frames), frames)
        histories = [np.concatenate([older, prompts.wanted(n)]) for n in range(len(frames))]
        scores = views.scorer.item_scores(end_states(views, prompts), view.name, histories)
        return scores.double().cpu().numpy()[:, index]

    effects = occlusion(recent.height, scores_without)
    left_out = np.asarray(list(effects), dtype=np.int64)
    falls = np.stack(list(effects.values())) if effects else np.zeros((0, len(items)))
    rows = []
    for part in in_turns(range(len(items)), AT_A_TIME):
        for position in part:
            fall = falls[:, position]
            best = np.lexsort((-left_out, -fall))  # of equal ones the latest event
            for n in best[fall[best] > 0][:reasons].tolist():
                reason = recent["item_id"][int(left_out[n])]
                title = catalogue.titles[catalogue.index[reason]] if reason in catalogue.index else None
                rows.append((view.name, items[position], reason, title, float(fall[n])))
    return pl.DataFrame(rows, schema=EXPLANATION_SCHEMA, orient="row")
