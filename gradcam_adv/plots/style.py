"""The colours of all pictures, chosen so that colour-blind readers can tell them apart."""

# Of heatmaps: even steps of lightness.
COLORMAP = "viridis"
# Of lines: blue, orange and grey; and green and pink, of controls made of the attack's signs.
ATTACK, NOISE, UNRELATED = "#0173b2", "#de8f05", "#949494"
MIRRORED, OTHER_PHOTO = "#029e73", "#cc78bc"
