"""Words in, words out: one file per family of verbs."""
