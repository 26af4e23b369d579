"""What is read out? Numbers from logits, activations and completions, each a pure function."""
