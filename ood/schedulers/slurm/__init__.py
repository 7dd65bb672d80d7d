"""Slurm, through its commands: `scheduler` runs them. `squeue`, `sacct` and `sinfo`, which
also has `scontrol`, parse their output. `reasons` and `refusals` explain Slurm to users."""
