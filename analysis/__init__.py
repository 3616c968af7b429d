"""What the results mean: fitted laws with intervals, the literature beside them, figures."""
