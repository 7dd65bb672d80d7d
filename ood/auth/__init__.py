"""Who is signed in, and how they showed it."""
