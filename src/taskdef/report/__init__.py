"""The report: renders artifacts, computes nothing new."""
