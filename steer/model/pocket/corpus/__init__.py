"""What does `pocket` read? One module per behaviour, put together by weights in `mixture.py`."""
