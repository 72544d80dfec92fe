"""Ways to search, each a setting: `search=<name>`."""

from fna_lightning.searches.base import Search, SearchJob, SearchResult
from fna_lightning.searches.bilevel import Bilevel

__all__ = ["Bilevel", "Search", "SearchJob", "SearchResult"]
