"""attachd: a folder is a Jira issue, and what is dropped into it is attached exactly once."""

__version__ = "0.1.0"
