"""Commands of the task: `recon VERB tagging`."""
