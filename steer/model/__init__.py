"""What does an experiment run on? A language model with hook points, its tokens, its decode loop."""
