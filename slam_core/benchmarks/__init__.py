"""Released pair benchmarks, from their own layouts. Nothing here depends on the order of files."""
