"""A lightweight Open OnDemand portal for safe havens.

Its packages and modules, from the top down. Each imports only from those below it:

- web: the pages
- check, doctor: commands that check a site's files, and its hosts as a user
- portal: one object that holds what the pages use
- proxy: the way to a session's service
- shells, transfers: shells in the browser; uploads, archives and copies
- sessions: launches, job cards and the job table
- apps: app definitions, their forms and templates
- schedulers: Slurm and the local scheduler, and the shared job monitor
- hosts: commands and files on hosts, as the user
- auth: sign-ins and SSH credentials
- background, audit, quotas: background questions, the audit log, and quotas
- config, appearance, yaml_files: the site's settings
- quoting, errors, help_topics: used by all of the above
"""
