"""A run as a service: OpenAI-compatible, REST, MCP and a web page."""
