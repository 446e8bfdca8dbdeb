"""Reading answers, comparing them, voting on them: always isolated, always with a time limit."""
