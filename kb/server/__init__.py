"""Serving a knowledge base: tool functions for models, MCP, HTTP. Imported by whoever serves; the base itself needs none of it."""
