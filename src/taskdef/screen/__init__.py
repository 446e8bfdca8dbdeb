"""Keeps duplicates out of the samples, and anything that overlaps the test set or the demos."""
