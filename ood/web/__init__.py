"""The pages: one blueprint per family. They read requests, ask the rooms below, and render."""
