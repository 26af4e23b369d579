"""What does steering cost? Contenders are timed in turn in one process; ratios are what counts."""
