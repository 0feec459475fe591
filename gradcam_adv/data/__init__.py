"""From folders of photos to one table of them, each photo read, checked and aligned."""
