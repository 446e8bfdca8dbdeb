"""Comparisons: variants x seeds of one task, with every piece of work that two of them share done once."""
