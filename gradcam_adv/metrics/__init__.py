"""What is measured on heatmaps and images."""
