"""Predictions: calibrated outcomes of users and items, of users, or of texts."""

from fastapi import APIRouter

from ...recommender import Recommender
from ..deps import CallerDep, DisconnectedDep, ServiceDep
from ..errors import invalid
from .forms import Prediction, PredictionsReply, PredictionsRequest
from .lookup import events_frame

router = APIRouter(tags=["recommender"])


@router.post("/predictions")
async def predict(
    service: ServiceDep, caller: CallerDep, disconnected: DisconnectedDep, body: PredictionsRequest
) -> PredictionsReply:
    """Predict an outcome, with calibrated probabilities: rating, click, purchase, churn, sentiment, category."""
    texts = body.texts if body.texts is not None else [body.text] if body.text is not None else None
    items = body.items if body.items is not None else [body.item_id] if body.item_id is not None else None
    user = history = None
    if texts is None:
        user = caller.user_for(body.user_id, body.history is not None)
        if user is None and body.history is None:
            raise invalid("give user_id, history or text", "user_id", "missing_required_parameter")
        history = None if body.history is None else events_frame(body.history)
    service.check_lengths(body.history, items)

    def work(recommender: Recommender) -> PredictionsReply:
        outcomes = recommender.predict(
            body.task,
            users=user if history is None else None,
            history=history,
            items=items,
            texts=texts,
            dataset=body.dataset,
        )
        columns = ("user_id", "item_id", "text", "value", "probabilities")
        predictions = [Prediction(**{name: record[name] for name in columns}) for record in outcomes.records()]
        return PredictionsReply(
            model=service.name,
            dataset=outcomes.frame["dataset"][0],
            task=body.task,
            predictions=predictions,
            warnings=list(outcomes.warnings),
        )

    return await service.ask(work, disconnected)
