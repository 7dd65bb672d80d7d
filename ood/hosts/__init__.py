"""A host is a machine seen as one user, with four verbs: run, files, terminal, dial."""
