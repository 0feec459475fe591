"""Any Keras classifier as one flat graph."""
