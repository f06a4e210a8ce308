"""Every module's logger. structlog is loaded here and nowhere else, without what it would load in vain."""

from __future__ import annotations

from attachd.imports import without

# All of rich for a renderer, and asyncio for methods, that are never used.
with without("rich", empty=("asyncio",)):
    import structlog as structlog

get_logger = structlog.get_logger
