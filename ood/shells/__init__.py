"""Shells in the browser: terminals on hosts that outlive the pages that show them."""
