"""What are features? Transcoders read from disk: which features fire on an MLP input, and what they write."""
