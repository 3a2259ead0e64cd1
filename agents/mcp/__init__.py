"""The MCP server: the knowledge base, the tools and the search for a coding agent that people already use."""
