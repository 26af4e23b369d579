"""What does a run show? Tables become intervals, choices and verdicts; nothing here imports torch."""
