"""A host is a machine seen as one user, with five verbs: run, start, files, terminal and dial."""
