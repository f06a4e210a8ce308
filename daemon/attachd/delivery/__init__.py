"""From the journal to Jira and back: which issue is next, what to send, what became of it."""
