"""How is it told? Plots and one self-contained page; nothing here imports torch or needs a script to be read."""
