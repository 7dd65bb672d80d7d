"""Moving bytes to, from and between hosts: uploads, zip archives, and copies and moves."""
