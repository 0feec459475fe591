"""The five networks with new heads: built, weighted, trained, saved and loaded."""
