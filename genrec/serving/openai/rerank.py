"""A rerank as Jina's clients ask for it."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from ...recommender import Recommender
from ..deps import ClientDep, ServiceDep
from ..errors import invalid
from ..ids import new_id
from .forms import RerankRequest
from .jobs import chat_request
from .models import check_model
from .options import whole_number

router = APIRouter(tags=["openai"])


@router.post("/rerank")
async def rerank(service: ServiceDep, client: ClientDep, body: RerankRequest) -> dict[str, Any]:
    """Order documents by how well they meet a query; a query that names a user, or `user`, gives the user's order."""
    check_model(service, body.model)
    if not isinstance(body.query, str) or not body.query.strip():
        raise invalid("query: a text is needed", "query", "missing_required_parameter")
    if not isinstance(body.documents, list) or not body.documents:
        raise invalid("documents: a list of texts is needed", "documents", "missing_required_parameter")
    service.check_lengths(body.documents)
    texts = [document_text(document, f"documents[{n}]") for n, document in enumerate(body.documents)]
    limit = whole_number(body, ("top_n",), 1) or len(texts)
    request, query = chat_request(client, body, []), body.query

    def work(recommender: Recommender) -> tuple[list[float], int, tuple[str, ...]]:
        user = service.reader.seen_by(request.caller.may_see).read(query).user_id or request.caller.user
        named = next((u for u in request.users if recommender.has_user(u)), next(iter(request.users), None))
        user = user or named
        request.caller.check(user, "query")
        warnings = recommender.unknown_users([] if user is None else user, show_users=not request.caller.bound)
        tokens = recommender.count_tokens(query, *texts)
        return recommender.relevance(query, texts, user), tokens, warnings

    scores, tokens, warnings = await service.ask(work, client.disconnected)
    order = sorted(range(len(texts)), key=lambda n: (-scores[n], n))[:limit]
    with_text = bool(getattr(body, "return_documents", False))
    results = [
        {"index": n, "relevance_score": scores[n]} | ({"document": {"text": texts[n]}} if with_text else {})
        for n in order
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    reply = {"id": new_id("rerank"), "object": "list", "model": service.name, "results": results, "usage": usage}
    return reply | ({"warnings": warnings} if warnings else {})


def document_text(document: object, field: str) -> str:
    """The text of a document; raises ApiError 400 naming `field`."""
    text = document.get("text") if isinstance(document, Mapping) else document
    if not isinstance(text, str):
        raise invalid(f"{field}: a text, or an object with one", field, "invalid_type")
    return text
