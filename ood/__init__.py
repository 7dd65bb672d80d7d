"""A lightweight Open OnDemand portal for safe havens.

Its packages and modules, from the top down. Each imports only from those below it:
web, cli, check, portal, proxy, shells, transfers, sessions, apps, schedulers, hosts, auth,
background, audit, quotas, config, appearance, yaml_files, quoting, errors, help_topics.
"""
