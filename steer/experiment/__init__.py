"""What is to be run? Experiment files become plain data and a list of trials; nothing here imports torch."""
