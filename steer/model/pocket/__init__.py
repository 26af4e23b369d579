"""Which model ships with the package: a small one, trained by our own code on a corpus our own code writes."""
