"""The endpoints of the OpenAI API, and a rerank as Jina's."""
