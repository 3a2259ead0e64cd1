"""Words as the full-text index and the query parser see them: identifiers whole and split, and the stop words that queries leave out."""

from __future__ import annotations

import re

_STOP_WORDS = """a about after all also am an and any are as at be because been before being between both but by can could did do does doing done down
    during each either else etc few for from further get gets give given gives had has have having he her here hers him his how i if in into is it
    its itself just let like make me might more most must my no nor not now of off on once one only or other our out over own per please
    same shall she should so some such tell than that the their them then there these they this those through to too under until up us
    use used uses using very was we were what when where which while who whom whose why will with within without would you your"""

STOP_WORDS = frozenset(_STOP_WORDS.split())

_WORD = re.compile(r"\w+(?:[.+#-]\w+)*", re.UNICODE)
_TOKEN = re.compile(r"\w+", re.UNICODE)
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def tokens(text: str) -> list[str]:
    """Return the index's tokens of a text: runs of letters, digits and underscores, in lower case."""
    return [token.lower() for token in _TOKEN.findall(text)]


def split_identifier(token: str) -> list[str]:
    """Return the parts of an identifier in lower case: `make_block_ptr` → make, block, ptr; empty if it has only one part."""
    parts = [part.lower() for piece in token.split("_") for part in _CAMEL.findall(piece)]
    return parts if len(parts) > 1 else []


def identifier_parts(text: str) -> str:
    """Return the parts of all identifiers of a text as one string: the index's third column."""
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if len(token) <= 80 and ("_" in token or not (token.islower() or token.isdigit())):
            found += [part for part in split_identifier(token) if len(part) > 1]
    return " ".join(found)


def query_terms(query: str) -> list[str]:
    """Return the distinct terms of a query: identifiers whole and split, stop words left out unless nothing else remains."""
    terms: dict[str, None] = {}
    for token in _TOKEN.findall(query):
        terms[token.lower()] = None
        for part in split_identifier(token):
            if len(part) > 1:
                terms[part] = None
    kept = [term for term in terms if term not in STOP_WORDS and (len(term) > 1 or term.isdigit())]
    return kept or list(terms)


def looks_like_name(word: str) -> bool:
    """Return whether a word looks like a name rather than prose: an underscore, digits with letters, or capitals inside it."""
    has_digit = any(character.isdigit() for character in word)
    has_letter = any(character.isalpha() for character in word)
    inner_capital = any(character.isupper() for character in word[1:])
    return "_" in word.strip("_") or (has_digit and has_letter) or inner_capital


def words(text: str) -> list[str]:
    """Return the words of a text with inner dots, dashes and plus signs kept, as written."""
    return _WORD.findall(text)


def stem(term: str) -> str:
    """Return a term without its commonest English endings, for comparing words outside the index (which has a Porter stemmer of its own)."""
    for ending in ("ations", "ation", "ings", "ing", "ies", "ied", "es", "ed", "s", "e"):
        if term.endswith(ending) and len(term) - len(ending) >= 3:
            return term[: -len(ending)]
    return term
