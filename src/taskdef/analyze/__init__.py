"""What a run's data is like, beside a human data set where one is given; and how runs trained, side by side."""
