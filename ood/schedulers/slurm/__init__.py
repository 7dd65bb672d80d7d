"""Slurm, by its command line: a module for each command and the parser of its answer."""
