"""Moves to done and failed: never overwrites, durable, resumable."""
