"""A Jira for the demo and the tests, with a web page and faults on demand. Imports nothing of ours."""
