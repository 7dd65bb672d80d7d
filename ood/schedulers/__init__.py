"""Schedulers: Slurm and the local one behind one interface, and the job monitor that all pages
share."""
