"""A chat: messages in, an answer in Markdown or in the form of a schema out."""
