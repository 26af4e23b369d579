"""What is changed: the six edits, where they act, and the hooks that write them."""
