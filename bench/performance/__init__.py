"""`docs/performance.md`: everything about speed, measured by one command in one session and written by it."""
