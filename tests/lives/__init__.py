"""Lives of a busy share: people, a Jira with moods, and a driver that knows no more of the program than its README."""
