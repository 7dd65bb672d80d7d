"""Who is signed in, and the credentials that open their SSH connections."""
