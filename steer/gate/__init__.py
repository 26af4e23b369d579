"""May these features be believed on this model?"""
