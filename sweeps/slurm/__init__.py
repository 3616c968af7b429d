"""A SLURM cluster as a place: jobs submitted with submitit, seen by their journals."""
