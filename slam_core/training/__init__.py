"""Parts of the loop: steps, engines, processes, checkpoints, and what speeds them up."""
