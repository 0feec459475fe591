"""What a run has to say, as tables, figures and one page; drawn from its files, never a model."""
