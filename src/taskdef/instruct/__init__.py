"""The instructor: whatever writes keywords, pattern, samples, votes and rewrites."""
