"""Does a feature cause what it is said to cause? Write a YAML file; get evidence."""
