"""A lightweight Open OnDemand portal for safe havens.

The rooms, from the top down (imports never point up):
web, sessions, apps, schedulers, hosts, auth, config, quoting, errors.
"""
