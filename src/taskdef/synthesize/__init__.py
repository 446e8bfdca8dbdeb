"""Stage 2: pattern, initial samples, votes, duplicates and decontamination."""
