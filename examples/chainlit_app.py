"""A Chainlit application on a server. Usage: genrec serve runs/ml, then chainlit run examples/chainlit_app.py"""

import os

import chainlit
from openai import AsyncOpenAI

client = AsyncOpenAI(base_url=os.environ.get("GENREC_URL", "http://127.0.0.1:8000") + "/v1", api_key="none")


@chainlit.on_message
async def answer(message: chainlit.Message) -> None:
    """Answer a message with all those before it."""
    said = chainlit.chat_context.to_openai()
    model = (await client.models.list()).data[0].id
    reply = chainlit.Message(content="")
    async for chunk in await client.chat.completions.create(model=model, messages=said, stream=True):
        await reply.stream_token(chunk.choices[0].delta.content or "")
    await reply.send()
