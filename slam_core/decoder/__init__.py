"""What a model is: families, shapes, attention, its likelihood, and where it starts from."""
