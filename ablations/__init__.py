"""What the papers varied, as data: one declaration a file, at every scale (`ablations.scales`)."""
