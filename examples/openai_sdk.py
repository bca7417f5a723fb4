"""Ask a server with OpenAI's SDK. Usage: genrec serve runs/ml, then python examples/openai_sdk.py [URL]"""

import sys

from openai import OpenAI

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
client = OpenAI(base_url=f"{url}/v1", api_key="none")
model = client.models.list().data[0].id
messages = [{"role": "user", "content": "recommend 3 items"}]
answer = client.chat.completions.create(model=model, messages=messages)
print(answer.choices[0].message.content)

messages += [{"role": "assistant", "content": answer.choices[0].message.content}, {"role": "user", "content": "more"}]
for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="")
print()
