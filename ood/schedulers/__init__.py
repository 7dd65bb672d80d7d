"""Schedulers: what runs jobs. One module each, and one monitor that all pages share."""
