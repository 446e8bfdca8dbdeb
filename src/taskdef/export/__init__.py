"""What a run holds, written for other tools: training data, a data set, the model, the instructor's answers."""
