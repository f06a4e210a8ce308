"""attachd: a folder is a Jira issue, and what is dropped into it is attached exactly once."""

from attachd.imports import without

__version__ = "0.1.0"

# structlog loads all of rich for a renderer, and asyncio for methods, that are never used.
with without("rich", empty=("asyncio",)):
    import structlog as structlog
