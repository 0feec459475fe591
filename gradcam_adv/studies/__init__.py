"""A study from its TOML file to its tables: stages as pure functions, and who runs them."""
