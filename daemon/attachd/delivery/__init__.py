"""From the journal to Jira and back: who is next, what to send, what became of it."""
