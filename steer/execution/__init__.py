"""How is it run? Batches of trials, the journal they are written to, and the folder a run leaves behind."""
