"""The colours of all pictures, chosen so that colour-blind readers can tell them apart."""

# Of heatmaps: even steps of lightness.
COLORMAP = "viridis"
# Of lines: blue, orange and grey.
ATTACK, NOISE, UNRELATED = "#0173b2", "#de8f05", "#949494"
