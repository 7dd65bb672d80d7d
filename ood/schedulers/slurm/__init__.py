"""Slurm, through its commands: `scheduler` runs them, a module for each command parses its output,
and `reasons` and `refusals` explain its messages to users."""
