"""Ways to search, each a setting: `search=<name>`."""

from fna_lightning.searches.base import Search, SearchJob, SearchResult
from fna_lightning.searches.bilevel import Bilevel
from fna_lightning.searches.evolution import Evolution

__all__ = ["Bilevel", "Evolution", "Search", "SearchJob", "SearchResult"]
