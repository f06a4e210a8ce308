"""Jira over HTTP: sends requests, and returns fates and faults."""

from attachd.imports import without

# httpx loads its command of that name, and with it all of rich and pygments.
with without("httpx._main"):
    import httpx as httpx
