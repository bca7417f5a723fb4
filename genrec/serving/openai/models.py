"""The models that a client can choose: the run that is served."""

from typing import Any

from fastapi import APIRouter

from ..deps import PathId, ServiceDep
from ..errors import ApiError, invalid
from ..service import Service

router = APIRouter(tags=["openai"])


@router.get("/models")
async def list_models(service: ServiceDep) -> dict[str, Any]:
    """The models that answer: the run that is served."""
    return {"object": "list", "data": [model_entry(service)]}


@router.get("/models/{model}")
async def get_model(service: ServiceDep, model: PathId) -> dict[str, Any]:
    """One model."""
    check_model(service, model)
    return model_entry(service)


def model_entry(service: Service) -> dict[str, Any]:
    """The model as lists of models show it."""
    recommender = service.recommender
    meta = {"datasets": {d: recommender.tasks(d) for d in recommender.datasets}}
    return {
        "id": service.name,
        "object": "model",
        "created": service.started,
        "owned_by": "genrec",
        "name": service.name,
        "context_length": recommender.context_length,
        "meta": meta,
    }


def check_model(service: Service, model: object) -> None:
    """Raises ApiError 404 for a model that is not served, unless --any-model; none at all means the one that is."""
    if model is None or model == service.name:
        return
    if not isinstance(model, str):
        raise invalid(f"model: a text is needed, not {type(model).__name__}", "model", "invalid_type")
    if service.config.any_model:
        return
    raise ApiError(
        404, f"there is no model {model!r}; this server has {service.name!r}", param="model", code="model_not_found"
    )
