"""What Python's clients make of a server; runs in their environment. Usage: python_clients.py URL CLIENT."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

URL, MODEL = sys.argv[1], "toy"
SENTENCE = "recommend 3 items for user u001"
SCHEMA = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
        }
    },
    "required": ["items"],
}


def use_openai() -> object:
    import openai

    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    chat = [{"role": "user", "content": SENTENCE}]
    whole = client.chat.completions.create(model=MODEL, messages=chat)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model=MODEL, messages=chat, **options))
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    responses = list(client.responses.create(model=MODEL, input=SENTENCE, stream=True))
    form = {"type": "json_schema", "json_schema": {"name": "list", "schema": SCHEMA}}
    structured = client.chat.completions.create(model=MODEL, messages=chat, response_format=form)
    base64, floats = (
        client.embeddings.create(model=MODEL, input=["red 2", "blue 3"], **more).data[0].embedding
        for more in ({}, {"encoding_format": "float"})
    )
    try:
        client.chat.completions.create(model="other", messages=chat)
        error = None
    except openai.NotFoundError as found:
        error = [found.code, found.param, bool(found.request_id)]
    return {
        "models": [m.id for m in client.models.list()],
        "text": whole.choices[0].message.content,
        "streamed": streamed,
        "usage": [whole.usage.total_tokens, chunks[-1].usage.total_tokens],
        "completion": client.completions.create(model=MODEL, prompt=SENTENCE).choices[0].text,
        "response": client.responses.create(model=MODEL, input=SENTENCE).output_text,
        "streamed_response": responses[-1].response.output_text,
        "structured": json.loads(structured.choices[0].message.content),
        "embeddings_agree": max(abs(a - b) for a, b in zip(base64, floats, strict=True)),
        "error": error,
    }


def use_langchain() -> object:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    os.environ["TIKTOKEN_CACHE_DIR"] = tempfile.mkdtemp()
    chat = ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key="none", max_retries=0)
    structured = chat.with_structured_output({"title": "list", **SCHEMA}, method="json_schema")
    called = chat.with_structured_output({"title": "list", **SCHEMA}, method="function_calling")
    vectors = OpenAIEmbeddings(
        model=MODEL, base_url=f"{URL}/v1", api_key="none", check_embedding_ctx_length=False
    ).embed_documents(["red 2", "blue 3"])
    return {
        "text": chat.invoke(SENTENCE).content,
        "streamed": "".join(part.content for part in chat.stream(SENTENCE)),
        "structured": structured.invoke(SENTENCE),
        "called": called.invoke(SENTENCE),
        "vectors": len(vectors),
    }


def use_llama_index() -> object:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    plain = OpenAILike(model=MODEL, api_base=f"{URL}/v1", api_key="none")
    chat = OpenAILike(model=MODEL, api_base=f"{URL}/v1", api_key="none", is_chat_model=True)
    return {
        "text": plain.complete(SENTENCE).text,
        "chat": chat.chat([ChatMessage(role="user", content=SENTENCE)]).message.content,
        "streamed": "".join(part.delta for part in chat.stream_chat([ChatMessage(role="user", content=SENTENCE)])),
    }


def use_litellm() -> object:
    import litellm

    options = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": "none"}
    chat = [{"role": "user", "content": SENTENCE}]
    parts = litellm.completion(messages=chat, stream=True, **options)
    ranked = litellm.rerank(
        model=f"jina_ai/{MODEL}",
        query="red 4",
        documents=["red 4", "blue 3"],
        api_base=f"{URL}/v1/rerank",
        api_key="none",
    )
    health = [{"role": "user", "content": "What's 1 + 1?"}]
    return {
        "text": litellm.completion(messages=chat, **options).choices[0].message.content,
        "streamed": "".join(p.choices[0].delta.content or "" for p in parts),
        "health": litellm.completion(messages=health, max_tokens=5, **options).choices[0].message.content,
        "reranked": [r["index"] for r in ranked.results],
    }


def use_llm() -> object:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(
            f"- model_id: toy\n  model_name: {MODEL}\n  api_base: {URL}/v1\n  supports_schema: true\n"
        )
        environment = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": "none"}
        llm = [sys.executable, str(Path(sys.executable).with_name("llm"))]
        said = subprocess.run(
            [*llm, "-m", "toy", SENTENCE], env=environment, capture_output=True, text=True, check=True
        )
        schema = [*llm, "-m", "toy", "--schema", json.dumps(SCHEMA), SENTENCE]
        form = subprocess.run(schema, env=environment, capture_output=True, text=True, check=True)
        return {"text": said.stdout.strip(), "structured": json.loads(form.stdout)}


def use_gradio() -> object:
    import gradio
    from gradio_client import Client

    page = gradio.load_chat(f"{URL}/v1/", model=MODEL, token="none", streaming=True)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    try:
        said = {"text": SENTENCE, "files": []}
        return {"text": Client(address, verbose=False).predict(said, api_name="/open_api_stream")}
    finally:
        page.close()


def use_mcp() -> object:
    from mcp import Client, MCPError

    async def work() -> object:
        async with Client(f"{URL}/mcp") as client:
            tools = await client.list_tools()
            found = await client.call_tool("recommend", {"user_id": "u001", "n": 3})
            unknown = await client.call_tool("similar_items", {"item_id": "nothing"})
            item = await client.read_resource("item://002")
            try:
                missing = await client.read_resource("item://nothing")
            except MCPError as error:
                missing = error.message
            return {
                "tools": sorted(t.name for t in tools.tools),
                "items": json.loads(found.content[0].text)["items"],
                "error": [unknown.is_error, unknown.content[0].text],
                "item": json.loads(item.contents[0].text)["title"],
                "missing": missing,
            }

    return asyncio.run(work())


sys.stdout.write(json.dumps(globals()[f"use_{sys.argv[2]}"]()))
