"""The stages of a study, one per file: each declares its inputs and its files."""
