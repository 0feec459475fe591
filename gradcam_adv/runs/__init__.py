"""Runs: tasks and their records, locks, and engines; nothing here knows a stage or a column."""
