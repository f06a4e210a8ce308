"""Jira over HTTP, and nothing else: requests out, fates and faults back."""
