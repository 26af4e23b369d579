"""Which feature to edit? Found by contrast, by attribution, or by looking at where it fires."""
