"""The File Manager: pages of directories and files, the editor, changes, copies and moves, uploads,
downloads and archives. `access` decides what a user may do in which directories."""
