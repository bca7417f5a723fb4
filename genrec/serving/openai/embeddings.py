"""Embeddings: vectors of texts, in the space of the items."""

import asyncio
import base64
import json
import struct

from fastapi import APIRouter, Response

from ...recommender import Recommender
from ..deps import DisconnectedDep, ServiceDep
from ..errors import invalid
from .forms import EmbeddingsRequest
from .inputs import texts_of
from .models import check_model
from .options import whole_number

router = APIRouter(tags=["openai"])


@router.post("/embeddings", response_model=None)
async def create_embeddings(service: ServiceDep, disconnected: DisconnectedDep, body: EmbeddingsRequest) -> Response:
    """Vectors of texts, in the space of the items: an item's text points the way of the item."""
    check_model(service, body.model)
    encoding = body.encoding_format or "float"
    if encoding not in ("float", "base64"):
        raise invalid(f"encoding_format: float or base64 (given: {encoding!r})", "encoding_format")
    size = whole_number(body, ("dimensions",), 1)

    def work(recommender: Recommender) -> tuple[list[list[float]], int]:
        texts = texts_of(recommender, body.input, "input")
        for n, text in enumerate(texts):
            if not text.strip():
                raise invalid(f"input[{n}] is empty" if len(texts) > 1 else "input is empty", "input")
        vectors = recommender.embed_texts(texts)
        if size is not None and vectors and size != len(vectors[0]):
            raise invalid(f"dimensions: this model has {len(vectors[0])} (given: {size})", "dimensions")
        return vectors, recommender.count_tokens(*texts)

    vectors, tokens = await service.ask(work, disconnected)

    def encoded() -> bytes:
        data = []
        for n, vector in enumerate(vectors):
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            entry = {"object": "embedding", "index": n, "embedding": packed if encoding == "base64" else vector}
            data.append(json.dumps(entry))  # one by one, so that others have their turn
        rest = {"object": "list", "model": service.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        return f'{json.dumps(rest)[:-1]}, "data": [{", ".join(data)}]}}'.encode()

    return Response(await asyncio.to_thread(encoded), media_type="application/json")
