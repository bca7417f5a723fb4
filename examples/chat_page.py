"""A chat page of gradio for a server. Usage: genrec serve runs/ml, then python examples/chat_page.py [URL [MODEL]]"""

import sys

import gradio

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
model = sys.argv[2] if len(sys.argv) > 2 else "ml"
page = gradio.load_chat(f"{url}/v1/", model=model, token="none", streaming=True)

if __name__ == "__main__":
    page.launch()
