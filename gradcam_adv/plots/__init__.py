"""Pictures of heatmaps and of what was measured."""
