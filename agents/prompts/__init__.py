"""Prompts are files beside this module; `render` fills one in."""

from __future__ import annotations

from pathlib import Path


def render(name: str, **values: object) -> str:
    """Return the prompt file `name` with its variables filled in; a variable that is missing is an error."""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=False, autoescape=False)
    return environment.from_string((Path(__file__).parent / name).read_text(encoding="utf-8")).render(**values)
