"""The running process: threads, signals, locks, health, logs."""
