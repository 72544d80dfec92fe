"""Errors a user can cause.

An entry point prints a `UserError` as one line and exits with 2; every message therefore names the
file or key, the value found and the mend.
"""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something in the user's files, settings or command line; the message is one line."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type or impossible together with another."""


class ArchitectureError(UserError):
    """A text or file that does not describe a network."""


class CheckpointError(UserError):
    """A weight file that is missing, unreadable or does not fit."""


class DataError(UserError):
    """A data set that is missing, broken or not in the announced format."""


class TrainingError(UserError):
    """Training that cannot go on, such as a loss that is not finite."""


def brief(said: object, length: int = 120) -> str:
    """What a library said of an error, on one line of so many characters, cut between words."""
    text = " ".join(str(said).split())
    if len(text) <= length:
        return text
    return f"{text[:length].rpartition(' ')[0] or text[:length]} ..."


def listed(words: Iterable[object], most: int = 8, between: str = ", ") -> str:
    """The first of some words, and how many more there are: a line is not to be filled by hundreds of names."""
    texts = [str(word) for word in words]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more
