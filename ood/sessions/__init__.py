"""Sessions: one launch of one app each, with a job, a card and a job context directory."""
